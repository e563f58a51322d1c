# SPDX-License-Identifier: LGPL-2.1-or-later
"""What test_powercut.py runs in a user namespace of its own, where it may mount.

powerload.py all TOP SEED DISKS [OPTION]   the layers in TOP; then as strace's child "record"; then make disks of what it wrote, and look at each by both drivers
powerload.py record TOP SEED [OPTION]      serve the layers, and be a program that changes files and says so in TOP/marks"""
import ctypes
import hashlib
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys

import powercut
from conftest import SERVER, libc, wait_until, mounted

# What overlayfs refuses or shows otherwise where it has no rights: redirects, and the index of hard links.
KERNEL_SEES_NOT = ("proj", "elsewhere/proj", "linked")
LINE = b"one line more\n"


def make_lower(lower):
    rng = random.Random(1)
    for name in ["doc", "conf", "conf2", "proj/x", "proj/y", "proj/sub/z", "linked/one", "old/inner", "deep/a/b/low", "gone/a", "gone/b", "moved", "modes/a", "modes/b"]:
        path = lower / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([300, 5000, 20_000])))
        os.setxattr(path, "user.a", b"lower")
    os.link(lower / "linked/one", lower / "linked/two")


def digest(content):
    return hashlib.sha1(content).hexdigest()


def start(lower):
    return {str(p.relative_to(lower)): digest(p.read_bytes()) for p in lower.rglob("*") if p.is_file()}


def refuse_calls():
    """The calls that the model cannot read are not there: a filter of five lines (seccomp(2))."""
    first, last = min(powercut.REFUSED.values()), max(powercut.REFUSED.values())
    code = b"".join(struct.pack("HBBI", *line) for line in [
        (0x20, 0, 0, 0), (0x35, 0, 2, first), (0x25, 1, 0, last), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)])
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 5, ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0


class Mount:
    def __init__(self, top, *options, prepare=None):
        self.mnt = top / "mnt"
        layers = f"lowerdir={top.parent / 'lower' if not (top / 'lower').exists() else top / 'lower'},upperdir={top / 'upper'},workdir={top / 'work'}"
        self.server = subprocess.Popen([SERVER, "-f", "-o", ",".join([layers, *options]), str(self.mnt)], preexec_fn=prepare)
        if not wait_until(lambda: mounted(self.mnt) or self.server.poll() is not None, 20, .001) or self.server.poll() is not None:
            raise AssertionError(f"usbox-fs does not mount: {self.server.wait()}")

    def __enter__(self):
        return self.mnt

    def __exit__(self, failed, *_):
        subprocess.run(["umount", *(["-l"] if failed else []), str(self.mnt)], check=True)
        rc = self.server.wait(60)
        assert failed or rc == 0, f"usbox-fs ended with {rc}"


