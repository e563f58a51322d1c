# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of usbox-fs's tests. They run as an ordinary user, against the server in $USBOX_FS (./check sets it; the default is
build/fsoverlay/usbox-fs of the source tree). What they ask for is asked of any overlay file system: USBOX_FS=/usr/bin/fuse-overlayfs runs them on that, and
USBOX_FS=kernel on overlayfs, inside of `unshare -Urm`; both fail some, which is what usbox-fs is for. USBOX_FS=plain makes a copy of the (one) lower
layer instead of a mount: what fails there, and does not look for the upper layer, is a wrong test."""
import ctypes
import errno
import json
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import sanitized  # noqa: E402 (tests/lib)

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("USBOX_BUILD", TOP / "build"))
SERVER = os.environ.get("USBOX_FS", str(BUILD / "fsoverlay" / "usbox-fs"))
OURS = os.path.basename(SERVER) == "usbox-fs"
IN_NAMESPACE = not pathlib.Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2] == "4294967295"
HOME = pathlib.Path(os.environ["HOME"] if IN_NAMESPACE else pwd.getpwuid(os.getuid()).pw_dir)
WORK = pathlib.Path(os.environ.get("USBOX_TEST_WORK", HOME / ".cache" / "usbox-check"))
SANITIZED = sanitized.sanitizer(SERVER) != ""
SLOW = 6 if SANITIZED else 1
PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)


# What takes hours is for tests/fs/long.
collect_ignore = [] if "USBOX_FS_LONG" in os.environ else ["test_long.py"]


def cannot(what):
    """The only way to skip: something that this machine does not have."""
    pytest.skip(f"this machine cannot {what}")


def pytest_configure(config):
    config.pluginmanager.register(sanitized)
    config.addinivalue_line("markers", "limit(seconds): after which a test hangs (60)")
    if os.getuid() == 0 and not IN_NAMESPACE and "USBOX_TEST_AS_ROOT" not in os.environ:
        pytest.exit("run these tests as an ordinary user (./check does)", 2)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o022)
    os.environ["G_DEBUG"] = "fatal-criticals"  # what GLib complains of is a fault of ours
    if SERVER not in ("kernel", "plain") and not os.access(SERVER, os.X_OK):
        pytest.exit(f"no {SERVER}: build first, or set USBOX_FS", 2)


def wait_until(condition, seconds=30.0, step=0.01):
    """The condition's first true value, or its last one."""
    end = time.monotonic() + seconds * SLOW
    while not (value := condition()):
        if time.monotonic() > end:
            return value
        time.sleep(step)
    return value


def used(fs):
    """Bytes of the limit, or of the file system, that are taken."""
    st = os.statvfs(fs.mnt)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def raises(number, function, *args, **kw):
    """function must fail with that errno."""
    with pytest.raises(OSError) as caught:
        function(*args, **kw)
    assert caught.value.errno == number, f"{errno.errorcode[caught.value.errno]} instead of {errno.errorcode[number]}"


def mounted(path):
    """Is something mounted there? From the table, since a dead server's mount fails every other question."""
    name = os.fsencode(path).replace(b"\\", b"\\134").replace(b" ", b"\\040")
    with open("/proc/self/mountinfo", "rb") as f:
        return any(line.split(b" ")[4] == name for line in f)


def descendants():
    """pid → command line of what descends from this pytest and lives."""
    parents, found = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                tail = pathlib.Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                line = pathlib.Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(tail[1])
            if tail[0] != "Z":
                found[int(entry.name)] = line

    def ours(pid):
        while pid := parents.get(pid, 0):
            if pid == os.getpid():
                return True
        return False
    return {pid: what for pid, what in found.items() if ours(pid)}


