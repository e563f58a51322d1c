# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power goes while usbox commit is at work. At each moment, whatever the disk holds of what was not synced: a name of the host shows what it showed, or
all that is to be there; what the commit had not touched is as it was; and what is not whole on the host is whole in the box, for the next commit.

What a disk may hold says tests/fs/powercut.py, by the calls that strace(1) saw. Of the box nothing was synced when the commit begins."""
import os
import random
import shutil
import stat
import subprocess
import sys

import pytest

import test_commit
from conftest import HERE, integration

sys.path.insert(0, str(HERE.parent / "fs"))
import powercut  # noqa: E402

TRACED = sorted(powercut.MODELLED | {"write", "execve", "clone", "clone3", "dup", "dup2", "dup3", "syncfs"})
KINDS = {stat.S_IFIFO: "p", stat.S_IFCHR: "w", stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}
ROUNDS = 6  # disks of each moment: the four worst, and others by chance
# Beside what test_commit.py has: a file has another name, and one is split in two.
CHANGES = test_commit.CHANGES + "mv mode other; head -c 1 edit >made/part; tail -c +2 edit >edit.new; mv edit.new edit\n"
AFTER = {**test_commit.AFTER, "edit": "ew\n", "made/part": "n", "other": "mode\n"}
del AFTER["mode"]


class Recorder(powercut.Recorder):
    """Of two directories that have something in them before: the host's tree, and the box's."""

    def __init__(self, tree, box, server):
        super().__init__("", server)
        self.roots = {os.fspath(path): powercut.Inode("d", 0o755) for path in (tree, box)}
        self.tree, self.box = self.roots.values()
        self.preload(tree, self.tree)
        self.host = {self.tree, *(inode for inode in self.now.values() if inode.kind == "d")}
        self.sync()
        self.preload(box, self.box)
        self.begin = len(self.changes)

    def preload(self, top, root):
        below, inodes = {os.fspath(top): root}, {}
        for path, dirs, files in os.walk(top):
            for name in dirs + files:
                full = os.path.join(path, name)
                st = os.lstat(full)
                kind = KINDS[stat.S_IFMT(st.st_mode)]
                inode = inodes.setdefault(st.st_ino, powercut.Inode(kind, st.st_mode & 0o7777, os.readlink(full) if kind == "l" else None))
                self.names(inode, {(below[path], name): inode})
                below[full] = inode
                if kind == "f":
                    with open(full, "rb") as f:
                        self.change("write", inode, (0, f.read()))

    def sync(self):
        """All that there is."""
        for inode in dict.fromkeys([*self.roots.values(), *(at for at, _ in self.now), *filter(None, self.now.values())]):
            self.change("sync", inode, True)

    def place(self, fd, path=None):
        """Also below a directory that is outside of both."""
        name = powercut.text(path) if path and path != "NULL" else ""
        at = None if fd.startswith("AT_FDCWD") or name.startswith("/") else self.fds.get(int(powercut.NUMBER.match(fd)[0]))
        if isinstance(at, str):
            full = os.path.normpath(os.path.join(at, name))
            root = next((r for r in self.roots if full == r or full.startswith(r + "/")), None)
            if root:
                return self.walk(self.roots[root], full[len(root):])
        return super().place(fd, path)

    def call(self, name, a, result):
        if name == "syncfs":
            self.sync()
        elif name in ("dup", "dup2", "dup3"):
            self.fds[int(powercut.NUMBER.match(result)[0])] = self.fds.get(int(powercut.NUMBER.match(a[0])[0]))
        elif name == "ioctl":
            if "FICLONE" in a[1]:
                self.copied(a[2], 0, a[0], 0, 1 << 30)
        elif name == "fallocate":
            assert "FALLOC_FL_KEEP_SIZE" in a[1], a
        else:
            super().call(name, a, result)


class Disk:
    def __init__(self, state):
        self.state, self.names, self.known = state, {}, {}
        for kind, _, what in state.changes:
            if kind == "names":
                self.names.update(what)

    def inode(self, root, path):
        for part in path.split("/"):
            root = self.names.get((root, part)) if root is not None else None
        return root

    def show(self, root, path):
        """As test_commit.look() has it; "absent" is what it says where there is no such name."""
        inode = self.inode(root, path)
        if inode is None:
            return "absent"
        if inode not in self.known:
            self.known[inode] = "-> " + inode.target if inode.kind == "l" else None if inode.kind == "d" else self.state.content(inode).decode("latin-1")
        return self.known[inode]


def wrong(disk, record, upper):
    """Findings. upper: where the box has the tree."""
    found, before, after = [], test_commit.BEFORE, AFTER
    for name in sorted({*before, *after}):
        old, new, now = before.get(name, "absent"), after.get(name, "absent"), disk.show(record.tree, name)
        in_box = disk.show(record.box, f"{upper}/{name}")
        elsewhere = disk.show(record.tree, "ren/f") if name == "renamed/f" else None
        # What takes the place of nothing may be half there.
        if now not in (old, new) and not (old == "absent" and isinstance(now, str)):
            found.append(f"{name}: {now!r}, was {old!r}, is to be {new!r}")
        if now != new and new not in (None, "absent", in_box, elsewhere):
            found.append(f"{name}: {now!r}, is to be {new!r}, and is {in_box!r} in the box")
    return found


def recorded(bench, overlay):
    """A commit that was traced, and where the box has the tree."""
    tree = test_commit.changed_box(bench, overlay=f"--overlay={overlay}", changes=CHANGES)
    (box,) = bench.world.boxes.iterdir()
    (edit,) = (box / "upper").rglob("tree/edit")
    record = Recorder(tree, box, bench.usbox)
    trace = bench.world.top / "trace"
    subprocess.run(["strace", "-f", "-y", "-xx", "-s", "1000000", "-o", trace, "-e", "trace=" + ",".join(TRACED), bench.usbox, "commit", "last"],
                   env=bench.world.env, cwd=bench.world.dir, check=True, capture_output=True)
    record.read(trace, "")
    assert test_commit.look(tree) == AFTER
    return record, os.fspath(edit.parent.relative_to(box))


@pytest.mark.slice
@pytest.mark.parametrize("overlay", ("fuse", "kernel"))
def test_power_cut(bench, overlay):
    if not shutil.which("strace"):
        integration.cannot("run strace: not installed")
    record, upper = recorded(bench, overlay)
    changes, rng, seen = record.changes, random.Random(test_commit.SEED), set()
    # The model has followed.
    end = Disk(powercut.State([c for c in changes if c[0] != "sync"]))
    assert {name: end.show(record.tree, name) for name in AFTER} == AFTER
    first = next(i for i, (kind, _, what) in enumerate(changes) if i >= record.begin and kind == "names" and any(at in record.host for at, _ in what))
    assert len(changes) - first > 50
    for n in range(first + 1, len(changes) + 1):
        disks = powercut.PowerCut(changes, n).disks(rng)
        for _ in range(ROUNDS):
            rule, state = next(disks)
            if state.key() not in seen:
                seen.add(state.key())
                found = wrong(Disk(state), record, upper)
                assert not found, f"after change {n - record.begin} of {len(changes) - record.begin} ({rule}): {'; '.join(found)}"
    # And when it has returned, all of it is there, whatever else is not.
    for _, state in zip(range(ROUNDS), (s for _, s in powercut.PowerCut(changes, len(changes)).disks(rng))):
        disk = Disk(state)
        assert {name: disk.show(record.tree, name) for name in AFTER} == AFTER
