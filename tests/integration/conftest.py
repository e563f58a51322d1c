# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the integration tests. They run as an ordinary user, against the binary in $USBOX (./check sets it; the
default is build/src/usbox of the source tree)."""
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import time

import pytest

sys.path[:0] = [os.path.dirname(__file__), os.path.join(os.path.dirname(os.path.dirname(__file__)), "lib")]
import reaper  # noqa: E402 (tests/lib)
import sanitized  # noqa: E402 (tests/lib)
import timelimit  # noqa: E402 (tests/lib)
from pty_driver import Pty  # noqa: E402 (beside this file)

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("USBOX_BUILD", TOP / "build"))
USBOX = os.environ.get("USBOX", str(BUILD / "src" / "usbox"))
HOME = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir)
# Below the home, so that a box whose working directory it is sees it; /tmp is the box's own.
WORK = pathlib.Path(os.environ.get("USBOX_TEST_WORK", HOME / ".cache" / "usbox-check"))
SANITIZED = sanitized.sanitizer(BUILD / "fsoverlay" / "usbox-fs") != ""
# Of the launcher; helpers and what is in the box have no such variable (src/base/sanitized.c).
LEAKS = {"ASAN_OPTIONS": "detect_leaks=1"} if sanitized.sanitizer(USBOX) == "address" else {}
IN_VM = "USBOX_TEST_LIMITS" in os.environ
SLOW = 6 if SANITIZED or IN_VM else 1
VM_SLICE = 1
# How soon it has gone is measured elsewhere; somebody's hundreds of boxes that end at this moment hold the kernel's locks of mounts and namespaces.
LEFT_S = 30

# Under nohup(1) the programs that are tested would ignore it as well. Who has a handler of his own goes on, too, and hands down the default.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
# Which want more than usbox from where it was built, or ask nothing of a machine that others of the slice do not.
NOT_IN_VM = ("test_fuse_packages.py", "test_usbox_net_alone.py", "test_boxes.py", "test_detach.py", "test_doctor.py", "test_exec.py", "test_full_disk.py",
             "test_review_commit.py", "test_review_diff.py", "test_term.py", "test_usbox_fs_diff.py")
SOME_LIMITS = ("test_full_disk.py",)  # of these, whose tests of limits are for the machine


def cannot(what):
    """The only way to skip: something that this machine does not have."""
    pytest.skip(f"this machine cannot {what}")


def pytest_configure(config):
    config.pluginmanager.register(reaper)
    config.pluginmanager.register(sanitized)
    config.pluginmanager.register(timelimit)
    config.addinivalue_line("markers", "limits: wants cgroup v2 and a systemd for the user: run in the machine of tests/vm")
    config.addinivalue_line("markers", "vm_slice: also run in that machine (of slice's, one in some)")
    if os.getuid() == 0 and "USBOX_TEST_AS_ROOT" not in os.environ:
        pytest.exit("run the integration tests as an ordinary user (./check does)", 2)
    if not os.access(USBOX, os.X_OK):
        pytest.exit(f"no {USBOX}: build first, or set USBOX", 2)


# Not skipped but left to ./check's part vm, which has the machine for them.
ITS_OWN = ["test_limits.py", "test_pod_limits.py", "test_clock.py", "test_core_pattern.py", "test_helper_memory.py",
           "test_scope_signals.py"]
collect_ignore = [] if "USBOX_TEST_LIMITS" in os.environ else ITS_OWN


def pytest_ignore_collect(collection_path, config):
    """Where the machine's slice is all that is asked for, what has nothing for it is not even read: that takes the machine seconds."""
    name = collection_path.name
    return True if config.option.markexpr == "limits or vm_slice" and name in NOT_IN_VM and name not in SOME_LIMITS else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """A part of slice that differs in what it needs of a machine: from each file one test, with one set of parameters, and none that
    needs another machine."""
    seen = {}
    for item in items:
        name = item.originalname
        if not item.get_closest_marker("slice") or item.path.name in NOT_IN_VM or "peer" in item.fixturenames:
            continue
        there = seen.setdefault(item.path.name, set())
        if name not in there and len(there) < VM_SLICE:
            there.add(name)
            item.add_marker(pytest.mark.vm_slice)