def reap():
    """Bury what descended on us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def remove_tree(path):
    """rm -rf, whatever the modes are."""
    for root, dirs, _files in os.walk(path):
        for name in dirs:
            where = os.path.join(root, name)
            if not os.path.islink(where):
                os.chmod(where, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def snapshot(top, times=True, contents=True):
    """Every entry below top: path → what would show a difference."""
    found = {}
    top = os.fsencode(top)
    for root, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(root, name)
            try:
                st = os.lstat(path)
            except PermissionError as e:
                found[os.path.relpath(path, top)] = [errno.errorcode[e.errno], None, None]
                continue
            what = [stat.filemode(st.st_mode), st.st_uid, st.st_gid]
            if times:
                what.append(st.st_mtime_ns)
            if not stat.S_ISDIR(st.st_mode):
                what.append(st.st_size)
            if stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(path))
            elif stat.S_ISREG(st.st_mode) and contents and os.access(path, os.R_OK):
                with open(path, "rb") as f:
                    what.append(f.read())
            if not stat.S_ISLNK(st.st_mode):
                try:
                    what.append({n: os.getxattr(path, n) for n in sorted(os.listxattr(path)) if not n.startswith("user.overlay.")})
                except PermissionError:
                    pass
            found[os.path.relpath(path, top)] = what
    return found


def assert_same(found, expected):
    """Two snapshots; says what differs and not all of both."""
    faults = [f"{n!r} should not be there" for n in found if n not in expected] + [f"{n!r} is missing" for n in expected if n not in found]
    for name in found:
        if name in expected and found[name] != expected[name]:
            pairs = [(f, e) for f, e in zip(found[name], expected[name]) if f != e]
            faults.append(f"{name!r}: {str(pairs)[:300]}")
    assert not faults, "\n".join(faults[:20])


class Overlay:
    """Layers, and where they are mounted. lower(0) is the topmost of the lower ones."""

    def __init__(self, top, lowers=1):
        self.top = top
        self.lowers = [top / f"lower{i}" for i in range(lowers)]
        self.upper, self.work, self.mnt, self.stats_file = top / "upper", top / "work", top / "mnt", top / "stats"
        for d in (*self.lowers, self.upper, self.work, self.mnt):
            d.mkdir(parents=True)
        self.server, self.log, self.options = None, None, ()

    @property
    def lower(self):
        return self.lowers[0]

    def write(self, name, data=b"", mode=0o644, where=None):
        """A file of the (topmost) lower layer."""
        path = pathlib.Path(where or self.lower, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(mode)
        return path

    def mount_options(self, *options, upper=True):
        layers = [f"lowerdir={':'.join(map(str, self.lowers))}"]
        if upper:
            layers += [f"upperdir={self.upper}", f"workdir={self.work}"]
        if OURS:
            layers.append(f"stats={self.stats_file}")
        return ",".join([*layers, *options])

    def mount(self, *options, upper=True, wrap=()):
        assert not mounted(self.mnt)
        self.options = (options, upper, wrap)
        if SERVER == "plain":
            if not os.listdir(self.mnt):
                subprocess.run(["cp", "-a", "-T", str(self.lower), str(self.mnt)], check=True)
            return self
        if SERVER == "kernel":
            extra = ",".join(["userxattr", *[o for o in options if "=" not in o]])
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", self.mount_options(extra, upper=upper), str(self.mnt)], check=True)
            return self
        with open(self.top / "server.log", "ab") as log:
            self.server = subprocess.Popen([*wrap, SERVER, "-f", "-o", self.mount_options(*options, upper=upper), str(self.mnt)],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: mounted(self.mnt) or self.server.poll() is not None)
        if self.server.poll() is not None or not mounted(self.mnt):
            self.kill()
            pytest.fail(f"{SERVER} did not mount: {self.messages()}")
        os.stat(self.mnt)
        return self

    def messages(self):
        try:
            return (self.top / "server.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        except OSError:
            return ""

    def umount(self):
        """A clean end; the server's exit status must be 0."""
        if SERVER == "plain":
            return
        if SERVER == "kernel":
            subprocess.run(["umount", str(self.mnt)], check=True)
            return
        command = ["umount", str(self.mnt)] if IN_NAMESPACE else ["fusermount3", "-u", str(self.mnt)]
        last = None

        def unmounted():
            nonlocal last
            last = subprocess.run(command, capture_output=True, text=True, check=False)
            return last.returncode == 0
        if not wait_until(unmounted, step=0.1):
            pytest.fail(f"cannot unmount: {last.stderr} {self.messages()}")
        # A mount namespace that somebody made meanwhile has a copy of the mount and keeps the server: it is told, then.
        for patience, number in ((8, signal.SIGTERM), (20, signal.SIGABRT)):
            try:
                rc = self.server.wait(patience * SLOW)
                break
            except subprocess.TimeoutExpired:
                self.server.send_signal(number)
        else:
            self.server.wait()
            pytest.fail(f"unmounted, but the server does not end: {self.messages()}")
        self.server = None
        assert rc == 0, f"the server ended with {rc}: {self.messages()}"

    def remount(self, *options):
        """Unmount and mount again, with the same options if none are given."""
        old, upper, wrap = self.options
        self.umount()
        return self.mount(*(options or old), upper=upper, wrap=wrap)

    def kill(self):
        """SIGKILL, and the dead mount away."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server = None
        if mounted(self.mnt):
            command = ["umount", "-l"] if IN_NAMESPACE else ["fusermount3", "-u", "-z"]
            subprocess.run([*command, str(self.mnt)], check=False, capture_output=True)

    def crash(self, *options):
        """Kill the server and mount again."""
        old, upper, wrap = self.options
        if SERVER in ("kernel", "plain"):
            self.umount()
        else:
            self.kill()
        return self.mount(*(options or old), upper=upper, wrap=wrap)

    def stats(self):
        """What the server has counted so far."""
        self.stats_file.unlink(missing_ok=True)
        self.server.send_signal(signal.SIGUSR1)

        def read():
            try:
                return json.loads(self.stats_file.read_text(encoding="ascii"))
            except (FileNotFoundError, json.JSONDecodeError):
                return None
        found = wait_until(read)
        assert found, f"no statistics on SIGUSR1: {self.messages()}"
        return found


@pytest.fixture
def make_overlay(request):
    """make_overlay(lowers=1) → Overlay. Afterwards all of them must unmount, nothing may live on, no lower may have changed."""
    base = WORK / "t" / f"fs-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**8:08d}"
    remove_tree(base)
    base.mkdir(parents=True)
    before = descendants()
    made = []

    def make(lowers=1):
        made.append(Overlay(base / str(len(made)), lowers))
        return made[-1]
    faults = []

    def too_long():
        # A call that waits for a server that hangs ends with the server, and no other way.
        for overlay in made:
            if overlay.server is not None:
                faults.append(f"hung: server {overlay.server.pid} aborted after {limit} s; {overlay.messages()}")
                overlay.server.send_signal(signal.SIGABRT)
    marker = request.node.get_closest_marker("limit")
    limit = (marker.args[0] if marker else 60) * SLOW
    watchdog = threading.Timer(min(limit, 1 << 22), too_long)
    watchdog.daemon = True
    watchdog.start()
    yield make
    watchdog.cancel()
    for overlay in made:
        try:
            if mounted(overlay.mnt):
                overlay.umount()
        except (AssertionError, pytest.fail.Exception, subprocess.CalledProcessError) as e:
            faults.append(str(e))
            if SERVER == "kernel":
                subprocess.run(["umount", "-l", str(overlay.mnt)], check=False)
        overlay.kill()
    reap()
    wait_until(lambda: set(descendants()) <= set(before), 20)
    for pid, line in descendants().items():
        if pid not in before:
            faults.append(f"process {pid}: {line}")
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    with open("/proc/self/mountinfo", "rb") as f:
        faults += [f"mount: {line!r}" for line in f if os.fsencode(base) in line]
    remove_tree(base)
    if faults:
        pytest.fail("left behind:\n  " + "\n  ".join(faults))


@pytest.fixture
def fs(make_overlay):
    """One Overlay with one lower layer, not mounted yet."""
    return make_overlay()


@pytest.fixture
def needs_ours():
    """For what has no counterpart elsewhere: usbox-fs's own options and forms."""
    if not OURS:
        pytest.fail("only usbox-fs can do this")


# System calls that os has not.

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE, FALLOC_ZERO, FALLOC_INSERT = 1, 2, 8, 16, 32


def _check(rc, what=None):
    if rc < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return rc


def renameat2(a, b, flags):
    _check(libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags), a)


def fallocate(fd, mode, offset, size):
    _check(libc.fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(size)))


def tmpfile(where, flags=0, mode=0o644):
    return os.open(where, os.O_TMPFILE | os.O_RDWR | flags, mode)


def link_fd(fd, path):
    """Give a name to an open file without one."""
    _check(libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(path), 0x400), path)


def whiteout(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


if str(pathlib.Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
