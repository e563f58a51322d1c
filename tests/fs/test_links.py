# SPDX-License-Identifier: LGPL-2.1-or-later
"""What links/ of the work directory knows of files with several names at the next mount: over several file systems, of files that were replaced."""
import os
import subprocess
import sys

import pytest

from conftest import SERVER, link_fd

# Lower directories that are file systems of their own, as a host's /home and /usr may be: root of a user namespace mounts them.
SUBMOUNTS = r"""
import os, subprocess, sys, time

server, options, lower, mnt = sys.argv[1:]
for name in "ab":
    os.mkdir(f"{lower}/{name}")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{lower}/{name}"], check=True)
    for n in "gh":
        with open(f"{lower}/{name}/{n}", "w") as f:
            f.write(name + n)
        os.link(f"{lower}/{name}/{n}", f"{lower}/{name}/{n}2")
        os.link(f"{lower}/{name}/{n}", f"{lower}/{name}/{n}3")
same = [os.stat(f"{lower}/{d}/g").st_ino for d in "ab"]
assert same[0] == same[1], same

def mounted(work):
    process = subprocess.Popen([server, "-f", "-o", options, mnt])
    while not os.path.ismount(mnt):
        assert process.poll() is None
        time.sleep(0.01)
    try:
        return work()
    finally:
        subprocess.run(["umount", mnt], check=True)
        process.wait()

def read(path):
    with open(f"{mnt}/{path}") as f:
        return f.read()

def first():
    with open(f"{mnt}/a/g", "a") as f:
        f.write("!")
    os.unlink(f"{mnt}/a/h")
    return [os.stat(f"{mnt}/{p}").st_ino for p in ("a/g", "a/h2")]

def second():
    os.listdir(f"{mnt}/b")
    found = {p: (read(p), os.stat(f"{mnt}/{p}").st_nlink) for p in ("b/g", "b/g2", "b/h", "b/h2")}
    assert found == {"b/g": ("bg", 3), "b/g2": ("bg", 3), "b/h": ("bh", 3), "b/h2": ("bh", 3)}, found
    found = {p: (read(p), os.stat(f"{mnt}/{p}").st_nlink) for p in ("a/g2", "a/g3", "a/h2")}
    assert found == {"a/g2": ("ag!", 3), "a/g3": ("ag!", 3), "a/h2": ("ah", 2)}, found
    with open(f"{mnt}/b/g", "a") as f:
        f.write("?")
    assert read("a/g") == "ag!" and read("b/g3") == "bg?"
    numbers = [os.stat(f"{mnt}/{p}").st_ino for p in ("a/g", "a/h2", "b/g", "b/h", "b")]
    assert len(set(numbers)) == 5, numbers
    return numbers[:2]

def third():
    assert [read(f"{d}/g{n}") for n in ("2", "", "3") for d in "ba"] == ["bg?", "ag!"] * 3
before = mounted(first)
assert mounted(second) == before
mounted(third)
"""


