# SPDX-License-Identifier: LGPL-2.1-or-later
"""What probes aim at: a World is made on the host for one run of them, with secrets that are its alone, and is asked afterwards what has changed."""
import ctypes
import errno
import fcntl
import os
import pathlib
import resource
import secrets
import selectors
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time

import probes

libc = ctypes.CDLL(None, use_errno=True)
SYS = {"add_key": 248, "keyctl": 250, "ioprio_get": 252, "ioprio_set": 251} if os.uname().machine == "x86_64" else \
    {"add_key": 217, "keyctl": 219, "ioprio_get": 31, "ioprio_set": 30}
KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_LINK, KEYCTL_UNLINK, KEYCTL_SET_TIMEOUT = 1, 8, 9, 15
SESSION_KEYRING, USER_KEYRING = -3, -4
FS_IOC_GETFLAGS = 0x80086601
SECRET = "USBOX-SECRET-"
IPC_CREAT, IPC_RMID, SEM_GETVAL = 0o1000, 0, 12
GATEWAY = {"gateway": "10.0.2.2", "gateway6": "fd00::2", "resolver": "10.0.2.3"}  # a box's, where it has a network of its own
SIGNALS = {"signal_kill": "01", "signal_tgkill": "02", "signal_queue": "03", "signal_pidfd": "04", "signal_async": "05", "signal_all": "99"}


def stored(name, holds):
    return lambda path: path.name == name and holds(path)


def attribute(path, name):
    return os.getxattr(path, name) if name in os.listxattr(path) else None


# What a file system of the host's is not to get, neither in place nor in what a box has changed: probe → whether this path is it
STORED = {"overlay_redirect": stored("redirected", lambda path: attribute(path, "user.overlay.redirect")),
          "overlay_opaque": stored("opaque", lambda path: attribute(path, "user.overlay.opaque") == b"attack"),
          "device_null_made": stored("made-whiteout", lambda path: stat.S_ISCHR(path.lstat().st_mode)),
          "setuid_file": stored("made-setuid", lambda path: path.stat().st_mode & 0o4000),
          "setgid_file": stored("made-setgid", lambda path: path.stat().st_mode & 0o2000),
          "setuid_created": stored("created-setuid", lambda path: path.stat().st_mode & 0o4000)}


def checked(value, what):
    if value < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return value


def syscall(name, *args):
    return checked(libc.syscall(ctypes.c_long(SYS[name]), *args), name)


def io_priority_back():
    """The default to all that the user runs; it is refused while one of these is a program with rights of its own, as newuidmap(1) is for a moment."""
    for _ in range(500):
        try:
            return syscall("ioprio_set", 3, os.getuid(), 0)
        except PermissionError:
            time.sleep(0.01)
    return syscall("ioprio_set", 3, os.getuid(), 0)


def state_of(top):
    """All of a directory, two levels of it, that a change would show in."""
    found = {}
    for path in [top, *sorted(top.glob("*")), *sorted(top.glob("*/*"))]:
        st = path.lstat()
        text, flags = None, None
        if stat.S_ISREG(st.st_mode) and st.st_mode & stat.S_IRUSR:
            with open(path, "rb") as f:
                text = f.read(1 << 16)
                buffer = bytearray(8)
                try:
                    fcntl.ioctl(f, FS_IOC_GETFLAGS, buffer)
                    flags = bytes(buffer)
                except OSError:
                    pass
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
        found[str(path.relative_to(top))] = (st.st_mode, st.st_uid, st.st_nlink, st.st_size, st.st_mtime_ns, text, flags, attributes)
    return found


class Answers(threading.Thread):
    """Says a secret to everybody who connects to one of these sockets, or sends to it."""

    def __init__(self, sockets):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.wake, self.end = socket.socketpair()
        self.selector.register(self.end, selectors.EVENT_READ)
        for s, secret in sockets:
            self.selector.register(s, selectors.EVENT_READ, secret.encode())
        self.start()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.end:
                    return
                try:
                    if key.fileobj.type == socket.SOCK_DGRAM:
                        _, sender = key.fileobj.recvfrom(64)
                        key.fileobj.sendto(key.data, sender)
                    else:
                        with key.fileobj.accept()[0] as s:
                            s.sendall(key.data)
                except OSError:  # who asked is gone
                    pass

    def stop(self):
        self.wake.send(b"x")
        self.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.wake.close()
        self.selector.close()


