# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of faults and tests/faults/long share: kinds of boxes, what each calls, one run with one fault, and what is said of it."""
import collections
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import termios
import threading

PAYLOAD_FAILED = (3, 126, 127)  # portrait could not make its file, or the kernel not load it
SIGPIPED = 128 + signal.SIGPIPE     # nobody reads what the payload writes
REMOVES = ("unlinkat", "unlink", "rmdir")
INJECT_LIMIT = 60   # seconds, after which a run hangs
STOP = float(os.environ.get("USBOX_FAULT_STOP", "2"))  # seconds for which processes of a box are stopped, as by a suspend
GRACE_MS = 10000    # after which nothing may be left; where all is well it takes a few ms, on a machine with other work more


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of box: how it is started, by a shell where that takes more than one command."""
    options: tuple = ()
    script: str = ""            # a shell's, which has the options and the payload as "$@"
    tried: str = ""             # a regex of the processes whose calls are tried
    keeps: bool = False         # a box with a name is there afterwards
    made_in: str = "overlay"    # where the file that the payload makes is afterwards: in the upper layer, or nowhere any more

    def command(self, usbox, payload):
        run = [usbox, "run", *self.options, "--", payload]
        return ["sh", "-c", self.script, "sh", usbox, *run[2:]] if self.script else run


DETACHED = """
u=$1; shift
id=$("$u" run -d "$@") || exit
rc=$("$u" wait $id) || exit
"$u" logs $id || exit
[ $rc != 125 ] || { "$u" inspect $id | grep -o '"error": *"[^"]*"' | sed 's/^/usbox: /' >&2; "$u" rm $id >/dev/null; }
exit $rc
"""
EXEC = """
u=$1; shift
options=; while [ "$1" != -- ]; do options="$options $1"; shift; done
"$u" run -d --rm --name x $options -- sleep 1000 >/dev/null || exit
"$u" exec x "$@"; rc=$?
"$u" rm -f x >/dev/null 2>&1 || "$u" rm -f x >/dev/null 2>&1
exit $rc
"""
POD = """
u=$1; shift
"$u" pod create %s p >/dev/null || exit
"$u" run --pod=p "$@"; rc=$?
"$u" pod rm -f p >/dev/null 2>&1 || "$u" pod rm -f p >/dev/null 2>&1
exit $rc
"""
AGAIN = """
u=$1; shift
"$u" run --name x "$1" -- sh -c 'echo first >first; mkdir dir; mv dir moved' || exit
"$u" run --name x "$@"
"""
MUCH = """
u=$1; shift
mkdir -p rw/.git/hooks secret && echo hook >rw/.git/hooks/pre-commit && echo key >secret/.env
"$u" run "$@"
"""
SECCOMP = pathlib.Path(__file__).resolve().parents[2] / "seccomp" / "default.json"
KINDS = {
    "default": Kind(),
    "bare": Kind(("--network=none", "--overlay=none"), made_in=""),
    "kernel": Kind(("--overlay=kernel", "--userns=self")),
    "fuse": Kind(("--userns=self",)),
    "root": Kind(("--user=root",)),
    "root-kernel": Kind(("--user=root", "--overlay=kernel")),
    "nested": Kind(("--nested", "--network=host")),
    "detach": Kind((), DETACHED),
    "detach-kernel": Kind(("--network=none", "--overlay=kernel"), DETACHED),
    "exec": Kind((), EXEC, made_in="elsewhere"),
    "exec-kernel": Kind(("--network=none", "--overlay=kernel"), EXEC, made_in="elsewhere"),
    "pod": Kind((), POD % ""),
    "pod-pids": Kind(("--overlay=kernel",), POD % "--share=pid --network=none"),
    "again": Kind(("--network=none",), AGAIN, tried=".*#", keeps=True),
    "much": Kind(("--disk=100M", "--hide=./secret/**/.env", "--rw=rw", "--publish=127.0.0.1:0:80", "--allow=192.0.2.1:443", "--net-log=net.log", "--trace-files=trace.log",
                  "--tmpfs=/scratch", f"--seccomp={SECCOMP}", "--hostname=elsewhere", "--time-offset=monotonic=100", "--pidfile=pid", "--timeout=100"), MUCH),
}
if "USBOX_TEST_LIMITS" in os.environ:  # in the machine of tests/vm, which has cgroups to give
    KINDS["limited"] = Kind(("--network=none", "--overlay=none", "--memory=200M"), tried="usbox-scope", made_in="")

# What a call is made to say: the kernel says so, or something like it, where it is short of something or forbids it.
ERRNOS = {
    "ENOMEM": "mmap mprotect brk mremap madvise munmap memfd_create ftruncate poll ppoll epoll_ctl close_range",
    "EMFILE": "openat open openat2 open_tree socket socketpair pipe2 dup dup2 dup3 fcntl eventfd2 epoll_create1 signalfd4 timerfd_create inotify_init1"
              " fsopen fsmount accept4 pidfd_open",
    "EAGAIN": "clone clone3 fork vfork",
    "ENOSPC": "write pwrite64 writev mkdirat mkdir renameat2 renameat rename symlinkat linkat mknodat fsetxattr setxattr",
    "EIO": "read pread64 readv getdents64 fsync fdatasync syncfs statx newfstatat fstat stat lstat readlinkat readlink close statfs fstatfs lseek access faccessat2",
    "ENOBUFS": "sendmsg sendto recvmsg recvfrom sendmmsg recvmmsg setsockopt getsockopt bind connect listen",
    "ECHILD": "wait4",
    "EINTR": "waitid",  # of a pidfd whose process nobody has waited for
    "ESRCH": "kill pidfd_send_signal tgkill",
}
BY_CALL = {call: errno for errno, calls in ERRNOS.items() for call in calls.split()}
OTHERWISE = "EPERM"
LASTING = ("usbox-init", "usbox-pause")
# These do not fail, or say of the C library's start alone, which is not usbox's.
LOG_IS_SHORT = re.compile(r"^usbox: (\d+ bytes of (the )?log could not be written|the rest of std(out|err) could not be read)", re.M)
NEVER = set("exit exit_group rt_sigreturn restart_syscall arch_prctl set_tid_address set_robust_list rseq getpid gettid getuid geteuid getgid getegid"
            " getppid umask futex sched_yield rt_sigaction rt_sigprocmask clock_gettime".split())


def errno_of(call):
    return BY_CALL.get(call, OTHERWISE)


@dataclasses.dataclass(frozen=True)
class Call:
    role: str
    name: str
    n: int
    place: str = dataclasses.field(default="", compare=False)  # of it in the program, where that was asked for

    def __str__(self):
        return f"{self.role}:{self.name}:{self.n}"


@dataclasses.dataclass
class Run:
    """One run under the injector."""
    rc: int
    out: str
    err: str
    calls: list
    lines: dict         # what else is in the log: first word → the rest of each line

    @property
    def names(self):
        return dict(line.split(" ", 1) for line in self.lines["name"])

    def states(self, names):
        """How confined which process is when the payload runs: those of helpers, and those of the box's own that stay. Others may have ended by then or not."""
        helpers, others = set(), set()
        for role, _, what in (line.partition(" ") for line in self.lines["state"]):
            program = re.split("[.~#]", role)[0]
            if program != "usbox":
                helpers.add(f"{program} {what}")
            elif names.get(role) in LASTING:
                others.add(what)
        return helpers, others