class Program:
    """Changes files as careful programs do: what it may find after a power cut is written down before, what it must find when fsync(2) has returned."""

    def __init__(self, top, marks, rng):
        self.top, self.marks, self.rng, self.serial = top, marks, rng, 0
        self.content = {}

    def mark(self, *words):
        os.write(self.marks, (json.dumps(words) + "\n").encode())

    def data(self):
        self.serial += 1
        return (b"%06d " % self.serial) * self.rng.choice([1, 50, 700, 3000])

    def sync_dir(self, name):
        fd = os.open(self.top / name, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)

    def write(self, name, content, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL, at=None, sync=os.fsync):
        """Before: may; written and synced: must. Of a file that was there, at says where one page of it, or its end, changes."""
        path = self.top / name
        after = content
        if at is not None:
            before = path.read_bytes()
            after = before[:at] + content + before[at + len(content):]
        elif flags & os.O_EXCL and not path.exists():
            self.mark("may", name, digest(b""))
        self.mark("may", name, digest(after))
        fd = os.open(path, flags, 0o640)
        os.pwrite(fd, content, at or 0)
        sync(fd)
        os.close(fd)
        self.mark("must", name, digest(after))

    def append(self, name, sync=os.fsync):
        self.write(name, LINE, os.O_WRONLY, (self.top / name).stat().st_size, sync)

    def replace(self, name, also_dir):
        """As editors do."""
        temp, content = f"{name}.new{self.serial}", self.data()
        self.write(temp, content)
        self.mark("may", temp, None)
        self.mark("may", name, digest(content))
        os.rename(self.top / temp, self.top / name)
        if also_dir:
            self.sync_dir(os.path.dirname(name))
            self.mark("must", name, digest(content))
            self.mark("must", temp, None)

    def remove(self, name, also_dir=True):
        self.mark("may", name, None)
        os.unlink(self.top / name)
        if also_dir:
            self.sync_dir(os.path.dirname(name))
            self.mark("must", name, None)

    def move(self, name, to, files=("",), also_dir=True):
        """A file, or a directory with these files in it."""
        for f in files:
            a, b = (os.path.join(x, f) if f else x for x in (name, to))
            content = digest((self.top / a).read_bytes())
            self.mark("may", a, None)
            self.mark("may", b, content)
            self.mark("one", a, b)
        os.rename(self.top / name, self.top / to)
        if also_dir:
            self.sync_dir(os.path.dirname(name))
            self.sync_dir(os.path.dirname(to))
            for f in files:
                self.mark("must", os.path.join(name, f) if f else name, None)
                self.mark("must", os.path.join(to, f) if f else to, digest((self.top / to / f).read_bytes() if f else (self.top / to).read_bytes()))

    def tmpfile(self, name):
        content = self.data()
        fd = os.open(self.top / os.path.dirname(name), os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, content)
        self.mark("may", name, digest(content))
        os.fsync(fd)
        os.link(f"/proc/self/fd/{fd}", self.top / name, src_dir_fd=fd, follow_symlinks=True)  # with a descriptor: else it is link(2)
        self.sync_dir(os.path.dirname(name))
        self.mark("must", name, digest(content))
        os.close(fd)

    def noise(self):
        """What nobody syncs: it may be there or not, and must spoil nothing else."""
        top, n = self.top / "noise", self.serial
        self.serial += 1
        top.mkdir(exist_ok=True)
        (top / f"d{n}/e").mkdir(parents=True)
        (top / f"d{n}/e/f").write_bytes(self.data())
        (top / f"l{n}").symlink_to("d/e/f")
        os.rename(top / f"d{n}/e", top / f"e{n}")
        (top / f"d{n}").rmdir()
        os.link(top / f"e{n}/f", top / f"f{n}")
        os.mkfifo(top / f"p{n}")
        os.unlink(top / f"e{n}/f")
        if self.rng.random() < .5:
            shutil.rmtree(top / f"e{n}")

    def run(self):
        self.noise()
        self.append("doc")                                # a lower file
        self.replace("conf", True)
        self.replace("conf2", False)
        for name in ("modes/a", "modes/b"):               # copied up, and never synced: whole all the same
            os.chmod(self.top / name, 0o600)
        os.makedirs(self.top / "deep/a/b/new/newer")
        self.write("deep/a/b/new/newer/file", self.data())  # its directories are new, too
        self.noise()
        self.append("deep/a/b/low", os.fdatasync)
        self.remove("gone/a")
        self.write("gone/a", self.data())
        self.remove("gone/b", False)
        self.move("proj", "elsewhere/proj" if self.rng.random() < .3 and not os.mkdir(self.top / "elsewhere") else "proj2", ("x", "y", "sub/z"))
        moved = "proj2" if (self.top / "proj2").exists() else "elsewhere/proj"
        self.append(f"{moved}/x")
        self.write(f"{moved}/sub/new", self.data())
        self.noise()
        self.mark("may", "linked/two", digest((self.top / "linked/two").read_bytes() + LINE))
        self.append("linked/one")
        self.mark("must", "linked/two", digest((self.top / "linked/two").read_bytes()))
        self.remove("old/inner", False)
        os.rmdir(self.top / "old")
        os.mkdir(self.top / "old")                        # shows nothing of the lower's
        self.write("old/file", self.data())
        self.sync_dir("old")
        self.mark("must", "old/inner", None)
        self.move("moved", "modes/moved")
        self.tmpfile("modes/tmp")
        for _ in range(6):
            kind = self.rng.randrange(4)
            if kind == 0:
                self.replace("doc", self.rng.random() < .5)
            elif kind == 1:
                self.append("conf")
            elif kind == 2:
                self.write("deep/a/b/new/newer/file", b"%08d" % self.serial, os.O_WRONLY, 0)
            else:
                self.noise()