class World:
    def __init__(self, work, home, program):
        self.program, self.cleanup, self.secrets = program, [], set()
        try:
            self.make_files(work, home)
            self.make_stdio()
            self.make_sockets()
            self.make_ipc()
            self.make_keys()
            self.make_victims()
        except BaseException:
            self.close()
            raise

    def secret(self):
        text = SECRET + secrets.token_hex(8)
        self.secrets.add(text)
        return text

    def directory(self, parent, prefix="usbox-attack-"):
        path = pathlib.Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        self.cleanup.append(lambda: remove_tree(path))
        return path

    def write(self, path, text, mode=0o600):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def make_files(self, work, home):
        self.top = self.directory(work)
        self.dir, self.outside = self.top / "work", self.top / "outside"
        self.runtime, self.data, self.config = self.top / "run", self.top / "data", self.top / "config"
        for path in (self.dir, self.outside, self.runtime, self.data, self.config):
            path.mkdir(mode=0o700)
        self.home = self.directory(home, ".usbox-attack-")
        self.places = {"home": self.home, "outside": self.outside, "runtime": self.runtime, "tmp": self.directory("/tmp"),
                       "vartmp": self.directory("/var/tmp"), "shm": self.directory("/dev/shm")}
        for place in self.places.values():
            self.write(place / "secret", self.secret())
        self.write(self.top / "above", self.secret(), 0o644)
        self.write(self.top / self.secret(), "", 0o644)
        if place := probes.own_place():
            self.make_place(self.directory(place))
        self.make_tools(home)
        shutil.copy(self.program, self.dir / "probe")
        (self.dir / "link-outside").symlink_to(self.outside / "secret")
        for name in probes.PROBES:
            if name.startswith("hidden_"):
                self.write(self.dir / "project" / ".ssh" / name, self.secret())
        for parent, name in (("moving", "hidden_move_parent"), ("exchanged-a", "hidden_exchange_parent"), ("merged", "hidden_merge"),
                             ("removed", "hidden_remove_merge")):
            self.write(self.dir / parent / "keys" / name, self.secret())
        self.hidden = [self.dir / parent / "keys" for parent in ("moving", "exchanged-a", "merged", "removed")]
        (self.dir / "exchanged-b").mkdir()
        self.before = {}
        for group in ("Writes to the host", "The server of the root"):
            for probe in probes.GROUPS[group]:
                canary = self.dir / "canary" / probe.name
                self.write(canary / "file", "the host's\n", 0o644)
                if probe.name == "race_copy":
                    for i in range(150):
                        self.write(canary / "many" / str(i), "the host's\n", 0o644)
        for path in (self.dir / "canary").iterdir():
            self.before[path.name] = state_of(path)

    def make_place(self, place):
        """What is private where others may look. Each is under names of its own, since some take it away."""
        place.chmod(0o755)
        self.places["place"] = place
        for name, mode in (("secret", 0o600), ("a/b/c/d/e/secret", 0o600), ("group", 0o640), ("closed/secret", 0o644), ("linked", 0o600), ("to-rename/renamed", 0o644),
                           ("mode", 0o600), ("merged/secret", 0o644)):
            self.write(place / name, self.secret(), mode)
        for name in ("closed", "to-rename", "merged"):
            (place / name).chmod(0o700)

    def make_tools(self, home):
        """Credentials of a toolchain that the home has not; or beside it, for those that are known by name, in one that it has."""
        tool = home / ".rye"
        if not tool.exists():
            tool.mkdir()
            self.cleanup.append(tool.rmdir)
        place = tool / "credentials"
        if not place.exists() or place.read_text(encoding="utf-8", errors="replace").startswith(SECRET):  # a World's that was killed
            self.write(place, self.secret())
            self.cleanup.append(place.unlink)
        self.tools = {"tool_place": place, "tool_name": self.write(self.directory(tool) / "registry" / ".netrc", self.secret())}

    def make_stdio(self):
        self.stdin = self.write(self.outside / "stdin", "the host's\n")
        self.old_log = self.secret() + "\n"
        self.stderr = self.write(self.outside / "stderr", self.old_log)
        self.leaked = [os.open(self.outside / "secret", os.O_RDONLY), os.open(self.outside, os.O_RDONLY | os.O_DIRECTORY)]
        pair = socket.socketpair()
        pair[1].send(self.secret().encode())
        self.leaked.append(os.dup(pair[0].fileno()))
        master, slave = os.openpty()
        os.set_blocking(master, False)
        self.master, self.tty = master, os.ttyname(slave)
        self.cleanup += [lambda: [os.close(fd) for fd in (*self.leaked, master, slave)], lambda: [s.close() for s in pair]]

    def listen(self, address, kind=socket.SOCK_STREAM, family=socket.AF_UNIX):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if isinstance(address, pathlib.Path):
            address.parent.mkdir(parents=True, exist_ok=True)
            address = str(address)
        s.bind(address)
        if kind != socket.SOCK_DGRAM:
            s.listen(16)
        self.sockets.append((s, self.secret()))
        return s

    def make_sockets(self):
        self.sockets = []
        unique = secrets.token_hex(6)
        tmp = self.places["tmp"]
        # Paths of sockets are short: below the working directory they are made by a shorter name of it.
        here = os.open(".", os.O_RDONLY)
        try:
            for place, names in ((self.dir, ["socket"]), (self.home, ["socket"]), (tmp, ["socket", "agent"]),
                                 (self.runtime, ["bus", "systemd/private", "gnupg/S.gpg-agent", "wayland-0"])):
                os.chdir(place)
                for name in names:
                    self.listen(pathlib.Path(name))
        finally:
            os.fchdir(here)
            os.close(here)
        x11 = pathlib.Path("/tmp/.X11-unix")
        if not x11.exists():
            x11.mkdir()
            x11.chmod(0o1777)
            self.cleanup.append(x11.rmdir)
        self.x11 = x11 / f"X{1000 + int(unique, 16) % 100000}"
        self.cleanup.append(lambda: self.x11.unlink(missing_ok=True))
        self.listen(self.x11)
        self.listen("\0" + str(self.x11))
        self.abstract = {name: f"usbox-attack-{unique}-{name}" for name in ("abstract", "abstract_packet", "abstract_datagram")}
        for (name, path), kind in zip(self.abstract.items(), (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)):
            self.listen("\0" + path, kind)
        self.ports = {"port": self.listen(("0.0.0.0", 0), family=socket.AF_INET).getsockname()[1],
                      "udp_port": self.listen(("0.0.0.0", 0), socket.SOCK_DGRAM, socket.AF_INET).getsockname()[1]}
        if probes.has_ipv6():
            self.ports["port6"] = self.listen(("::", 0), family=socket.AF_INET6).getsockname()[1]
            self.ports["udp_port6"] = self.listen(("::", 0), socket.SOCK_DGRAM, socket.AF_INET6).getsockname()[1]
        self.cleanup.append(Answers(self.sockets).stop)
        for place in (self.dir, tmp):
            os.mkfifo(place / "fifo", 0o600)
            fd = os.open(place / "fifo", os.O_RDWR | os.O_NONBLOCK)
            os.write(fd, self.secret().encode())
            self.cleanup.append(lambda fd=fd: os.close(fd))

    def make_ipc(self):
        self.ipc_key = secrets.randbelow(1 << 30) + 1
        libc.shmat.restype = ctypes.c_void_p
        self.shm = checked(libc.shmget(self.ipc_key, 4096, IPC_CREAT | 0o600), "shmget")
        self.cleanup.append(lambda: libc.shmctl(self.shm, IPC_RMID, None))
        at = libc.shmat(self.shm, None, 0)
        ctypes.memmove(at, self.secret().encode(), 29)
        libc.shmdt(ctypes.c_void_p(at))
        self.sem = checked(libc.semget(self.ipc_key, 1, IPC_CREAT | 0o600), "semget")
        self.cleanup.append(lambda: libc.semctl(self.sem, 0, IPC_RMID))
        self.queue = checked(libc.msgget(self.ipc_key, IPC_CREAT | 0o600), "msgget")
        self.cleanup.append(lambda: libc.msgctl(self.queue, IPC_RMID, None))
        message = ctypes.create_string_buffer((1).to_bytes(8, "little") + self.secret().encode())
        checked(libc.msgsnd(self.queue, message, 29, 0), "msgsnd")
        self.mqueue = f"/usbox-attack-{secrets.token_hex(6)}"
        name = self.mqueue.encode()
        fd = checked(libc.mq_open(name, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600, None), "mq_open")
        self.cleanup += [lambda: libc.mq_unlink(name), lambda: libc.mq_close(fd)]
        checked(libc.mq_send(fd, self.secret().encode(), 29, 0), "mq_send")

    def make_keys(self):
        """One key in a session keyring of our own, which what we start inherits, one in the user's."""
        self.key, self.key_id = f"usbox-attack-{secrets.token_hex(6)}".encode(), 0
        if not probes.has_keyrings():
            return
        syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)
        syscall("keyctl", KEYCTL_LINK, USER_KEYRING, SESSION_KEYRING)  # as a login has it
        for ring in (SESSION_KEYRING, USER_KEYRING):
            secret = self.secret().encode()
            key = syscall("add_key", b"user", self.key, secret, ctypes.c_size_t(len(secret)), ring)
            syscall("keyctl", KEYCTL_SET_TIMEOUT, key, 3600)
            self.cleanup.append(lambda key=key, ring=ring: syscall("keyctl", KEYCTL_UNLINK, key, ring))
            if ring == SESSION_KEYRING:
                self.key_id = key

    def make_victims(self):
        secret = self.secret()
        program = self.outside / "victim"
        program.write_bytes(self.program.read_bytes() + self.secret().encode())
        program.chmod(0o700)
        unlinked = os.open(self.write(self.outside / "unlinked", self.secret()), os.O_RDONLY)
        (self.outside / "unlinked").unlink()
        self.signals = self.outside / "signals"
        log = os.open(self.signals, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

        def descriptors():
            syscall("ioprio_set", 1, 0, 2 << 13 | 4)  # what it is else might be left from an earlier run
            os.dup2(os.dup(unlinked), 9)
            os.dup2(os.dup(log), 8)
        self.victim, answer = self.start_victim([program, "--victim", secret], pass_fds=(8, 9), preexec_fn=descriptors, cwd=self.outside,
                                                env={"ALSO": self.secret()})
        self.address, self.writable = answer[1:]
        os.close(unlinked)
        os.close(log)
        # One probe sets that of all that the user runs.
        self.cleanup.append(io_priority_back)
        self.start_victim([self.program, "--victim", "spaces " + self.secret()])

    def start_victim(self, argv, **kw):
        proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kw)
        self.cleanup.append(lambda: (proc.stdin.close(), proc.stdout.close(), proc.wait()))
        answer = proc.stdout.readline().decode().split()
        if len(answer) != 3:
            raise RuntimeError(f"the victim {argv[1:2]} did not start")
        return proc, answer

    def environment(self):
        """What the caller of a sandbox has in its environment."""
        return {"USBOX_ATTACK_SECRET": self.secret(), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime}/bus",
                "SSH_AUTH_SOCK": str(self.places["tmp"] / "agent"), "XDG_RUNTIME_DIR": str(self.runtime), "XDG_DATA_HOME": str(self.data),
                "XDG_CONFIG_HOME": str(self.config)}

    def targets(self, sandboxed, gateway=True):
        """--with arguments. Without a sandbox, something of the caller's own stands in for what is root's there."""
        values = {**{k: str(v) for k, v in self.places.items()}, **self.tools, **self.ports, "x11": self.x11, "ipc_key": self.ipc_key, "shm_id": self.shm,
                  **{name: "@" + path for name, path in self.abstract.items()}, "mqueue": self.mqueue, "key": self.key.decode(),
                  "key_id": self.key_id, "victim": self.victim.pid, "address": self.address, "writable": self.writable, "victim_fd": 9,
                  "tty": self.tty, "interrupts": "/proc/interrupts", "key_users": "/proc/key-users", "dmi": "/sys/class/dmi/id/sys_vendor",
                  "sysctl_net": "/proc/sys/net/ipv4/ip_forward", "sysctl_user": "/proc/sys/user/max_user_namespaces"}
        if address := probes.own_address():
            values["address4"] = address
        if handle := probes.handle_of(self.dir / "project" / ".ssh"):
            values["handle"] = handle
        if control := next(self.runtime.glob("usbox/*/control"), None):
            values["control"] = control
        there = {"sysctl_host_name": "/proc/sys/kernel/hostname", "sysrq": "/proc/sysrq-trigger", "core_pattern": "/proc/sys/kernel/core_pattern", "sysctl_kernel": "/proc/sys/kernel/panic",
                 "sys_write": "/sys/power/state", "kernel_log": "/proc/kmsg", "kcore": "/proc/kcore", "timer_list": "/proc/timer_list"}
        if sandboxed:
            values.update(there, cgroup="/sys/fs/cgroup", second_root="/.usbox-root", **(GATEWAY if gateway else {}))
        else:
            stand_in = self.write(self.outside / "stand-in" / "cgroup.procs", "something\n")
            for name in ("pids.max", "cgroup.kill", "cgroup.subtree_control", "release_agent"):
                self.write(stand_in.parent / name, "something\n")
            values.update({name: stand_in for name in there}, cgroup=stand_in.parent, gateway="127.0.0.1", gateway6="::1", resolver="127.0.0.1",
                          second_root="/")
        return [word for name, value in values.items() for word in ("--with", f"{name}={value}")]

    def changed(self, name):
        """Has the probe of this name changed what it was to change on the host?"""
        pid = self.victim.pid
        if name in self.before:
            path = self.dir / "canary" / name
            return not path.exists() or state_of(path) != self.before[name]
        if name in SIGNALS:
            return SIGNALS[name] in self.signals.read_text(encoding="ascii").split()
        if name == "tty_open_callers":
            try:
                return b"owned" in os.read(self.master, 4096)
            except BlockingIOError:
                return False
        if name in STORED:
            return any(STORED[name](pathlib.Path(root) / entry) for root, dirs, files in os.walk(self.top) for entry in dirs + files)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(int(self.writable, 0))
            written = memory.read(5)
        return {"stdin_reopen_write": lambda: self.stdin.read_text(encoding="utf-8") != "the host's\n",
                "stderr_reopen_truncate": lambda: not self.stderr.read_text(encoding="utf-8", errors="replace").startswith(self.old_log),
                "vm_write": lambda: written == b"owned",
                "slow_priority": lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19,
                "slow_affinity": lambda: os.sched_getaffinity(pid) == {0} != os.sched_getaffinity(0),
                "slow_io_of_user": lambda: syscall("ioprio_get", 1, pid) == 2 << 13 | 6,
                "limit_process": lambda: resource.prlimit(pid, resource.RLIMIT_MSGQUEUE) == (4711, 4711),
                "sem_set": lambda: libc.semctl(self.sem, 0, SEM_GETVAL) == 4711}[name]()

    def close(self):
        for step in reversed(self.cleanup):
            step()
        self.cleanup = []


def remove_tree(path):
    """rm -rf of what probes may have left: deeper than a path may be long, and closed directories."""
    for root, _dirs, _files in os.walk(path):
        try:
            os.chmod(root, 0o700)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EPERM, errno.ENAMETOOLONG):
                raise
    subprocess.run(["rm", "-rf", path], check=False)
