# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts: at each moment of a program's work, what the disk may hold then mounts again, by usbox-fs and by overlayfs, and every file that was
synced, and every one that nobody had meant to change, is whole: as it was, or as it was to become. powercut.py says what a disk may hold.

Seeds are fixed. POWERCUT_SEED=N POWERCUT_DISKS=N tries others, and more."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

import powercut
from conftest import OURS, SLOW, TOP, WORK, cannot, remove_tree

pytestmark = pytest.mark.skipif(not OURS, reason="this machine cannot trace a file system that is no process")
SEEDS = [int(os.environ["POWERCUT_SEED"])] if "POWERCUT_SEED" in os.environ else [1, 2]
DISKS = int(os.environ.get("POWERCUT_DISKS", "200"))


def power_cuts(seed, disks, *options):
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a user namespace without rights")
    if not shutil.which("strace"):
        cannot("run strace: not installed")
    top = WORK / "t" / f"powercut-{os.getpid()}"
    remove_tree(top)
    top.mkdir(parents=True)
    program = pathlib.Path(__file__).with_name("powerload.py")
    result = subprocess.run(["unshare", "-Urm", sys.executable, str(program), "all", str(top), str(seed), str(disks), *options], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=(180 + disks) * SLOW, check=False)
    remove_tree(top)
    return result


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_after_a_power_cut(seed):
    result = power_cuts(seed, DISKS)
    assert result.returncode == 0, result.stderr[-3000:]
    changes, marks, disks = (int(x) for x in result.stdout.split() if x.isdigit())
    assert changes > 100 and marks > 40 and disks == DISKS


@pytest.mark.slice
def test_not_whole_without_fsync():
    """fsync=0 is what it says, and the model sees it."""
    result = power_cuts(1, DISKS, "fsync=0")
    assert result.returncode == 1 and ", not one of {" in result.stderr, result.stderr[-3000:]


def test_the_model_knows_every_call():
    """A call that usbox-fs is newly allowed has to be looked at: does it change what is on the disk?"""
    allowed = set()
    for part in json.loads((TOP / "fsoverlay" / "seccomp.json").read_text(encoding="utf-8"))["syscalls"]:
        allowed.update(part["names"])
    assert allowed - powercut.HARMLESS - powercut.MODELLED - set(powercut.REFUSED) == set()


def test_a_thread_is_the_servers_from_its_first_call(tmp_path):
    """strace(1) writes what a new thread did before it writes that the call that made it has ended."""
    def x(name):
        return "".join(f"\\x{byte:02x}" for byte in name.encode())
    (tmp_path / "trace").write_text(f"""7 execve("{x("/usbox-fs")}", []) = 0
7 openat(AT_FDCWD<{x("/")}>, "{x("/top/upper")}", O_RDONLY) = 3<{x("/top/upper")}>
7 clone3({{flags=CLONE_VM|CLONE_THREAD}}, 88 <unfinished ...>
8 mkdirat(3<{x("/top/upper")}>, "{x("new")}", 0777) = 0
7 <... clone3 resumed>) = 8
8 openat(3<{x("/top/upper")}>, "{x("new")}", O_RDONLY|O_DIRECTORY) = 4<{x("/top/upper/new")}>
""", encoding="ascii")
    recorder = powercut.Recorder("/top", "/usbox-fs").read(tmp_path / "trace", "/marks")
    assert [kind for kind, _, _ in recorder.changes] == ["names"]


def test_a_number_is_another_threads_before_its_close_has_ended(tmp_path):
    def x(name):
        return "".join(f"\\x{byte:02x}" for byte in name.encode())
    (tmp_path / "trace").write_text(f"""7 execve("{x("/usbox-fs")}", []) = 0
7 clone3({{flags=CLONE_VM|CLONE_THREAD}}, 88) = 8
7 openat(AT_FDCWD<{x("/")}>, "{x("/top/upper")}", O_RDONLY) = 3<{x("/top/upper")}>
7 openat(3<{x("/top/upper")}>, "{x("one")}", O_RDWR|O_CREAT, 0600) = 4<{x("/top/upper/one")}>
7 close(4<{x("/top/upper/one")}> <unfinished ...>
8 openat(3<{x("/top/upper")}>, "{x("two")}", O_RDWR|O_CREAT, 0600) = 4<{x("/top/upper/two")}>
7 <... close resumed>) = 0
8 fsync(4<{x("/top/upper/two")}>) = 0
""", encoding="ascii")
    recorder = powercut.Recorder("/top", "/usbox-fs").read(tmp_path / "trace", "/marks")
    (_, one, _), (_, two, _), (kind, inode, _) = recorder.changes
    assert kind == "sync" and inode is two and one is not two


def changes_of(*calls):
    """Like a record, of names in one directory: ("make", a), ("write", a, bytes), ("sync", a), ("rename", a, b)."""
    top, inodes, changes = powercut.Inode("d", 0o755), {}, []
    for kind, name, *more in calls:
        if kind == "make":
            inodes[name] = powercut.Inode("f", 0o644)
            changes.append(("names", inodes[name], {(top, name): inodes[name]}))
        elif kind == "write":
            changes.append(("write", inodes[name], (0, more[0])))
        elif kind == "sync":
            changes.append(("sync", inodes.get(name, top), True))
        else:
            inodes[more[0]] = inodes.pop(name)
            changes.append(("names", inodes[more[0]], {(top, name): None, (top, more[0]): inodes[more[0]]}))
    return top, changes


def possible(top, changes, name):
    """All that name may hold after a power cut at the end: contents, None where there is no such name."""
    found, rng = set(), random.Random(1)
    disks = powercut.PowerCut(changes, len(changes)).disks(rng)
    for _ in range(200):
        _, state = next(disks)
        names = {}
        for kind, _inode, what in state.changes:
            if kind == "names":
                names.update(what)
        inode = names.get((top, name))
        found.add(state.content(inode) if inode else None)
    return found


def test_the_model_loses_what_is_not_synced():
    """The model itself: it must find fault with a program that trusts in luck."""
    top, changes = changes_of(("make", "t"), ("write", "t", b"new"), ("rename", "t", "f"))
    assert possible(top, changes, "f") == {None, b"", b"new"}  # the empty file that careless programs leave
    top, changes = changes_of(("make", "t"), ("write", "t", b"new"), ("sync", "t"), ("rename", "t", "f"))
    assert possible(top, changes, "f") == {None, b"new"}
    top, changes = changes_of(("make", "t"), ("write", "t", b"new"), ("sync", "t"), ("rename", "t", "f"), ("sync", "."))
    assert possible(top, changes, "f") == {b"new"} and possible(top, changes, "t") == {None}