def record(top, seed, *options):
    marks = os.open(top / "marks", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with Mount(top, "threads=1", *options, prepare=refuse_calls) as mnt:
        Program(mnt, marks, random.Random(seed)).run()


def shown(mnt, but=()):
    """Each name, and of files what they contain; whatever cannot be read is an error."""
    found = {}

    def stop(error):
        raise error
    for root, dirs, files in os.walk(mnt, onerror=stop):
        paths = {name: os.path.relpath(os.path.join(root, name), mnt) for name in dirs + files}
        dirs[:] = [name for name in dirs if not paths[name].startswith(but)]
        for path in paths.values():
            full = pathlib.Path(mnt, path)
            if path.startswith(but):
                continue
            if full.is_symlink():
                os.readlink(full)
            elif full.is_file():
                found[path] = digest(full.read_bytes())
            else:
                full.stat()
    return found


def judge(found, allowed, but=()):
    for path, may in allowed.paths.items():
        if not path.startswith(but):
            assert found.get(path) in may, f"{path} shows {found.get(path)}, not one of {may}"
    for a, b in allowed.pairs:
        if not a.startswith(but) and None in allowed.paths[a] and None in allowed.paths[b]:
            assert (found.get(a) is None) != (found.get(b) is None), f"of {a} and {b} one is to be there, not {found.get(a)} and {found.get(b)}"


def look(top, state, roots, allowed, kernel_first):
    """Both drivers at one disk."""
    case = top / "case"
    shutil.rmtree(case, ignore_errors=True)
    for name in ("upper", "work", "mnt"):
        (case / name).mkdir(parents=True)
    state.write({str(case / pathlib.Path(path).name): inode for path, inode in roots.items()})

    def by_kernel():
        options = f"lowerdir={top / 'lower'},upperdir={case / 'upper'},workdir={case / 'work'},userxattr"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(case / "mnt")], check=True)
        try:
            judge(shown(case / "mnt", KERNEL_SEES_NOT), allowed, KERNEL_SEES_NOT)
        finally:
            subprocess.run(["umount", str(case / "mnt")], check=True)

    def by_us():
        with Mount(case) as mnt:
            judge(shown(mnt), allowed)
        left = [x for x in os.listdir(case / "work" / "work") if x != "whiteout"]
        assert left == [], f"left in work/: {left}"
    for driver in (by_kernel, by_us) if kernel_first else (by_us, by_kernel):
        try:
            driver()
        except (AssertionError, OSError, subprocess.CalledProcessError) as e:
            raise AssertionError(f"{driver.__name__}: {e}") from e


def check(top, seed, n_disks):
    rng = random.Random(seed)
    recorder = powercut.Recorder(str(top), SERVER).read(top / "trace", str(top / "marks"))
    changes, first, seen, n_looked = recorder.changes, start(top / "lower"), set(), 0
    points = list(range(1, len(changes) + 1))
    rng.shuffle(points)
    # The worst that each moment can leave first; then more of each.
    rounds = [(n, kind) for kind in range(12) for n in points]
    for n, kind in rounds:
        if n_looked == n_disks:
            break
        disks = powercut.PowerCut(changes, n).disks(rng)
        rule, state = [next(disks) for _ in range(kind + 1)][-1]
        if state.key() in seen:
            continue
        seen.add(state.key())
        try:
            look(top, state, recorder.roots, powercut.Allowed(first, recorder.marks, n), n_looked % 2 == 0)
        except AssertionError as e:
            raise AssertionError(f"after change {n} of {len(changes)} ({rule}): {e}\n  {changes[n - 1]}") from e
        n_looked += 1
    print(f"{len(changes)} changes, {len(recorder.marks)} marks, {n_looked} disks")


def in_memory(top):
    """Nothing here is to reach a disk: a file system in memory, where it has attributes (since Linux 6.6)."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top)], check=True)
    try:
        os.setxattr(top, "user.a", b"")
    except OSError:
        subprocess.run(["umount", str(top)], check=True)


def all_of_it(top, seed, n_disks, *options):
    in_memory(top)
    for name in ("lower", "upper", "work", "mnt"):
        (top / name).mkdir()
    make_lower(top / "lower")
    subprocess.run(["strace", "-f", "-y", "-xx", "-s", "1000000", "--seccomp-bpf", "-o", str(top / "trace"), "-e", "trace=" + ",".join(powercut.TRACED),
                    sys.executable, __file__, "record", str(top), str(seed), *options], check=True)
    check(top, seed, n_disks)


if __name__ == "__main__":
    what, where, number, *more = sys.argv[1:]
    if what == "record":
        record(pathlib.Path(where), int(number), *more)
    else:
        all_of_it(pathlib.Path(where), int(number), int(more[0]), *more[1:])