class Result:
    """What a run gave: status (negative: died of that signal), and both streams, as bytes and text."""

    def __init__(self, rc, out, err):
        self.rc, self.stdout, self.stderr = rc, out, err
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def __repr__(self):
        return f"<rc={self.rc}\n--- stdout\n{self.out}--- stderr\n{self.err}---\n>"

    def ok(self):
        assert self.rc == 0, self
        return self

    def lines(self):
        return self.ok().out.splitlines()

    def json(self):
        return json.loads(self.ok().out)


def notes_stripped(err):
    """stderr without the note about what the box changed."""
    return "".join(line for line in err.splitlines(True) if "nothing of it is on the host" not in line)


def assert_refused(result, *words, hint=True):
    """Exit 125, one error line that has each of words (any case), and a hint: nothing else on stderr."""
    assert result.rc == 125, result
    lines = [x for x in result.err.splitlines() if x]
    assert lines and lines[0].startswith("usbox: "), result
    errors = [x for x in lines if x.startswith("usbox: ")]
    hints = [x for x in lines if x.startswith("hint: ")]
    assert len(errors) == 1 and len(lines) == 1 + len(hints) and len(hints) <= 1, result
    for word in words:
        assert word.lower() in result.err.lower(), (word, result)
    if hint:
        assert hints, result