def normalised(text, world):
    """Without what is another in each box."""
    text = text.replace(str(world.top), "TOP")
    for pattern, new in ((r"boxes/[0-9a-f]+", "boxes/ID"), (r"USBOX_BOX=\w+", "USBOX_BOX=ID"), (r"usbox-[0-9a-f]{8,}", "usbox-ID"),
                         (r"\[\d+\]", "[N]"), (r"/proc/\d+", "/proc/N"), (r"(?m) /l\d+ ", " /lN "), (r"(?m)^(/proc/self/mountinfo: )\d+ \d+ \d+:\d+ ", r"\1"),
                         (r"(user|group)_id=\d+", r"\1_id=N"), (r"lowerdir=\S+", "lowerdir=L"), (r"devpts rw\S*", "devpts")):
        text = re.sub(pattern, new, text)
    return text


def run_on_terminal(argv, env, cwd):
    """As the foreground of a terminal of its own, which must be afterwards as it was, and whose output is as stderr."""
    master, slave = os.openpty()
    before, seen = termios.tcgetattr(slave), []

    def control():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    def read():
        try:
            while data := os.read(master, 65536):
                seen.append(data)
        except OSError:  # EIO: nobody has it open any more
            pass
    reader = threading.Thread(target=read)
    reader.start()
    status = subprocess.run(argv, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, preexec_fn=control, check=False).returncode
    after = termios.tcgetattr(slave)
    os.close(slave)
    reader.join()
    os.close(master)
    if after != before:
        seen.append(b"\nThe terminal is not as it was.\n")
    return subprocess.CompletedProcess(argv, status, b"", b"".join(seen).replace(b"\r\n", b"\n"))