def test_file_systems_keep_their_numbers_whatever_is_looked_up_first(fs, needs_ours):
    result = subprocess.run(["unshare", "-Urm", "--propagation", "private", sys.executable, "-c", SUBMOUNTS, SERVER, fs.mount_options(), str(fs.lower), str(fs.mnt)],
                            capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture
def replaced(fs, needs_ours):
    """replaced(old, new): as if the file system had given the number of the lower file old, which is gone, to the file new. A number cannot be
    asked for, so it is the notes that are changed: those of old's number become those of new's."""
    def replace(old, new):
        new = os.stat(fs.lower / new).st_ino
        links = fs.work / "links"
        for kind in "wlg":
            if os.path.lexists(links / f"{kind}{old:x}"):
                os.rename(links / f"{kind}{old:x}", links / f"{kind}{new:x}")
        if (links / f"{old:x}").exists():
            os.rename(links / f"{old:x}", links / f"{new:x}")
            os.setxattr(links / f"{new:x}", "user.overlay.usbox.ino", str(new).encode())
    return replace


def write_linked(fs, name, data, n=3):
    fs.write(name, data)
    for i in range(2, n + 1):
        os.link(fs.lower / name, fs.lower / f"{name}{i}")
    return os.stat(fs.lower / name).st_ino


def test_a_copy_stands_for_its_own_file_alone(fs, replaced):
    old = write_linked(fs, "old", "old")
    fs.mount()
    with open(fs.mnt / "old", "a", encoding="ascii") as f:
        f.write("!")
    fs.umount()
    write_linked(fs, "new", "new")
    replaced(old, "new")
    for n in ("old", "old2", "old3"):
        os.unlink(fs.lower / n)
    fs.mount()
    assert (fs.mnt / "new").read_text() == (fs.mnt / "new2").read_text() == "new" and os.stat(fs.mnt / "new").st_nlink == 3
    assert (fs.mnt / "old").read_text() == "old!" and os.stat(fs.mnt / "old").st_ino != os.stat(fs.mnt / "new").st_ino
    number = os.stat(fs.mnt / "new").st_ino
    with open(fs.mnt / "new2", "a", encoding="ascii") as f:
        f.write("?")
    for _ in range(2):
        assert [(fs.mnt / n).read_text() for n in ("new3", "new", "new2", "old")] == ["new?", "new?", "new?", "old!"]
        assert {os.stat(fs.mnt / n).st_ino for n in ("new", "new2", "new3")} == {number} != {os.stat(fs.mnt / "old").st_ino}
        fs.remount()


@pytest.mark.slice
def test_a_new_file_has_all_its_names(fs, replaced):
    old = write_linked(fs, "old", "old")
    fs.mount()
    os.unlink(fs.mnt / "old")
    assert os.stat(fs.mnt / "old2").st_nlink == 2
    fs.remount()
    assert os.stat(fs.mnt / "old2").st_nlink == 2
    fs.umount()
    write_linked(fs, "new", "new")
    replaced(old, "new")
    for n in ("old", "old2", "old3"):
        os.unlink(fs.lower / n)
    fs.mount()
    assert os.stat(fs.mnt / "new").st_nlink == 3
    os.unlink(fs.mnt / "new2")
    fs.remount()
    assert os.stat(fs.mnt / "new").st_nlink == 2


def test_what_the_host_does_to_a_file_does_not_make_it_another(fs, needs_ours):
    """A name more, another mode, other content: its copy still stands for it."""
    write_linked(fs, "f", "lower")
    fs.mount()
    (fs.mnt / "f").write_text("box", encoding="ascii")
    fs.umount()
    os.link(fs.lower / "f2", fs.lower / "f4")
    os.chmod(fs.lower / "f2", 0o600)
    (fs.lower / "f3").write_text("changed", encoding="ascii")
    fs.mount()
    assert [(fs.mnt / n).read_text() for n in ("f", "f2", "f3", "f4")] == ["box"] * 4


@pytest.mark.parametrize("known", ["one", "all"], ids=lambda known: f"{known}-known")
def test_the_name_that_a_file_was_opened_by_goes(fs, known):
    """What is written to it is in all names that are left, and it takes new ones."""
    for d in "cd":
        fs.write(f"{d}/a", b"lower")
        os.link(fs.lower / d / "a", fs.lower / d / "b")
    fs.mount()
    for d in "cd":
        a, b = fs.mnt / d / "a", fs.mnt / d / "b"
        if known == "all":
            assert b.read_bytes() == b"lower"
        f = os.open(a, os.O_RDWR)
        if d == "c":
            os.pwrite(f, b"L", 0)
            os.fsync(f)
        os.unlink(a)
        os.pwrite(f, b"LOWER", 0)
        os.ftruncate(f, 3)
        os.fchmod(f, 0o600)
        os.fsync(f)
        assert os.fstat(f).st_nlink == 1 and os.pread(f, 9, 0) == b"LOW"
        assert b.read_bytes() == b"LOW" and os.path.samestat(os.fstat(f), b.stat())
        link_fd(f, fs.mnt / d / "c")
        assert os.fstat(f).st_nlink == 2
        os.close(f)
    fs.remount()
    for d in "cd":
        b, c = fs.mnt / d / "b", fs.mnt / d / "c"
        assert sorted(os.listdir(b.parent)) == ["b", "c"] and os.path.samefile(b, c)
        assert b.read_bytes() == b"LOW" and b.stat().st_nlink == 2 and b.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_file_that_lost_a_name_costs_no_descriptor(fs, how):
    """Each kept one for as long as the kernel knew it: git links every object to its name and removes the one that it was written by."""
    fs.mount(wrap=("prlimit", "--nofile=256:256"))
    for i in range(400):
        a, b = fs.mnt / f"a{i}", fs.mnt / f"b{i}"
        a.write_bytes(b"x")
        os.link(a, b)
        if how == "rename":
            (fs.mnt / "other").write_bytes(b"")
            os.rename(fs.mnt / "other", a)
        else:
            a.unlink()
        assert b.stat().st_nlink == 1
    assert all((fs.mnt / f"b{i}").read_bytes() == b"x" for i in range(400))
