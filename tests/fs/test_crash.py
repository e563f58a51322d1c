# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL of the server at random moments, under load: the same upper mounts again, nothing half made shows, what was fsync'ed is there."""
import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import time

import pytest

from conftest import OURS, SERVER, SLOW, cannot, descendants, mounted, reap, wait_until

WORDS = 1 << 16  # of 8 bytes, in each big file
ROUNDS = 8
WORKERS = 3


class Worker:
    """A process that changes its own part of the mount and says, through a pipe, each thing that it was told to be done."""

    def __init__(self, fs, number, seed, started):
        self.number = number
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.reader)
                self.load(fs.mnt / f"w{number}", random.Random(seed), writer, started)
            except OSError as e:
                # The server's death, and nothing else.
                status = 0 if e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV) else 3
                if status:
                    os.write(writer, f"error {errno.errorcode.get(e.errno)} {e}\n".encode())
            finally:
                os._exit(status)
        os.close(writer)

    def load(self, top, rng, log, sequence):
        def done(*words):
            os.write(log, (" ".join(map(str, words)) + "\n").encode())
        while True:
            sequence += 1
            kind = rng.random()
            if kind < .35:  # a word of a big file
                i, k = rng.randrange(4), rng.randrange(WORDS)
                fd = os.open(top / f"big{i}", os.O_WRONLY)
                done("will", i, k, sequence)
                os.pwrite(fd, struct.pack("<II", i, sequence), k * 8)
                if rng.random() < .3:
                    os.fsync(fd)
                    done("synced", i, k, sequence)
                os.close(fd)
            elif kind < .6:  # a new file, whole by way of a rename
                data = struct.pack("<I", sequence) * rng.choice([1, 100, 5000, 30000])
                fd = os.open(top / "temporary", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.write(fd, data)
                os.fsync(fd)
                os.close(fd)
                done("will-name", sequence)
                os.rename(top / "temporary", top / f"new{sequence}")
                done("named", sequence, len(data))
            elif kind < .75:  # a lower file copied up by a change of its attributes
                i = rng.randrange(200)
                done("will-mode", i)
                os.chmod(top / f"few/f{i}", rng.choice([0o600, 0o640, 0o644]))
            elif kind < .85:  # a lower directory from one name to the other
                i = rng.randrange(8)
                done("will-move", i)
                names = [top / f"dir{i}", top / f"moved{i}"]
                if not names[0].exists():
                    names.reverse()
                os.rename(*names)
                done("moved", i, names[1].name)
            elif kind < .95:  # gone, and back as another
                i = rng.randrange(50)
                done("will-remove", i)
                try:
                    os.unlink(top / f"gone/g{i}")
                    done("removed", i)
                except FileNotFoundError:
                    with open(top / f"gone/g{i}", "wb") as f:
                        f.write(b"again")
                        f.flush()
                        os.fsync(f.fileno())
                    done("made", i)
            else:
                tree = top / f"tree{rng.randrange(3)}"
                shutil.rmtree(tree, ignore_errors=True)
                os.makedirs(tree / "a/b")
                (tree / "a/b/c").write_bytes(b"leaf")


class State:
    """What may be found after a crash, by what the worker was told."""

    def __init__(self):
        self.words = {}    # (i, k) → values that it may have
        self.named = {}    # sequence → size
        self.maybe = set()
        self.place = {i: {f"dir{i}"} for i in range(8)}
        self.gone = {i: {"lower"} for i in range(50)}

    def read(self, worker):
        pending = None
        with os.fdopen(worker.reader) as f:
            for line in f:
                what, *args = line.split()
                assert what != "error", line
                numbers = [int(x) for x in args if x.isdigit()]
                if what == "will":
                    self.words.setdefault((numbers[0], numbers[1]), {0}).add(numbers[2])
                elif what == "synced":
                    self.words[numbers[0], numbers[1]] = {numbers[2]}
                elif what == "named":
                    self.named[numbers[0]] = numbers[1]
                elif what == "moved":
                    self.place[numbers[0]] = {args[1]}
                elif what == "removed":
                    self.gone[numbers[0]] = {None}
                elif what == "made":
                    self.gone[numbers[0]] = {"again"}
                pending = (what, numbers)
        if pending is not None:
            what, numbers = pending
            if what == "will-name":
                self.maybe.add(numbers[0])
            elif what == "will-move":
                self.place[numbers[0]] = {f"dir{numbers[0]}", f"moved{numbers[0]}"}
            elif what == "will-remove":
                self.gone[numbers[0]] |= {None, "again", ""}

    def check(self, top, number):
        for i in range(4):
            data = (top / f"big{i}").read_bytes()
            assert len(data) == WORDS * 8, f"big{i} has {len(data)} bytes"
            for k, (tag, value) in enumerate(struct.iter_unpack("<II", data)):
                if tag != i or value != 0 or (i, k) in self.words:
                    assert tag == i and value in self.words.get((i, k), {0}), f"big{i}, word {k}: {tag} {value}, not one of {self.words.get((i, k))}"
                    if (i, k) in self.words:
                        self.words[i, k] = {value}
        for sequence, size in self.named.items():
            assert (top / f"new{sequence}").read_bytes() == struct.pack("<I", sequence) * (size // 4), f"new{sequence}"
        for name in os.listdir(top):
            assert not name.startswith("new") or int(name[3:]) in self.named or int(name[3:]) in self.maybe, name
            if name.startswith("new") and int(name[3:]) in self.maybe:
                self.named[int(name[3:])] = (top / name).stat().st_size
        self.maybe.clear()
        for i in range(200):
            assert (top / f"few/f{i}").read_bytes() == b"%d " % i * 3000, f"few/f{i}"
        for i, places in self.place.items():
            there = [n for n in (f"dir{i}", f"moved{i}") if (top / n).exists()]
            assert len(there) == 1 and there[0] in places, (i, there, places)
            assert sorted(os.listdir(top / there[0])) == ["inner", "x"] and (top / there[0] / "inner/y").read_bytes() == b"y"
            self.place[i] = {there[0]}
        for i, may in self.gone.items():
            try:
                found = (top / f"gone/g{i}").read_text(encoding="ascii")
            except FileNotFoundError:
                found = None
            assert found in may, (i, found, may)
            # an empty one is "made" by the next attempt's unlink and so on
            self.gone[i] = {found}


def prepare(fs, number):
    for i in range(4):
        fs.write(f"w{number}/big{i}", struct.pack("<II", i, 0) * WORDS)
    for i in range(200):
        fs.write(f"w{number}/few/f{i}", b"%d " % i * 3000)
    for i in range(8):
        fs.write(f"w{number}/dir{i}/x", b"x")
        fs.write(f"w{number}/dir{i}/inner/y", b"y")
    for i in range(50):
        fs.write(f"w{number}/gone/g{i}", b"lower")
    for i in range(3):
        fs.write(f"w{number}/tree{i}/a/b/c", b"lower leaf")


def left_in_work(fs):
    return [os.path.join(r, n) for r, d, f in os.walk(fs.work / "work") for n in d + f]


@pytest.mark.limit(150)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment(fs, seed):
    rng = random.Random(seed)
    for number in range(WORKERS):
        prepare(fs, number)
    states = [State() for _ in range(WORKERS)]
    fs.mount()
    for round_number in range(ROUNDS):
        workers = [Worker(fs, n, rng.random(), (round_number + 1) * 1_000_000) for n in range(WORKERS)]
        time.sleep(rng.choice([.02, .1, .3, .6]))
        fs.server.kill()
        for w, state in zip(workers, states):
            state.read(w)  # to its end
            _, status = os.waitpid(w.pid, 0)
            assert status == 0
        fs.crash()
        if OURS:
            assert left_in_work(fs) == []
        for number, state in enumerate(states):
            state.check(fs.mnt / f"w{number}", number)
        for root, _dirs, files in os.walk(fs.mnt):  # all else can be read, too
            for name in files:
                with open(os.path.join(root, name), "rb") as f:
                    f.read()


@pytest.mark.slice
def test_a_copy_up_that_is_cut_short_does_not_show(fs):
    """Killed in the middle of the copy of a big file: the lower's is there as it was."""
    data = os.urandom(1 << 20) * 48
    fs.write("d/big", data)
    fs.mount()
    cut = 0
    for attempt in range(12):
        pid = os.fork()
        if pid == 0:
            try:
                os.chmod(fs.mnt / "d/big", 0o600)
            except OSError:
                pass
            os._exit(0)
        time.sleep(.002 * attempt)
        fs.server.kill()
        os.waitpid(pid, 0)
        cut += any(os.scandir(fs.work / "work")) if OURS else 1
        fs.crash()
        assert (fs.mnt / "d/big").read_bytes() == data
        if OURS:
            assert left_in_work(fs) == []
        if (fs.upper / "d/big").exists():
            assert (fs.upper / "d/big").read_bytes() == data
            fs.umount()
            os.unlink(fs.upper / "d/big")
            fs.mount()
    assert cut > 0 or attempt == 11


@contextlib.contextmanager
def injected(fs, what):
    """Meanwhile the server's system calls get that (strace -e inject=...)."""
    if not shutil.which("strace"):
        cannot("run strace: not installed")
    with subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-e", f"inject={what}", "-p", str(fs.server.pid)], stderr=subprocess.PIPE) as tracer:
        # Written when each thread was told to stop, which it does before its next call.
        line = tracer.stderr.readline()
        assert b"attached" in line, line
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)


def killed_at(fs, call, number, change):
    """The server is killed before its system call of that name and number, counted from here. False: it made no such call."""
    with injected(fs, f"{call}:signal=KILL:when={number}"):
        try:
            change()
            patience = 0.1
        except OSError:
            patience = 20  # who traces it has to hear of its end first
        dead = wait_until(lambda: fs.server.poll() is not None, patience)
    fs.crash()
    return dead


@pytest.mark.parametrize("call", ["linkat", "renameat2", "symlinkat"])
def test_a_copy_up_of_several_names_that_is_cut_short(fs, needs_ours, call):
    """One of the names goes at the next mount: what is written by another stays."""
    number, dead = 0, True
    while dead:
        number += 1
        d = f"d{number}"
        fs.write(f"{d}/a", b"lower")
        for name in "bc":
            os.link(fs.lower / d / "a", fs.lower / d / name)
        fs.mount()
        (fs.mnt / d).chmod(0o700)  # its directory is in the upper
        dead = killed_at(fs, call, number, (fs.mnt / d / "a").touch)
        (fs.mnt / d / "b").write_bytes(b"box")
        (fs.mnt / d / "a").unlink()
        assert [(fs.mnt / d / n).read_bytes() for n in "bc"] == [b"box"] * 2, number
        fs.umount()
    assert number > 1


def test_names_of_which_nobody_can_say_how_many_there_are(fs, needs_ours):
    """One goes while the note of it cannot be read: what was written is there by the others."""
    fs.write("a", b"lower")
    for name in "bc":
        os.link(fs.lower / "a", fs.lower / name)
    fs.mount()
    (fs.mnt / "a").write_bytes(b"box")
    os.unlink(fs.mnt / "a")
    with injected(fs, "readlinkat:error=EIO"):
        os.unlink(fs.mnt / "b")
    assert (fs.mnt / "c").read_bytes() == b"box"
    fs.remount()
    assert os.listdir(fs.mnt) == ["c"] and (fs.mnt / "c").read_bytes() == b"box"


@pytest.mark.parametrize("way", ["fsync", "close"])
def test_what_was_written_in_part_is_not_written(fs, needs_ours, way):
    """No more room in the middle of one request. The kernel, which keeps the pages, takes each answer but an error for all of it."""
    fs.mount()
    resource.prlimit(fs.server.pid, resource.RLIMIT_FSIZE, (40960, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    fd = os.open(fs.mnt / "f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x" * 81920)
    with pytest.raises(OSError):
        os.fsync(fd) if way == "fsync" else os.close(fd)
    assert (fs.upper / "f").stat().st_size == 40960
    if way == "fsync":
        os.close(fd)


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_what_was_read_in_part_goes_on(fs, needs_ours, layer):
    """As of a disk that fails in the middle: what is missing read as zeros."""
    data = os.urandom(20000)
    fs.write("f", data, where=getattr(fs, layer))
    fs.mount()
    os.stat(fs.mnt / "f")
    with injected(fs, "pread64:retval=4096:when=1"):
        found = (fs.mnt / "f").read_bytes()
    assert len(found) == len(data) and found[4096:] == data[4096:]


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("call", ["renameat2", "unlinkat"])
def test_a_directory_replaces_an_empty_one_in_one_moment(fs, needs_ours, call, emptied):
    """Also one of the lower in which whiteouts hide all that there was."""
    number, dead = 0, True
    while dead:
        number += 1
        s, t = (fs.mnt / f"{name}{number}" for name in "st")
        fs.write(f"{s.name}/f", b"lower")
        if emptied:
            fs.write(f"{t.name}/gone", b"lower")
            fs.write(f"{t.name}/gone2/f", b"lower")
        fs.mount()
        if emptied:
            os.unlink(t / "gone")
            shutil.rmtree(t / "gone2")
        else:
            t.mkdir()
        (s / "g").write_bytes(b"box")
        dead = killed_at(fs, call, number, lambda: os.rename(s, t))  # pylint: disable=cell-var-from-loop
        names = [sorted(os.listdir(d)) if d.exists() else None for d in (s, t)]
        assert names in ([["f", "g"], []], [None, ["f", "g"]]), number
        fs.umount()


def test_no_time_changes_because_data_come_late(fs, needs_ours):
    """Of a file that is made and written in one tick of the clock no time is sent; it was that of whenever its data came."""
    fs.mount()
    names = [f"new{i}" for i in range(4)]
    with injected(fs, "pwrite64:delay_exit=2300000"):
        for name in names:
            (fs.mnt / name).write_bytes(b"x")
        before = [(fs.mnt / name).stat().st_mtime_ns for name in names]
    fs.remount()
    assert [(fs.mnt / name).stat().st_mtime_ns for name in names] == before


def test_leftovers_in_the_work_directory_go(fs, needs_ours):
    fs.mount()
    fs.umount()
    (fs.work / "work/t1").write_bytes(b"half")
    (fs.work / "work/t2/deep").mkdir(parents=True)
    (fs.work / "work/t2/deep/f").write_bytes(b"")
    (fs.work / "work/t5").mkdir(0)
    os.mkfifo(fs.work / "work/t3")
    (fs.work / "work/t4").symlink_to("/etc")
    fs.mount()
    assert left_in_work(fs) == [] and os.path.isdir("/etc")


def test_those_who_wait_get_an_error_when_it_dies(fs):
    """No call hangs, now or later, on a mount whose server is gone."""
    fs.write("f", b"x" * 100000)
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    fs.server.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(fs.server.pid, os.WUNTRACED)[1])  # all threads of it
    pid = os.fork()
    if pid == 0:
        try:
            os.stat(fs.mnt / "unknown")
        except OSError as e:
            os._exit(e.errno)
        os._exit(0)
    time.sleep(.1)
    fs.server.kill()
    fs.server.wait()
    # ECONNABORTED is for what was asked while the server's agent, which has /dev/fuse as well, still was about to end.
    ended = (errno.ECONNABORTED, errno.ENOTCONN)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in ended
    for call in (lambda: os.stat(fs.mnt / "other"), lambda: os.mkdir(fs.mnt / "d"), lambda: os.fsync(fd) or os.pread(fd, 10, 65536)):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno in ended
    try:
        os.close(fd)
    except OSError:
        pass
    fs.crash()
    assert (fs.mnt / "f").read_bytes() == b"x" * 100000


def traced(fs, *options):
    """Mounted, and each call of the server that reaches for the disk written down; → the log, and what ends it."""
    if SERVER in ("kernel", "plain"):
        cannot("trace a file system that is no process")
    if not shutil.which("strace"):
        cannot("run strace: not installed")
    fs.mount(*options)
    log = fs.top / "trace"
    tracer = subprocess.Popen(["strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,syncfs,sync_file_range", "-p", str(fs.server.pid)],
                              stderr=subprocess.PIPE)
    line = tracer.stderr.readline()
    if b"attached" not in line:
        tracer.wait()
        cannot(f"trace processes: {line.decode()}")

    def stop():
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        tracer.stderr.close()
        return log.read_text(encoding="utf-8", errors="replace")
    return log, stop


def test_fsync_reaches_the_disk(fs):
    """What cannot be seen without pulling the plug is seen in the calls: the file itself, and the directories that name it."""
    fs.write("d/sub/low", b"x")
    log, stop = traced(fs)
    fd = os.open(fs.mnt / "d/sub/low", os.O_WRONLY)
    os.write(fd, b"copied up")
    os.fsync(fd)
    text = log.read_text(encoding="utf-8", errors="replace")
    assert "low" in text or "/work/" in text, text
    os.close(fd)
    fd = os.open(fs.mnt / "d/new", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"new")
    os.fdatasync(fd)
    os.close(fd)
    assert wait_until(lambda: "new" in log.read_text(encoding="utf-8", errors="replace"), 20), log.read_text()
    directory = os.open(fs.mnt / "d", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert wait_until(lambda: "upper/d>" in log.read_text(encoding="utf-8", errors="replace"), 20), log.read_text()
    stop()


def test_fsync_may_be_turned_off(fs, needs_ours):
    _log, stop = traced(fs, "fsync=0")
    with open(fs.mnt / "f", "wb") as f:
        f.write(b"x")
        f.flush()
        os.fsync(f.fileno())
    calls = [line for line in stop().splitlines() if "sync" in line]
    fs.umount()
    assert calls == [] and (fs.upper / "f").read_bytes() == b"x"


def test_two_servers_on_one_upper_are_refused(fs, needs_ours):
    """Two servers would each take the other's temporaries for leftovers."""
    fs.write("f", b"x")
    fs.mount()
    (fs.top / "second").mkdir()
    second = subprocess.Popen([SERVER, "-f", "-o", fs.mount_options(), str(fs.top / "second")], stderr=subprocess.PIPE, text=True)
    try:
        _, err = second.communicate(timeout=30 * SLOW)
    except subprocess.TimeoutExpired:
        subprocess.run(["umount" if os.getuid() == 0 else "fusermount3", *([] if os.getuid() == 0 else ["-u"]), str(fs.top / "second")], check=True)
        second.communicate()
        pytest.fail("both run")
    assert second.returncode != 0 and err
    assert (fs.mnt / "f").read_bytes() == b"x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_end_it_unmounts(fs, needs_ours, number):
    fs.mount()
    (fs.mnt / "f").write_bytes(b"data")
    fs.server.send_signal(number)
    assert fs.server.wait(30 * SLOW) == 0
    fs.server = None
    assert not mounted(fs.mnt) and (fs.upper / "f").read_bytes() == b"data" and left_in_work(fs) == []


def test_in_the_background(fs, needs_ours):
    """Without -f it returns when all is mounted, leaves no descriptor of the caller's open, and ends with the mount."""
    fs.write("f", b"x")
    before = descendants()
    result = subprocess.run([SERVER, "-o", fs.mount_options(), str(fs.mnt)], capture_output=True, text=True, timeout=30 * SLOW, check=False)
    assert result.returncode == 0 and mounted(fs.mnt) and (fs.mnt / "f").read_bytes() == b"x", result
    (fs.mnt / "g").write_bytes(b"y")
    subprocess.run(["umount" if os.getuid() == 0 else "fusermount3", *([] if os.getuid() == 0 else ["-u"]), str(fs.mnt)], check=True)
    assert wait_until(lambda: reap() or not [p for p in descendants() if p not in before], 30), descendants()
    assert (fs.upper / "g").read_bytes() == b"y"