class Bench:
    """Runs boxes of one world (Env of the integration tests) under the injector."""

    def __init__(self, world, usbox, inject, portrait):
        self.world, self.usbox, self.inject = world, usbox, inject
        self.portrait = world.top / "portrait" / "portrait"
        self.portrait.parent.mkdir()
        shutil.copy(portrait, self.portrait)
        world.dir = self.portrait.parent
        world.env = world.traced()

    def clean(self):
        """Forget what the run before has left, which judge() has looked at."""
        for top in (self.world.data, self.world.runtime, self.world.dir):
            for name in os.listdir(top):
                path = top / name
                if path == self.portrait:
                    continue
                if path.is_dir():
                    for root, dirs, _files in os.walk(path):
                        for d in dirs:
                            if not os.path.islink(os.path.join(root, d)):
                                os.chmod(os.path.join(root, d), 0o700)
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def run(self, command, *arguments, limit=INJECT_LIMIT, grace=GRACE_MS, on_terminal=False):
        with tempfile.NamedTemporaryFile("r", dir=self.world.top, prefix="log") as log:
            argv = [self.inject, "--log", log.name, "--limit", str(limit), "--grace", str(grace), *arguments, "--", *command]
            if on_terminal:
                proc = run_on_terminal(argv, env=self.world.env, cwd=self.world.dir)
            else:
                proc = subprocess.run(argv, env=self.world.env, cwd=self.world.dir, stdin=subprocess.DEVNULL, capture_output=True, timeout=4 * limit, check=False)
            lines = collections.defaultdict(list)
            for line in log:
                word, _, rest = line.rstrip("\n").partition(" ")
                lines[word].append(rest)
        calls = [Call(role, name, int(n), *place) for role, name, n, *place in (line.split() for line in lines.pop("call", []))]
        return Run(proc.returncode, proc.stdout.decode("utf-8", "replace"), proc.stderr.decode("utf-8", "replace"), calls, lines)

    def left(self, run, keeps=False):
        """What should not be there any more."""
        world = self.world
        found = [f"{why}: {line}" for why in ("left", "hang") for line in run.lines[why]]
        if (world.runtime / "usbox").is_dir():
            found += [f"in the runtime directory: {n}" for n in os.listdir(world.runtime / "usbox") if n not in ("last", "events", "events.1")]
        if world.boxes.is_dir():
            boxes = os.listdir(world.boxes)
            found += [f"in the state directory: {n}" for n in boxes if n.startswith(".")]
            # What the payload has changed is kept.
            if len(boxes) > (1 if keeps or run.out or run.rc == 0 or any(line.endswith(" portrait") for line in run.lines["exec"]) else 0):
                found.append(f"boxes: {boxes}")
        return found

    def made(self):
        """What the payload made, as it is in the upper layer of the one box that there is; None without one."""
        for top, _dirs, files in os.walk(self.world.boxes):
            if "made" in files and "/upper/" in top:
                with open(os.path.join(top, "made"), encoding="utf-8") as f:
                    return f.read()
        return None