def mount_table():
    """Those of its lines that a box can be to blame for; but for one that a unit test of usbox-fs, which may run beside us, has for a moment (test_mount_fusermount()).
    Who has no rights mounts by FUSE alone where others see it: what the machine itself mounts and unmounts meanwhile is none of ours. With rights it is all
    but named network namespaces, which no box makes: whoever removes such a name takes the mount from everybody."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    ours = {line for line in lines if " - fuse.usbox-fs name,x " not in line and " /run/netns/" not in line}
    return ours if os.getuid() == 0 else {line for line in ours if " - fuse" in line or "usbox" in line}


def own_processes():
    """pid → name and command line of all that descends from this pytest and lives: of its tests, and of them alone, since
    it adopts what its children leave behind (tests/lib/reaper.py). A zombie holds nothing any more, and does not count."""
    parents, found = {}, {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/stat", encoding="utf-8", errors="replace") as f:
                head, _, tail = f.read().rpartition(")")
            with open(f"/proc/{entry.name}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        state, parent = tail.split()[:2]
        parents[int(entry.name)] = int(parent)
        if state != "Z":
            found[int(entry.name)] = head.partition("(")[2] + " " + line

    def ours(pid):
        while pid := parents.get(pid, 0):
            if pid == os.getpid():
                return True
        return False
    return {pid: what for pid, what in found.items() if ours(pid)}


_subordinate = None


def subordinate_ids():
    global _subordinate
    if _subordinate is None:
        _subordinate = ()
        me = pwd.getpwuid(os.getuid())
        try:
            for line in open("/etc/subuid", encoding="utf-8"):
                who, first, count = line.strip().split(":")
                if who in (me.pw_name, str(me.pw_uid)):
                    _subordinate = range(int(first), int(first) + int(count))
        except (FileNotFoundError, ValueError):
            pass
    return _subordinate


def has_subids():
    return len(subordinate_ids()) >= 65536 and shutil.which("newuidmap") is not None


def snapshot(top):
    """Every entry below top: path → what would show a change."""
    found = {}
    for root, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(root, name)
            st = os.lstat(path)
            text = os.readlink(path) if os.path.islink(path) else None
            data = None
            if os.path.isfile(path) and not os.path.islink(path) and st.st_size < 1 << 20 and os.access(path, os.R_OK):
                with open(path, "rb") as f:
                    data = f.read()
            found[os.path.relpath(path, top)] = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, text, data)
    return found


class Started(subprocess.Popen):
    """Of a with statement that a test leaves by an exception: it is killed, not waited for. Nobody would tell its command to end any more."""

    def __exit__(self, exc_type, value, traceback):
        if exc_type:
            self.kill()
        super().__exit__(exc_type, value, traceback)


class Env:
    """One test's world: a working directory that boxes see, state and runtime directories of its own."""

    def __init__(self, top):
        self.top = top
        self.dir = top / "work"
        self.data, self.runtime, self.config = top / "data", top / "run", top / "config"
        for d in (self.dir, self.data, self.runtime, self.config):
            d.mkdir(parents=True, mode=0o700)
        self.libexec = top / "libexec"
        self.libexec.mkdir()
        for helper in BUILD.glob("*/usbox-*"):  # an installed tree has them side by side
            if helper.is_file() and not helper.is_symlink() and os.access(helper, os.X_OK):
                (self.libexec / helper.name).symlink_to(helper)
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(HOME), "USER": pwd.getpwuid(os.getuid()).pw_name,
            "LOGNAME": pwd.getpwuid(os.getuid()).pw_name, "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "xterm",
            "XDG_DATA_HOME": str(self.data), "XDG_RUNTIME_DIR": str(self.runtime), "XDG_CONFIG_HOME": str(self.config),
            "USBOX_LIBEXECDIR": str(self.libexec), "G_DEBUG": "fatal-criticals", **LEAKS}  # what GLib complains of is a fault of ours
        self.boxes = self.data / "usbox" / "boxes"
        self.probe_path = self.dir / "probe"
        self.options = []  # of every run of this test, before its own

    def traced(self):
        """The environment for a run that is traced already: leaks are looked for by ptrace(2)."""
        return {key: value for key, value in self.env.items() if key not in LEAKS}

    def with_options(self, argv):
        return [*argv[:1], *self.options, *argv[1:]] if argv and argv[0] == "run" else argv

    def popen(self, *argv, env=None, cwd=None, **kw):
        argv = self.with_options(argv)
        for stream in ("stdin", "stdout", "stderr"):
            kw.setdefault(stream, subprocess.DEVNULL if stream == "stdin" else subprocess.PIPE)
        return Started([USBOX, *map(os.fspath, argv)], env={**self.env, **(env or {})}, cwd=cwd or self.dir, **kw)

    def usbox(self, *argv, input=None, timeout=60, env=None, cwd=None, **kw):
        """Run usbox to its end; Result."""
        if input is not None:
            kw["stdin"] = subprocess.PIPE
        proc = self.popen(*argv, env=env, cwd=cwd, **kw)
        try:
            out, err = proc.communicate(input, timeout * SLOW)
        except subprocess.TimeoutExpired:
            proc.send_signal(signal.SIGABRT)
            proc.kill()
            out, err = proc.communicate()
            pytest.fail(f"usbox {argv} did not end in {timeout * SLOW} s: {Result(None, out or b'', err or b'')}")
        return Result(proc.returncode, out or b"", err or b"")

    def run(self, *argv, **kw):
        """`usbox run ARGV`."""
        return self.usbox("run", *argv, **kw)

    def sh(self, script, *options, **kw):
        """`usbox run --rm OPTIONS -- sh -c SCRIPT`."""
        return self.usbox("run", "--rm", *options, "--", "sh", "-c", script, **kw)

    def python(self, script, *options, **kw):
        """`usbox run --rm OPTIONS -- python3 -c SCRIPT`."""
        return self.usbox("run", "--rm", *options, "--", "/usr/bin/python3", "-c", script, **kw)

    def probe(self, *names, options=(), **kw):
        """Results of the hostile probes: name → "ok" or the errno's name."""
        if not self.probe_path.exists():
            shutil.copy(BUILD / "tests" / "attack" / "probe", self.probe_path)
        result = self.usbox("run", "--rm", *options, "--", self.probe_path, *(names or ["--calls"]), **kw)
        return dict(line.split(" ", 1) for line in result.lines())

    def pty(self, *argv, **kw):
        """usbox on a terminal of its own: a Pty."""
        return Pty([USBOX, *map(os.fspath, self.with_options(argv))], env={**self.env, **kw.pop("env", {})}, cwd=kw.pop("cwd", self.dir), **kw)

    def write(self, name, text="", mode=0o644, where=None):
        path = (where or self.dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def state(self):
        """What is in the state and runtime directories, for the leak checker: box directories and sockets."""
        found = set()
        for top in (self.data, self.runtime):
            for root, dirs, files in os.walk(top, onerror=None):
                found.update(os.path.relpath(os.path.join(root, n), self.top) for n in dirs + files)
        return found


def wait_until(condition, seconds=30.0, step=0.02):
    """The condition's first true value, or its last one. Whoever waits for what is to come waits no longer by a large limit."""
    end = time.monotonic() + seconds * SLOW
    while not (value := condition()):
        if time.monotonic() > end:
            return value
        time.sleep(step)
    return value


def remove_tree(path):
    """rm -rf of what boxes may have left, unreadable directories included."""
    for root, _dirs, _files in os.walk(path):
        try:
            os.chmod(root, 0o700)
        except PermissionError:
            pass
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def box(request, tmp_path_factory):
    """The test's Env. Afterwards nothing may be left: no process, mount, runtime file, and at most the kept changes."""
    top = WORK / "t" / f"{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**8:08d}"
    remove_tree(top)
    top.mkdir(parents=True)
    mounts = mount_table()
    before = own_processes()
    env = Env(top)
    yield env
    left = wait_until(lambda: not {p: c for p, c in own_processes().items() if p not in before}, LEFT_S) is True
    leaked = {} if left else {p: c for p, c in own_processes().items() if p not in before}
    faults = [f"process {p}: {c}" for p, c in leaked.items()]
    for pid in leaked:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    faults += [f"the mount table changed: {line}" for line in mount_table() ^ mounts]
    # What is there once for all boxes stays.
    faults += [f"in the runtime directory: {n}" for n in sorted(set(os.listdir(env.runtime / "usbox")) - {"last", "events", "events.1"})] \
        if (env.runtime / "usbox").is_dir() else []
    kept = getattr(env, "kept", 1)
    wait_until(lambda: not env.boxes.is_dir() or len(os.listdir(env.boxes)) <= kept, LEFT_S)
    boxes = sorted(os.listdir(env.boxes)) if env.boxes.is_dir() else []
    if len(boxes) > kept:
        faults.append(f"more boxes kept than the last unnamed one: {boxes}")
    remove_tree(top)
    if faults:
        pytest.fail("left behind:\n  " + "\n  ".join(faults))


@pytest.fixture
def no_kept(box):
    """For tests after which no box directory may be left at all."""
    box.kept = 0
    return box


@pytest.fixture(params=["fuse", "kernel"])
def both_overlays(request, box):
    """Every run of the test with either driver of the root, unless it names one itself."""
    box.options = [f"--overlay={request.param}"]
    return request.param


@pytest.fixture
def subids():
    if not has_subids():
        cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")


@pytest.fixture(scope="session")
def peer():
    address = os.environ.get("USBOX_TEST_PEER")
    if not address:
        cannot("make a second network namespace: no root (see ./check)")
    return address


@pytest.fixture(scope="session")
def peer6(peer):
    address = os.environ.get("USBOX_TEST_PEER6")
    if not address:
        cannot("speak IPv6")
    return address


@pytest.fixture
def home_file():
    """Make a file below the home; what was made goes again afterwards. What tests left that were killed may be there."""
    canary, made = "usbox canary\n", []

    def make(relative, text=canary, mode=0o600):
        path = HOME / relative
        if path.is_file() and path.stat().st_size < 100 and path.read_text(encoding="utf-8") in (canary, text):
            path.unlink()
        missing = [p for p in [path, *path.parents] if p != HOME and HOME in p.parents and not p.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), path
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        made.extend(missing)
        return path
    yield make
    for path in sorted(set(made), key=lambda p: len(p.parts), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