def error_lines(err):
    """Without the note about what the box changed."""
    return [line for line in err.splitlines() if line.startswith("usbox: ") and "nothing of it is on the host" not in line]


def begun(all_calls):
    """Each call once, but for those that never fail, and for how the C library starts a static program, which ends with mprotect(2)."""
    calls, started = [], set()
    for call in dict.fromkeys(all_calls):
        if re.fullmatch(r"usbox(#\d+)?", call.role) and call.role not in started:
            if call.name == "mprotect":
                started.add(call.role)
        elif call.name not in NEVER:
            calls.append(call)
    return calls


class Judge:
    """Says of a run with a fault what is wrong with it, measured by one without."""

    def __init__(self, bench, kind, *options):
        self.bench, self.kind, self.options = bench, KINDS[kind], options
        self.command = self.kind.command(bench.usbox, os.fspath(bench.portrait))
        self.look_again()

    def look_again(self):
        bench = self.bench
        bench.clean()
        self.good = bench.run(self.command, *self.options)
        assert self.good.rc == 0 and not bench.left(self.good), (self.good.rc, self.good.err, bench.left(self.good))
        self.portrait = normalised(self.good.out, bench.world)
        self.states = self.good.states(self.good.names)

    def calls(self):
        """What may fail, in the order of the run."""
        return [call for call in begun(self.good.calls) if re.match(self.kind.tried, call.role)]

    def name(self, role):
        """The name that the process gave itself, if it did."""
        return self.good.names.get(role, role)

    def begins_main(self, call):
        """It comes after the first prctl(2) of its program: a helper's main() begins with one. Others are forks."""
        calls = self.good.calls
        if not re.fullmatch(r"usbox-(net-stack|fs|seccomp)(#\d+)?", call.role):
            return True
        return calls.index(call) > calls.index(Call(call.role, "prctl", 1))

    def try_fault(self, call, what):
        self.bench.clean()
        run = self.bench.run(self.command, "--fault", f"{call}:{what}")
        return run, (self.wrong(run, call) if run.lines["fault"] else None)

    def wrong(self, run, call):
        """Findings; none where all is well."""
        found, made, by_fs = self.bench.left(run, self.kind.keeps), self.bench.made(), call.role.startswith("usbox-fs")
        if found and call.name in REMOVES and not run.lines["left"] and not run.lines["hang"]:
            # What cannot be removed stays, but not beyond the next box.
            found = self.bench.left(self.bench.run([self.bench.usbox, "run", "--rm", "--network=none", "--overlay=none", "true"]))
        if (self.bench.world.dir / "made").exists() and self.kind.made_in:
            found.append("the host has the file that the box made")
        if run.rc == 0:
            # An error of usbox-fs is the payload's to see; a log that could not be written says so.
            found += self.differs(run, () if by_fs or LOG_IS_SHORT.search(run.err) else self.portrait.splitlines())
            if self.kind.made_in == "overlay" and made != "made\n" and not (by_fs and "made: made" not in run.out):
                found.append(f"the upper layer has not what the box made: {made!r}")
        elif run.rc == SIGPIPED and LOG_IS_SHORT.search(run.err):
            pass
        elif run.rc in PAYLOAD_FAILED and by_fs:
            if made not in (None, "", "made\n"):
                found.append(f"the upper layer has {made!r}")
        elif run.rc not in ((125, 126) if call.name.startswith("execve") else (125,)) or len(error_lines(run.err)) != 1:
            found.append(f"status {run.rc} and {len(error_lines(run.err))} error lines")
        return found

    def differs(self, run, ours):
        portrait = normalised(run.out, self.bench.world).splitlines() if ours else ()
        found = [f"the box has: {line}" for line in portrait if line not in ours] + [f"the box has not: {line}" for line in ours if line not in portrait]
        helpers, others = run.states(self.good.names)
        # A helper may do without its agent, and has fewer threads then; what there is has to be held as ever.
        found += [f"state: {line}" for line in helpers - self.states[0]]
        return found + [f"state: {line}" for line in others ^ self.states[1]]
