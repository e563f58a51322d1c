# SPDX-License-Identifier: LGPL-2.1-or-later
"""POSIX to the letter: each promise of the overlay as a test of its own, on lower files, on what is copied up, and on what is new."""
import ctypes
import errno
import fcntl
import mmap
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from conftest import (FALLOC_COLLAPSE, FALLOC_INSERT, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO, OURS, RENAME_EXCHANGE, RENAME_NOREPLACE,
                      RENAME_WHITEOUT, SLOW, assert_same, cannot, fallocate, libc, link_fd, raises, remove_tree, renameat2, snapshot, tmpfile, used, wait_until)

PAGE = 4096
OLD = 981173106_987654321  # 2001-02-03, in nanoseconds


def identity(path):
    st = os.lstat(path)
    return st.st_dev, st.st_ino


def old(path, when=OLD):
    os.utime(path, ns=(when, when), follow_symlinks=False)
    return path


# Identity

COPY_UPS = {
    "write": lambda p: p.write_bytes(b"new"), "append": lambda p: append(p, b"x"), "truncate": lambda p: os.truncate(p, 1), "chmod": lambda p: p.chmod(0o600),
    "utimens": lambda p: os.utime(p, ns=(1, 1)), "setxattr": lambda p: os.setxattr(p, "user.t", b"1"), "link": lambda p: os.link(p, p.with_name("another")),
    "rename": lambda p: (os.rename(p, p.with_name("aside")), os.rename(p.with_name("aside"), p)), "open for writing": lambda p: os.close(os.open(p, os.O_RDWR)),
}


def append(path, data):
    with open(path, "ab") as f:
        f.write(data)


@pytest.mark.slice
@pytest.mark.parametrize("how", COPY_UPS)
def test_inode_number_survives_copy_up(fs, how):
    fs.write("d/file", b"lower")
    fs.mount()
    path = fs.mnt / "d" / "file"
    before = identity(path)
    fd = os.open(path, os.O_RDONLY)
    COPY_UPS[how](path)
    assert identity(path) == before
    assert (os.fstat(fd).st_dev, os.fstat(fd).st_ino) == before
    os.close(fd)
    assert {e.name: e.inode() for e in os.scandir(fs.mnt / "d")}["file"] == before[1]


def test_inode_number_of_directory_symlink_and_rename_across_directories_survives(fs):
    fs.write("d/sub/file", b"lower")
    (fs.lower / "d/link").symlink_to("file")
    (fs.lower / "e").mkdir()
    fs.mount()
    before = {n: identity(fs.mnt / n) for n in ("d", "d/sub", "d/link", "d/sub/file")}
    (fs.mnt / "d").chmod(0o700)
    os.utime(fs.mnt / "d/link", ns=(5, 5), follow_symlinks=False)
    (fs.mnt / "d/new").write_bytes(b"")
    assert {n: identity(fs.mnt / n) for n in before} == before
    os.rename(fs.mnt / "d/sub", fs.mnt / "e/sub")
    os.rename(fs.mnt / "d/link", fs.mnt / "e/link")
    assert identity(fs.mnt / "e/sub") == before["d/sub"] and identity(fs.mnt / "e/link") == before["d/link"]
    assert identity(fs.mnt / "e/sub/file") == before["d/sub/file"]


def test_inode_numbers_are_the_same_after_a_remount(fs):
    """Of lower files, of those copied up since, and of new ones."""
    for name in ("untouched", "written", "moved", "d/x"):
        fs.write(name, name)
    fs.mount()
    (fs.mnt / "new").write_bytes(b"new")
    names = ("untouched", "written", "moved", "d", "d/x", "new")
    before = {n: os.lstat(fs.mnt / n).st_ino for n in names}
    (fs.mnt / "written").write_bytes(b"changed")
    os.rename(fs.mnt / "moved", fs.mnt / "d" / "moved")
    fs.remount()
    after = {n: os.lstat(fs.mnt / ("d/moved" if n == "moved" else n)).st_ino for n in names}
    assert after == before


def test_one_device_for_all_and_no_number_twice(fs):
    for i in range(300):
        fs.write(f"d{i % 7}/f{i}", b"x")
    fs.mount()
    for i in range(0, 300, 3):
        append(fs.mnt / f"d{i % 7}/f{i}", b"y")
        (fs.mnt / f"d{i % 7}/new{i}").write_bytes(b"z")
    seen, devices = set(), set()
    for root, dirs, files in os.walk(fs.mnt):
        for name in dirs + files:
            st = os.lstat(os.path.join(root, name))
            assert st.st_ino not in seen, name
            seen.add(st.st_ino)
            devices.add(st.st_dev)
    assert devices == {os.stat(fs.mnt).st_dev} and len(seen) == 407


def test_readdir_gives_the_numbers_that_stat_gives(fs):
    for i in range(20):
        fs.write(f"d/low{i}", b"x")
    (fs.lower / "d/sub").mkdir()
    fs.mount()
    (fs.mnt / "d/new").write_bytes(b"")
    append(fs.mnt / "d/low3", b"y")
    for e in os.scandir(fs.mnt / "d"):
        assert e.inode() == os.lstat(e.path).st_ino, e.name
        assert e.is_dir(follow_symlinks=False) == stat.S_ISDIR(os.lstat(e.path).st_mode)


# Hard links

def test_hard_links_of_the_lower_stay_one_file(fs):
    fs.write("d/a", b"lower")
    os.link(fs.lower / "d/a", fs.lower / "d/b")
    (fs.lower / "e").mkdir()
    os.link(fs.lower / "d/a", fs.lower / "e/c")
    fs.mount()
    a, b, c = fs.mnt / "d/a", fs.mnt / "d/b", fs.mnt / "e/c"
    assert os.stat(a).st_nlink == 3
    append(a, b" and upper")
    for again in (False, True):
        assert b.read_bytes() == c.read_bytes() == b"lower and upper"
        assert identity(a) == identity(b) == identity(c) and os.stat(c).st_nlink == 3
        if not again:
            fs.remount()
    c.chmod(0o600)
    assert stat.S_IMODE(os.stat(a).st_mode) == 0o600
    os.unlink(a)
    assert os.stat(b).st_nlink == 2 and c.read_bytes() == b"lower and upper"
    os.link(b, fs.mnt / "e/d")
    assert os.stat(c).st_nlink == 3
    for again in (False, True):
        names = [n for n in (b, c, fs.mnt / "e/d") if n.exists()]
        assert len({identity(n) for n in names}) == 1 and {os.stat(n).st_nlink for n in names} == {3}, again
        if not again:
            fs.remount()
    for n in (b, c):
        os.unlink(n)
    assert os.stat(fs.mnt / "e/d").st_nlink == 1


def test_unlinking_lower_names_counts_links_down_without_copy_up(fs):
    fs.write("a", b"x")
    for n in "bc":
        os.link(fs.lower / "a", fs.lower / n)
    fs.mount()
    os.unlink(fs.mnt / "b")
    assert os.stat(fs.mnt / "a").st_nlink == 2
    fs.remount()
    assert os.stat(fs.mnt / "a").st_nlink == 2
    append(fs.mnt / "c", b"y")
    assert (fs.mnt / "a").read_bytes() == b"xy" and os.stat(fs.mnt / "a").st_nlink == 2
    fd = os.open(fs.mnt / "a", os.O_RDONLY)
    os.unlink(fs.mnt / "a")
    os.unlink(fs.mnt / "c")
    assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 9, 0) == b"xy"
    os.close(fd)


def test_hard_linked_symlinks_and_fifos(fs):
    fs.mount()
    os.symlink("target", fs.mnt / "s")
    os.link(fs.mnt / "s", fs.mnt / "s2", follow_symlinks=False)
    assert os.lstat(fs.mnt / "s").st_nlink == 2 and os.readlink(fs.mnt / "s2") == "target" and identity(fs.mnt / "s") == identity(fs.mnt / "s2")
    os.mkfifo(fs.mnt / "p")
    os.link(fs.mnt / "p", fs.mnt / "p2")
    assert os.lstat(fs.mnt / "p").st_nlink == 2


# Renames

def test_a_lower_directory_is_renamed(fs):
    for n in ("d/a", "d/sub/b", "d/sub/deep/c"):
        fs.write(n, n)
    fs.mount()
    (fs.mnt / "d/new").write_bytes(b"new")
    os.unlink(fs.mnt / "d/a")
    expected = snapshot(fs.mnt / "d", times=False)
    os.rename(fs.mnt / "d", fs.mnt / "moved")
    for again in (False, True):
        assert not (fs.mnt / "d").exists() and sorted(os.listdir(fs.mnt)) == ["moved"]
        assert_same(snapshot(fs.mnt / "moved", times=False), expected)
        if not again:
            fs.remount()
    append(fs.mnt / "moved/sub/b", b"!")
    assert (fs.mnt / "moved/sub/b").read_bytes() == b"d/sub/b!"
    os.rename(fs.mnt / "moved/sub", fs.mnt / "sub")
    (fs.mnt / "moved/sub").mkdir()
    assert os.listdir(fs.mnt / "moved/sub") == [] and (fs.mnt / "sub/deep/c").read_bytes() == b"d/sub/deep/c"
    (fs.mnt / "d").mkdir()  # the old name again: nothing of the lower may shine through
    assert os.listdir(fs.mnt / "d") == []
    fs.remount()
    assert os.listdir(fs.mnt / "d") == [] and os.listdir(fs.mnt / "moved/sub") == [] and (fs.mnt / "sub/b").read_bytes() == b"d/sub/b!"


def test_a_directory_moves_into_a_moved_one_and_back(fs):
    fs.write("a/x/file", b"1")
    fs.write("b/y/file", b"2")
    fs.mount()
    os.rename(fs.mnt / "a", fs.mnt / "b/a")
    os.rename(fs.mnt / "b", fs.mnt / "c")
    os.rename(fs.mnt / "c/a/x", fs.mnt / "x")
    os.rename(fs.mnt / "c/y", fs.mnt / "c/a/y")
    for again in (False, True):
        assert (fs.mnt / "x/file").read_bytes() == b"1" and (fs.mnt / "c/a/y/file").read_bytes() == b"2"
        assert sorted(os.listdir(fs.mnt)) == ["c", "x"] and os.listdir(fs.mnt / "c") == ["a"] and os.listdir(fs.mnt / "c/a") == ["y"]
        if not again:
            fs.remount()
    os.rename(fs.mnt / "c/a/y", fs.mnt / "y")
    raises(errno.EINVAL, os.rename, fs.mnt / "c", fs.mnt / "c/a/c")
    shutil.rmtree(fs.mnt / "c")
    os.rename(fs.mnt / "x", fs.mnt / "a")
    fs.remount()
    assert sorted(os.listdir(fs.mnt)) == ["a", "y"] and (fs.mnt / "a/file").read_bytes() == b"1"


def test_rename_errors_and_flags(fs):
    fs.write("full/x", b"x")
    fs.write("other/y", b"y")
    fs.write("file", b"f")
    (fs.lower / "empty").mkdir()
    fs.mount()
    m = fs.mnt
    raises(errno.ENOTEMPTY, os.rename, m / "other", m / "full")
    raises(errno.ENOTDIR, os.rename, m / "other", m / "file")
    raises(errno.EISDIR, os.rename, m / "file", m / "empty")
    raises(errno.EEXIST, renameat2, m / "file", m / "full", RENAME_NOREPLACE)
    raises(errno.ENOENT, renameat2, m / "file", m / "none", RENAME_EXCHANGE)
    raises(errno.EINVAL, renameat2, m / "file", m / "whiteout", RENAME_WHITEOUT)  # a whiteout is not the box's to make
    os.rename(m / "full", m / "empty")
    assert os.listdir(m / "empty") == ["x"] and not (m / "full").exists()
    renameat2(m / "empty", m / "file", RENAME_EXCHANGE)
    assert (m / "empty").read_bytes() == b"f" and (m / "file/x").read_bytes() == b"x"
    renameat2(m / "other", m / "file", RENAME_EXCHANGE)
    fs.remount()
    assert (m / "other/x").read_bytes() == b"x" and (m / "file/y").read_bytes() == b"y" and (m / "empty").read_bytes() == b"f"
    os.unlink(m / "other/x")  # whited out below: empty for all to see
    os.rename(m / "file", m / "other")
    assert os.listdir(m / "other") == ["y"]


def test_renaming_between_two_names_of_one_file_does_nothing(fs):
    fs.write("a", b"x")
    os.link(fs.lower / "a", fs.lower / "b")
    fs.mount()
    os.rename(fs.mnt / "a", fs.mnt / "b")
    assert sorted(os.listdir(fs.mnt)) == ["a", "b"] and os.stat(fs.mnt / "a").st_nlink == 2


def test_rmdir_of_a_directory_with_whiteouts_only(fs):
    fs.write("d/a", b"")
    fs.write("d/b", b"")
    fs.mount()
    raises(errno.ENOTEMPTY, os.rmdir, fs.mnt / "d")
    os.unlink(fs.mnt / "d/a")
    raises(errno.ENOTEMPTY, os.rmdir, fs.mnt / "d")
    os.unlink(fs.mnt / "d/b")
    os.rmdir(fs.mnt / "d")
    assert os.listdir(fs.mnt) == []
    (fs.mnt / "d").mkdir()
    fs.remount()
    assert os.listdir(fs.mnt / "d") == []


# Open files

@pytest.mark.slice
def test_a_reader_sees_what_is_written_after_copy_up(fs):
    fs.write("f", b"lower contents")
    fs.mount()
    reader = os.open(fs.mnt / "f", os.O_RDONLY)
    assert os.pread(reader, 5, 0) == b"lower"
    writer = os.open(fs.mnt / "f", os.O_RDWR)
    os.pwrite(writer, b"UPPER", 0)
    assert os.pread(reader, 14, 0) == b"UPPER contents"
    os.ftruncate(writer, 3)
    assert os.fstat(reader).st_size == 3 and os.pread(reader, 14, 0) == b"UPP"
    os.close(writer)
    os.close(reader)


def test_open_files_outlive_unlink_rename_and_replacement(fs):
    for n in ("a", "b", "c", "e"):
        fs.write(n, n * 5000)
    fs.mount()
    held = {n: os.open(fs.mnt / n, os.O_RDWR if n == "b" else os.O_RDONLY) for n in ("a", "b", "c", "e")}
    new = os.open(fs.mnt / "n", os.O_RDWR | os.O_CREAT)
    os.write(new, b"new")
    os.unlink(fs.mnt / "a")
    os.unlink(fs.mnt / "b")
    os.unlink(fs.mnt / "n")
    os.rename(fs.mnt / "e", fs.mnt / "c")
    for n, fd in held.items():
        assert os.pread(fd, 10000, 0) == n.encode() * 5000
        assert os.fstat(fd).st_nlink == (1 if n == "e" else 0), n
    os.pwrite(held["b"], b"after", 5000)
    os.fchmod(held["b"], 0o640)
    os.ftruncate(held["b"], 5003)
    assert os.pread(held["b"], 10, 5000) == b"aft" and stat.S_IMODE(os.fstat(held["b"]).st_mode) == 0o640
    os.pwrite(new, b"er", 3)
    assert os.pread(new, 10, 0) == b"newer"
    os.setxattr(new, "user.t", b"1")
    assert os.getxattr(new, "user.t") == b"1"
    # unlinked before anything was written to it: the copy-up has no name to go to
    fs.write("late", b"late")
    late = os.open(fs.mnt / "c", os.O_RDONLY)
    os.unlink(fs.mnt / "c")
    os.fchmod(late, 0o600)
    os.utime(late, ns=(OLD, OLD))
    assert os.fstat(late).st_mtime_ns == OLD and os.pread(late, 3, 0) == b"eee"
    for fd in (*held.values(), new, late):
        os.close(fd)


def test_a_lower_file_opened_read_only_and_unlinked_can_be_written_by_another(fs):
    """Two descriptors, one of them for writing, opened before the name goes; written only after."""
    fs.write("f", b"0123456789")
    fs.mount()
    r, w = os.open(fs.mnt / "f", os.O_RDONLY), os.open(fs.mnt / "f", os.O_WRONLY)
    os.unlink(fs.mnt / "f")
    os.pwrite(w, b"xyz", 2)
    assert os.pread(r, 10, 0) == b"01xyz56789"
    os.close(r)
    os.close(w)


def test_an_open_directory_outlives_its_removal_and_follows_its_rename(fs):
    fs.write("d/f", b"x")
    fs.write("gone/g", b"x")
    fs.mount()
    d, gone = os.open(fs.mnt / "d", os.O_RDONLY), os.open(fs.mnt / "gone", os.O_RDONLY)
    os.rename(fs.mnt / "d", fs.mnt / "e")
    with open("new", "wb", opener=lambda n, fl: os.open(n, fl, 0o644, dir_fd=d)) as f:
        f.write(b"new")
    assert (fs.mnt / "e/new").read_bytes() == b"new" and sorted(os.listdir(d)) == ["f", "new"]
    shutil.rmtree(fs.mnt / "gone")
    assert os.listdir(gone) == []
    os.fchmod(gone, 0o700)
    os.utime(gone, ns=(OLD, OLD))
    os.setxattr(gone, "user.t", b"1")
    assert os.fstat(gone).st_mtime_ns == OLD and stat.S_IMODE(os.fstat(gone).st_mode) == 0o700 and os.getxattr(gone, "user.t") == b"1"
    raises(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=gone)
    raises(errno.ENOENT, os.open, ".", os.O_TMPFILE | os.O_WRONLY, 0o644, dir_fd=gone)  # it was EBADF
    os.close(d)
    os.close(gone)


def test_modes_do_not_bind_those_who_have_it_open(fs):
    """Rights are checked by open; a file that became unreadable is still read and written through its descriptor, and after a copy-up, too."""
    fs.write("f", b"data")
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    os.chmod(fs.mnt / "f", 0)
    os.pwrite(fd, b"DA", 0)
    os.fsync(fd)
    assert os.pread(fd, 4, 0) == b"DAta"
    os.close(fd)
    if os.getuid() != 0:
        raises(errno.EACCES, os.open, fs.mnt / "f", os.O_RDONLY)
    os.chmod(fs.mnt / "f", 0o400)
    assert (fs.mnt / "f").read_bytes() == b"DAta"
    fd = os.open(fs.mnt / "w", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0)  # a new file may be written by its maker whatever its mode
    os.write(fd, b"secret")
    os.close(fd)
    os.chmod(fs.mnt / "w", 0o400)
    assert (fs.mnt / "w").read_bytes() == b"secret"


def test_read_only_directories_do_not_stop_copy_up(fs):
    """What is in a directory without write permission can be changed, though nothing can be made or removed there."""
    fs.write("d/f", b"x")
    (fs.lower / "d").chmod(0o555)
    fs.mount()
    append(fs.mnt / "d/f", b"y")
    (fs.mnt / "d/f").chmod(0o600)
    assert (fs.mnt / "d/f").read_bytes() == b"xy" and stat.S_IMODE(os.stat(fs.mnt / "d").st_mode) == 0o555
    if os.getuid() != 0:
        raises(errno.EACCES, (fs.mnt / "d/new").write_bytes, b"")
        raises(errno.EACCES, os.unlink, fs.mnt / "d/f")
    (fs.mnt / "d").chmod(0o311)
    (fs.mnt / "d/new").write_bytes(b"n")
    os.unlink(fs.mnt / "d/f")
    (fs.mnt / "d").chmod(0o755)
    assert os.listdir(fs.mnt / "d") == ["new"]
    (fs.lower / "d").chmod(0o755)  # for the comparison of layers below: as it is taken down


# mmap

@pytest.mark.slice
def test_shared_mappings_are_the_file(fs):
    fs.write("f", bytes(3 * PAGE))
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    reader = os.open(fs.mnt / "f", os.O_RDONLY)
    with mmap.mmap(fd, 3 * PAGE) as shared, mmap.mmap(reader, 3 * PAGE, access=mmap.ACCESS_READ) as view:
        shared[10:15] = b"hello"
        assert view[10:15] == b"hello" and os.pread(reader, 5, 10) == b"hello"
        os.pwrite(fd, b"written", PAGE)
        assert shared[PAGE:PAGE + 7] == b"written" and view[PAGE:PAGE + 7] == b"written"
        shared[2 * PAGE:2 * PAGE + 3] = b"end"
        shared.flush()
        os.fsync(fd)
    os.close(fd)
    os.close(reader)
    fs.remount()
    data = (fs.mnt / "f").read_bytes()
    assert data[10:15] == b"hello" and data[PAGE:PAGE + 7] == b"written" and data[2 * PAGE:2 * PAGE + 3] == b"end" and len(data) == 3 * PAGE


def test_a_mapping_of_the_lower_file_sees_the_copy_that_is_written(fs):
    fs.write("f", b"a" * 2 * PAGE)
    fs.mount()
    reader = os.open(fs.mnt / "f", os.O_RDONLY)
    with mmap.mmap(reader, 2 * PAGE, access=mmap.ACCESS_READ) as view:
        assert view[0] == ord("a")
        with open(fs.mnt / "f", "r+b") as f:
            f.write(b"bbb")
        assert view[0:4] == b"bbba"
        os.unlink(fs.mnt / "f")
        assert view[0:4] == b"bbba" and view[PAGE] == ord("a")
    os.close(reader)


def test_private_mappings_are_private(fs):
    fs.write("f", b"a" * PAGE)
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDONLY)
    with mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[0:1] = b"z"
        assert os.pread(fd, 1, 0) == b"a"
        os.close(fd)
        assert private[0:2] == b"za"
    assert (fs.mnt / "f").read_bytes() == b"a" * PAGE


def test_a_mapping_of_a_truncated_file_gets_sigbus(fs):
    fs.write("f", b"a" * 4 * PAGE)
    fs.mount()
    code = (f"import mmap, os\nfd = os.open({str(fs.mnt / 'f')!r}, os.O_RDWR)\nm = mmap.mmap(fd, {4 * PAGE})\nos.ftruncate(fd, {PAGE})\n"
            f"assert m[0] == 97\nprint('there', flush=True)\nm[{2 * PAGE}]\nprint('not here')")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGBUS and result.stdout == "there\n"


# Open flags

def test_large_reads_are_whole(fs):
    """They are passed on by a pipe, and copied where that cannot be: at any end of a file, in a hole, in a file of the upper."""
    sizes = [65535, 65536, 65537, 131072, 131073, 1 << 20, (1 << 20) + 4097]
    want = {f"f{n}": os.urandom(n) for n in sizes}
    for name, data in want.items():
        fs.write(name, data)
    fs.write("sparse", b"")
    os.truncate(fs.lower / "sparse", 300_000)
    fs.mount()
    for name, data in want.items():
        (fs.mnt / ("up-" + name)).write_bytes(data)
        assert (fs.mnt / name).read_bytes() == data
    assert (fs.mnt / "sparse").read_bytes() == bytes(300_000)
    fs.umount()
    fs.mount()
    for name, data in want.items():
        assert (fs.mnt / ("up-" + name)).read_bytes() == data
        with open(fs.mnt / name, "rb") as f:
            f.seek(100)
            assert f.read() == data[100:]
            assert os.pread(f.fileno(), 4, len(data)) == b""


def test_append_is_atomic_between_processes(fs):
    fs.write("log", b"start\n")
    fs.mount()

    def writer(number):
        fd = os.open(fs.mnt / "log", os.O_WRONLY | os.O_APPEND)
        for i in range(400):
            os.write(fd, b"%d:%04d\n" % (number, i))
        os._exit(0)
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            writer(number)
        pids.append(pid)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0] * 4
    lines = (fs.mnt / "log").read_bytes().split(b"\n")
    assert lines[0] == b"start" and lines[-1] == b"" and len(lines) == 1602
    assert sorted(lines[1:-1]) == sorted(b"%d:%04d" % (n, i) for n in range(4) for i in range(400))
    for n in range(4):  # each writer's own order is kept
        assert [x for x in lines if x.startswith(b"%d:" % n)] == [b"%d:%04d" % (n, i) for i in range(400)]


def test_o_append_ignores_the_position_and_o_trunc_empties(fs):
    fs.write("f", b"0123456789")
    old(fs.lower / "f")
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"ab")
    os.close(fd)
    assert (fs.mnt / "f").read_bytes() == b"0123456789ab"
    fd = os.open(fs.mnt / "f", os.O_RDONLY)
    trunc = os.open(fs.mnt / "f", os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0 and os.read(fd, 5) == b""
    os.close(trunc)
    os.close(fd)
    assert os.stat(fs.mnt / "f").st_size == 0 and time.time() - os.stat(fs.mnt / "f").st_mtime < 60
    fs.write("g", b"lower")
    fd = os.open(fs.mnt / "g", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    os.close(fd)
    assert os.stat(fs.mnt / "g").st_size == 0
    raises(errno.EEXIST, os.open, fs.mnt / "g", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    raises(errno.EISDIR, os.open, fs.mnt, os.O_RDWR)
    raises(errno.ENOTDIR, os.open, fs.mnt / "g", os.O_RDONLY | os.O_DIRECTORY)
    os.symlink("g", fs.mnt / "s")
    raises(errno.ELOOP, os.open, fs.mnt / "s", os.O_RDONLY | os.O_NOFOLLOW)


def test_tmpfile_has_no_name_until_it_is_linked(fs):
    (fs.lower / "d").mkdir()
    fs.mount()
    fd = tmpfile(fs.mnt / "d")
    assert os.fstat(fd).st_nlink == 0 and os.listdir(fs.mnt / "d") == []
    os.write(fd, b"x" * 10000)
    os.fchmod(fd, 0o640)
    os.setxattr(fd, "user.t", b"1")
    number = os.fstat(fd).st_ino
    link_fd(fd, fs.mnt / "d/named")
    assert os.fstat(fd).st_nlink == 1 and os.stat(fs.mnt / "d/named").st_ino == number
    os.write(fd, b"y")
    assert (fs.mnt / "d/named").read_bytes() == b"x" * 10000 + b"y" and os.getxattr(fs.mnt / "d/named", "user.t") == b"1"
    os.close(fd)
    fd = tmpfile(fs.mnt / "d", os.O_EXCL)
    raises(errno.ENOENT, link_fd, fd, fs.mnt / "d/never")
    os.close(fd)
    fs.remount()
    assert os.listdir(fs.mnt / "d") == ["named"] and stat.S_IMODE(os.stat(fs.mnt / "d/named").st_mode) == 0o640
    assert [f for _r, _d, f in os.walk(fs.work) if f] == []


def test_direct_io(fs):
    fs.write("f", b"a" * 16 * PAGE)
    fs.mount()
    try:
        fd = os.open(fs.mnt / "f", os.O_RDWR | os.O_DIRECT)
    except OSError as e:
        assert e.errno == errno.EINVAL and "ext4" not in subprocess.check_output(["stat", "-f", "-c%T", fs.upper], text=True), e
        cannot("open with O_DIRECT on this file system")
    buffered = os.open(fs.mnt / "f", os.O_RDWR)
    with mmap.mmap(-1, 2 * PAGE) as block:
        block[:] = b"b" * 2 * PAGE
        os.pwrite(buffered, b"c" * PAGE, 0)
        assert os.pwritev(fd, [block], 4 * PAGE) == 2 * PAGE
        assert os.pread(buffered, 2 * PAGE, 4 * PAGE) == b"b" * 2 * PAGE
        assert os.preadv(fd, [block], 0) == 2 * PAGE and block[:PAGE] == b"c" * PAGE and block[PAGE:] == b"a" * PAGE
    os.close(fd)
    os.close(buffered)
    data = (fs.mnt / "f").read_bytes()
    assert data == b"c" * PAGE + b"a" * 3 * PAGE + b"b" * 2 * PAGE + b"a" * 10 * PAGE


# Space

def test_fallocate_modes(fs):
    fs.write("f", b"a" * 8 * PAGE)
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, PAGE, 2 * PAGE)
    fallocate(fd, FALLOC_ZERO, 4 * PAGE + 10, 100)
    expected = bytearray(b"a" * 8 * PAGE)
    expected[PAGE:3 * PAGE] = bytes(2 * PAGE)
    expected[4 * PAGE + 10:4 * PAGE + 110] = bytes(100)
    assert os.pread(fd, 9 * PAGE, 0) == expected
    fallocate(fd, FALLOC_KEEP_SIZE, 0, 20 * PAGE)
    assert os.fstat(fd).st_size == 8 * PAGE
    fallocate(fd, 0, 0, 20 * PAGE)
    assert os.fstat(fd).st_size == 20 * PAGE and os.pread(fd, PAGE, 19 * PAGE) == bytes(PAGE)
    raises(errno.EINVAL, fallocate, fd, 0, 0, 0)
    for mode in (FALLOC_COLLAPSE, FALLOC_INSERT):  # the kernel has no request for them: refused, and nothing done
        if not OURS:
            break
        raises(errno.EOPNOTSUPP, fallocate, fd, mode, 0, PAGE)
    os.close(fd)
    fs.remount()
    assert (fs.mnt / "f").read_bytes() == bytes(expected) + bytes(12 * PAGE)
    ro = os.open(fs.mnt / "f", os.O_RDONLY)
    raises(errno.EBADF, fallocate, ro, 0, 0, PAGE)
    os.close(ro)


def holes(path):
    """(start, end) of what has data."""
    found, at = [], 0
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    try:
        while at < size:
            data = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, data, os.SEEK_HOLE)
            found.append((data, at))
    except OSError as e:
        assert e.errno == errno.ENXIO
    os.close(fd)
    return found


@pytest.mark.slice
def test_sparse_files_stay_sparse_over_copy_up(fs):
    with open(fs.lower / "f", "wb") as f:
        f.truncate(256 << 20)
        os.pwrite(f.fileno(), b"x" * PAGE, 64 << 20)
        os.pwrite(f.fileno(), b"y" * PAGE, 200 << 20)
    expected = holes(fs.lower / "f")
    fs.mount()
    assert holes(fs.mnt / "f") == expected
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    os.pwrite(fd, b"z", 0)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 256 << 20 and os.fstat(fd).st_blocks * 512 < 1 << 20
    os.close(fd)
    assert holes(fs.mnt / "f") == [(0, PAGE), *expected]
    assert os.pread(os_fd := os.open(fs.mnt / "f", os.O_RDONLY), PAGE, 200 << 20) == b"y" * PAGE
    os.close(os_fd)


def test_seek_data_sees_what_was_just_written(fs):
    """Also what is still in the page cache only: cp and tar skip what is said to be a hole."""
    fs.mount()
    fd = os.open(fs.mnt / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * PAGE)
    assert os.lseek(fd, 0, os.SEEK_HOLE) in (0, 64 * PAGE)
    os.pwrite(fd, b"x" * PAGE, 32 * PAGE)
    assert os.lseek(fd, 0, os.SEEK_DATA) <= 32 * PAGE < os.lseek(fd, 32 * PAGE, os.SEEK_HOLE)
    subprocess.run(["cp", "--sparse=always", str(fs.mnt / "f"), str(fs.mnt / "copy")], check=True)
    assert (fs.mnt / "copy").read_bytes() == bytes(32 * PAGE) + b"x" * PAGE + bytes(31 * PAGE)
    os.pwrite(fd, b"y", 5 * PAGE)
    subprocess.run(["tar", "-C", str(fs.mnt), "-cSf", str(fs.top / "f.tar"), "f"], check=True)
    out = subprocess.run(["tar", "-xOf", str(fs.top / "f.tar"), "f"], check=True, capture_output=True).stdout
    assert out[5 * PAGE] == ord("y") and len(out) == 64 * PAGE
    os.close(fd)
    raises(errno.ENXIO, os.lseek, (end := os.open(fs.mnt / "f", os.O_RDONLY)), 64 * PAGE, os.SEEK_DATA)
    os.close(end)


def test_copy_file_range(fs):
    data = random.Random(1).randbytes(300_000)
    fs.write("from", data)
    fs.write("to", b"-" * 1000)
    fs.mount()
    a, b = os.open(fs.mnt / "from", os.O_RDONLY), os.open(fs.mnt / "to", os.O_RDWR)
    done = 0
    while done < len(data):
        n = os.copy_file_range(a, b, len(data) - done, done, 500 + done)
        assert n > 0
        done += n
    assert os.copy_file_range(a, b, 10, len(data), 0) == 0
    assert os.pread(b, 1 << 20, 0) == b"-" * 500 + data
    os.pwrite(b, b"!", 600)  # dirty in the cache only, and the source of the next copy
    assert os.copy_file_range(b, b, 50, 590, 100) == 50
    assert os.pread(b, 50, 100) == (b"-" * 500 + data)[590:600] + b"!" + data[101:140]
    raises(errno.EINVAL, os.copy_file_range, b, b, 100, 0, 50)  # onto itself
    outside = os.open(fs.top / "outside", os.O_RDWR | os.O_CREAT)
    try:
        assert os.copy_file_range(a, outside, 1000, 0, 0) == 1000 and os.pread(outside, 1000, 0) == data[:1000]
    except OSError as e:
        assert e.errno == errno.EXDEV
    for fd in (a, b, outside):
        os.close(fd)


def test_statfs(fs):
    fs.write("f", b"")
    fs.mount()
    here, there = os.statvfs(fs.mnt), os.statvfs(fs.upper)
    assert here.f_bsize == there.f_bsize and here.f_blocks == there.f_blocks and here.f_namemax == there.f_namemax == 255
    assert abs(here.f_bavail * here.f_frsize - there.f_bavail * there.f_frsize) < 1 << 30 and here.f_files == there.f_files
    assert os.statvfs(fs.mnt / "f").f_blocks == here.f_blocks


def fill(make):
    """How often make(n) works until there is no room."""
    for n in range(10_000):
        try:
            make(n)
        except OSError as e:
            assert e.errno in (errno.ENOSPC, errno.EDQUOT), e
            return n
    return 10_000


@pytest.mark.parametrize("kind", ["directories", "symlinks", "attributes", "files", "names", "links"])
def test_no_kind_of_file_passes_under_the_limit(fs, needs_ours, kind):
    """A megabyte is that, whatever it is filled with; and when that is gone, it is free again."""
    fs.mount("disk=1M")
    empty = used(fs)

    def make(n):
        path = fs.mnt / f"n{n}"
        if kind == "directories":
            path.mkdir()
        elif kind == "symlinks":
            path.symlink_to("x" * 3000)
        elif kind == "files":
            path.write_bytes(b"x" * 1000)
        elif kind == "names":
            (fs.mnt / f"{n:0250}").touch()
        elif kind == "links":
            (fs.mnt / f"{n:0250}").touch() if n == 0 else os.link(fs.mnt / f"{0:0250}", fs.mnt / f"{n:0250}")
        else:
            path.touch()
            os.setxattr(path, "user.a", b"x" * 3000)
    made = fill(make)
    du = int(subprocess.run(["du", "-s", "-B1", str(fs.upper)], check=True, capture_output=True, text=True).stdout.split()[0])
    assert (1000 < made < 5000 if kind in ("names", "links") else 100 < made < 300) and used(fs) == du <= 1 << 20, (made, used(fs), du)
    fs.remount()
    assert used(fs) == du
    root = (fs.upper.stat().st_blocks) * 512
    for path in fs.mnt.iterdir():
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    assert wait_until(lambda: used(fs) <= empty + root), used(fs)  # the root has grown, and stays so


def test_holes_do_not_count(fs, needs_ours):
    """A sparse file that is far larger than the limit is copied up all the same; what is data of it counts."""
    with open(fs.lower / "f", "wb") as f:
        f.truncate(256 << 20)
        os.pwrite(f.fileno(), b"x" * PAGE, 64 << 20)
    with open(fs.lower / "large", "wb") as f:
        f.write(b"x" * (2 << 20))
    fs.mount("disk=1M")
    append(fs.mnt / "f", b"y")
    assert (fs.mnt / "f").stat().st_size == (256 << 20) + 1 and used(fs) < 100_000
    raises(errno.ENOSPC, append, fs.mnt / "large", b"y")
    before = used(fs)
    fs.remount()
    assert used(fs) == before


def test_what_was_allocated_can_be_written(fs, needs_ours):
    """posix_fallocate(3) promises it. The room counted twice, and only where the limit was far did that not show."""
    try:
        with open(fs.write("f"), "rb") as f:
            fcntl.ioctl(f, 0xC020660B, struct.pack("QQIIII", 0, PAGE, 0, 0, 0, 0))  # FS_IOC_FIEMAP
    except OSError:
        cannot("say where the blocks of a file are")
    fs.mount("disk=2M")
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    fallocate(fd, 1, 0, 3 * PAGE)  # beyond its end, too
    room = os.statvfs(fs.mnt).f_bavail - 6
    os.posix_fallocate(fd, 16 * PAGE, room * PAGE)
    os.pwrite(fd, b"y" * (3 * PAGE), 0)
    os.pwrite(fd, b"x", 20 * PAGE)
    for at in range(0, room - 64, 64):
        assert os.pwrite(fd, b"z" * (64 * PAGE), (16 + at) * PAGE) == 64 * PAGE
    assert 4 * PAGE <= os.pwrite(fd, b"x" * (20 * PAGE), (12 + room) * PAGE) < 20 * PAGE  # four of them are there
    raises(errno.ENOSPC, os.pwrite, fd, b"x" * (20 * PAGE), (32 + room) * PAGE)
    os.close(fd)
    before = used(fs)
    fs.remount()
    assert used(fs) == before <= 2 << 20


@pytest.mark.parametrize("how, size", [("write", n) for n in (1, 777, PAGE, 100_000, 512 << 10, 3_000_000)] +
                         [(how, n) for how in ("overwrite", "copy") for n in (777, 100_000, 3_000_000)])
def test_the_last_that_fits_is_written(fs, needs_ours, how, size):
    """A write beyond the limit is a short one first, whatever its size: the file goes up to the limit, within a block."""
    fs.write("from", b"x" * (4 << 20))
    fs.mount("disk=2M")
    source = os.open(fs.mnt / "from", os.O_RDONLY)
    if how == "overwrite":
        (fs.mnt / "f").write_bytes(b"o" * 300_001)
    fd = os.open(fs.mnt / "f", os.O_RDWR | os.O_CREAT)
    done = os.write(fd, b"x" * ((os.statvfs(fs.mnt).f_bavail - 2) * PAGE + 17)) if size == 1 else 0
    with pytest.raises(OSError) as e:
        while done < 4 << 20:
            n = os.copy_file_range(source, fd, size) if how == "copy" else os.write(fd, b"x" * size)
            assert 0 < n <= size
            done += n
    assert e.value.errno == errno.ENOSPC
    end = os.fstat(fd).st_size
    os.close(fd)
    os.close(source)
    assert end == done and end % PAGE == 0 and (2 << 20) - PAGE < used(fs) <= 2 << 20, (end, done, used(fs))
    assert (fs.mnt / "f").read_bytes() == b"x" * end


def test_a_removed_directory_takes_attributes(fs):
    """Of the lower alone, never changed, and open: it once said ENOENT."""
    (fs.lower / "d").mkdir()
    fs.mount()
    fd = os.open(fs.mnt / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(fs.mnt / "d")
    os.setxattr(fd, "user.a", b"x")
    os.fchmod(fd, 0o711)
    assert os.getxattr(fd, "user.a") == b"x" and stat.S_IMODE(os.fstat(fd).st_mode) == 0o711 and os.listdir(fd) == []
    os.close(fd)
    assert not (fs.mnt / "d").exists()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_removed_directory_keeps_its_times(fs, how):
    """Whiteouts go with it, of which who has it open is to see nothing."""
    fs.write("d/f", b"x")
    fs.mount()
    os.unlink(fs.mnt / "d/f")
    os.utime(fs.mnt / "d", ns=(10**18, 10**18))
    fd = os.open(fs.mnt / "d", os.O_RDONLY | os.O_DIRECTORY)
    if how == "removed":
        os.rmdir(fs.mnt / "d")
    else:
        os.mkdir(fs.mnt / "other")
        os.rename(fs.mnt / "other", fs.mnt / "d")
    found = os.fstat(fd)
    os.close(fd)
    assert (found.st_nlink, found.st_mtime_ns) == (0, 10**18)


def test_what_shuts_out_its_owner_is_counted(fs, needs_ours):
    """A directory that the caller may not enter once ended the next mount with a limit."""
    fs.mount("disk=1M")
    (fs.mnt / "d/e").mkdir(parents=True)
    (fs.mnt / "d/e/f").write_bytes(b"x" * 100_000)
    (fs.mnt / "d/e").chmod(0)
    (fs.mnt / "d").chmod(0)
    before = used(fs)
    fs.remount()
    assert before > 100_000 and used(fs) == before
    (fs.mnt / "d").chmod(0o700)
    (fs.mnt / "d/e").chmod(0o700)


# Locks

def in_child(function):
    """Its value, from another process: locks are between processes."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, repr(function()).encode())
        except OSError as e:
            os.write(w, repr(errno.errorcode[e.errno]).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return eval(text)  # our own repr


def lock(fd, command, kind, start=0, size=0):
    return fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, size, 0))


@pytest.mark.parametrize("kind", ["posix", "ofd", "flock"])
def test_locks(fs, kind):
    fs.write("f", b"0" * 100)
    fs.mount()
    path = fs.mnt / "f"
    f_ofd_setlk, f_ofd_getlk = 37, 36

    def take(fd, how=fcntl.F_WRLCK, start=0, size=10):
        if kind == "flock":
            return fcntl.flock(fd, {fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_UNLCK: fcntl.LOCK_UN}[how] | fcntl.LOCK_NB)
        return lock(fd, f_ofd_setlk if kind == "ofd" else fcntl.F_SETLK, how, start, size) and None

    def other(how=fcntl.F_WRLCK, start=0, size=10):
        def attempt():
            fd = os.open(path, os.O_RDWR)
            take(fd, how, start, size)
            return "got"
        return in_child(attempt)
    fd = os.open(path, os.O_RDWR)
    take(fd)
    assert other() in ("EAGAIN", "EACCES")
    os.pwrite(fd, b"1", 0)  # copied up by now: the lock holds still
    assert other() in ("EAGAIN", "EACCES")
    if kind != "flock":
        assert other(start=10) == "got"
        found = struct.unpack("hhqqi4x", in_child(lambda: lock(os.open(path, os.O_RDWR), f_ofd_getlk if kind == "ofd" else fcntl.F_GETLK, fcntl.F_WRLCK, 5, 1)))
        assert found[0] == fcntl.F_WRLCK and found[2:4] == (0, 10) and found[4] == (os.getpid() if kind == "posix" else -1)
    take(fd, fcntl.F_RDLCK)
    assert other(fcntl.F_RDLCK) == "got" and other() in ("EAGAIN", "EACCES")
    take(fd, fcntl.F_UNLCK)
    assert other() == "got"
    if kind == "posix":  # goes with any descriptor that is closed; the others do not
        take(fd)
        os.close(os.open(path, os.O_RDONLY))
        assert other() == "got"
    else:
        take(fd)
        os.close(os.open(path, os.O_RDONLY))
        assert other() in ("EAGAIN", "EACCES")
        second = os.open(path, os.O_RDWR)
        raises(errno.EAGAIN, take, second)
        os.close(second)
    os.close(fd)
    assert other() == "got"


def test_a_blocking_lock_is_granted_when_the_holder_goes(fs):
    fs.write("f", b"x")
    fs.mount()
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(fs.mnt / "f", os.O_RDWR)
        lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK)
        os.write(ready_w, b"x")
        time.sleep(.3)
        os.write(ready_w, b"y")
        os._exit(0)
    assert os.read(ready_r, 1) == b"x"
    fd = os.open(fs.mnt / "f", os.O_RDWR)
    start = time.monotonic()
    lock(fd, fcntl.F_SETLKW, fcntl.F_WRLCK)
    assert select.select([ready_r], [], [], 0)[0] and os.read(ready_r, 1) == b"y", "it was had while another held it"
    assert time.monotonic() - start < 30 * SLOW
    os.waitpid(pid, 0)
    for x in (fd, ready_r, ready_w):
        os.close(x)


def test_fsync_of_files_and_directories(fs):
    fs.write("low/f", b"x")
    fs.mount()
    for path, flags in ((fs.mnt / "low/f", os.O_RDWR), (fs.mnt / "low/f", os.O_RDONLY), (fs.mnt / "new", os.O_RDWR | os.O_CREAT), (fs.mnt / "low", os.O_RDONLY),
                        (fs.mnt, os.O_RDONLY)):
        fd = os.open(path, flags)
        if flags & os.O_RDWR:
            os.write(fd, b"data")
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
    assert libc.syncfs(fd := os.open(fs.mnt, os.O_RDONLY)) == 0
    os.close(fd)
    assert (fs.upper / "new").read_bytes() == b"data" and (fs.upper / "low/f").read_bytes() == b"data"


# Extended attributes and ACLs

def test_xattrs(fs):
    fs.write("f", b"x")
    os.setxattr(fs.lower / "f", "user.lower", b"\0\1value")
    fs.write("low/f", b"x")
    os.setxattr(fs.lower / "low", "user.dir", b"r")
    fs.mount()
    f = fs.mnt / "f"
    (fs.mnt / "low/new").write_bytes(b"")
    assert os.getxattr(f, "user.lower") == b"\0\1value" and os.getxattr(fs.mnt / "low", "user.dir") == b"r"
    raises(errno.EEXIST, os.setxattr, f, "user.lower", b"2", os.XATTR_CREATE)
    raises(errno.ENODATA, os.setxattr, f, "user.none", b"2", os.XATTR_REPLACE)
    raises(errno.ENODATA, os.getxattr, f, "user.none")
    raises(errno.ENODATA, os.removexattr, f, "user.none")
    os.setxattr(f, "user.upper", b"")
    os.setxattr(f, "user.big", b"B" * 3000)
    os.removexattr(f, "user.lower")
    for again in (False, True):
        assert sorted(n for n in os.listxattr(f) if n.startswith("user.")) == ["user.big", "user.upper"]
        assert os.getxattr(f, "user.big") == b"B" * 3000 and os.getxattr(f, "user.upper") == b""
        if not again:
            fs.remount()
    size = libc.getxattr(os.fsencode(f), b"user.big", None, 0)
    assert size == 3000
    assert libc.getxattr(os.fsencode(f), b"user.big", ctypes.create_string_buffer(10), 10) == -1 and ctypes.get_errno() == errno.ERANGE
    os.symlink("f", fs.mnt / "s")
    raises(errno.EPERM, os.setxattr, fs.mnt / "s", "user.x", b"1", follow_symlinks=False)
    (fs.mnt / "d").mkdir()
    os.setxattr(fs.mnt / "d", "user.d", b"dir")
    os.rename(fs.mnt / "d", fs.mnt / "e")
    assert os.getxattr(fs.mnt / "e", "user.d") == b"dir"
    raises(errno.EOPNOTSUPP, os.setxattr, f, "nonsense.x", b"1")
    raises(errno.ERANGE, os.setxattr, f, "user." + "n" * 256, b"1")
    os.setxattr(f, "user." + "n" * 250, b"1")
    assert os.getxattr(f, "user." + "n" * 250) == b"1"


def test_private_names_are_the_servers_own(fs):
    """Whiteouts and redirects cannot be forged, nor seen, from inside."""
    fs.write("d/f", b"x")
    fs.mount()
    os.rename(fs.mnt / "d", fs.mnt / "e")
    (fs.mnt / "d").mkdir()
    (fs.mnt / "e/new").write_bytes(b"")
    append(fs.mnt / "e/f", b"y")
    for path in (fs.mnt / "d", fs.mnt / "e", fs.mnt / "e/f", fs.mnt / "e/new", fs.mnt):
        assert [n for n in os.listxattr(path) if "overlay" in n or "usbox" in n] == []
        for name in ("user.overlay.opaque", "user.overlay.redirect", "user.overlay.usbox.origin", "user.overlay.metacopy", "user.overlay.anything"):
            raises(errno.EPERM, os.setxattr, path, name, b"y")
            with pytest.raises(OSError) as caught:
                os.getxattr(path, name)
            assert caught.value.errno in (errno.ENODATA, errno.EPERM, errno.EOPNOTSUPP)
            with pytest.raises(OSError) as caught:
                os.removexattr(path, name)
            assert caught.value.errno in (errno.ENODATA, errno.EPERM, errno.EOPNOTSUPP)
    if os.getuid() != 0:
        raises(errno.EPERM, os.mknod, fs.mnt / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    raises(errno.EPERM, os.mknod, fs.mnt / "whiteout", stat.S_IFCHR | 0o666, 0)
    assert sorted(os.listdir(fs.mnt)) == ["d", "e"]


def test_acls(fs):
    fs.write("f", b"x", 0o640)
    fs.write("d/in", b"x")
    subprocess.run(["setfacl", "-m", f"u:{os.getuid()}:rw", str(fs.lower / "f")], check=True)
    fs.mount()

    def acl(name):
        return subprocess.run(["getfacl", "-cpE", str(fs.mnt / name)], check=True, capture_output=True, text=True).stdout.split()
    me = str(subprocess.check_output(["id", "-un"], text=True).strip())
    assert f"user:{me}:rw-" in acl("f") and "mask::rw-" in acl("f")
    append(fs.mnt / "f", b"y")
    assert f"user:{me}:rw-" in acl("f") and "mask::rw-" in acl("f")
    subprocess.run(["setfacl", "-m", f"u:{me}:r", "-d", "-m", f"u:{me}:rwx,g::r-x,o::---", str(fs.mnt / "d")], check=True)
    subprocess.run(["setfacl", "-m", f"u:{me}:r-x", str(fs.mnt / "d")], check=True)
    assert f"default:user:{me}:rwx" in acl("d") and f"user:{me}:r-x" in acl("d")
    fd = os.open(fs.mnt / "d/new", os.O_CREAT | os.O_WRONLY, 0o666)
    os.close(fd)
    (fs.mnt / "d/sub").mkdir()
    assert f"user:{me}:rwx" in acl("d/new") and "mask::rw-" in acl("d/new") and "other::---" in acl("d/new")
    assert f"default:user:{me}:rwx" in acl("d/sub")
    fs.remount()
    assert f"default:user:{me}:rwx" in acl("d/sub") and f"user:{me}:rw-" in acl("f")
    os.chmod(fs.mnt / "f", 0o600)
    assert "mask::---" in acl("f")
    subprocess.run(["setfacl", "-b", str(fs.mnt / "f")], check=True)
    assert not any("mask" in x for x in acl("f"))
    subprocess.run(["setfacl", "-m", "u::r", str(fs.mnt / "f")], check=True)
    assert stat.S_IMODE(os.stat(fs.mnt / "f").st_mode) == 0o400


def test_a_file_whose_acl_lets_nobody_write_is_copied_up(fs):
    for name in ("f", "g", "d/in"):
        fs.write(name, b"content")
    for name, which in (("f", "u::r,g::r"), ("g", "u::r,g::-"), ("d", "u::rx,g::rx")):
        os.setxattr(fs.lower / name, "user.a", b"goes along")
        os.setxattr(fs.lower / name, "user.z", b"too")
        subprocess.run(["setfacl", "-m", f"{which},u:{os.getuid()}:rwx,m::rx,o::-", str(fs.lower / name)], check=True)

    def seen(name):
        found = {n: os.getxattr(fs.mnt / name, n) for n in sorted(os.listxattr(fs.mnt / name))}
        assert list(found) == ["system.posix_acl_access", "user.a", "user.z"]
        return found, stat.filemode((fs.mnt / name).stat().st_mode)
    fs.mount()
    before = [seen(name) for name in ("f", "g", "d")]
    os.utime(fs.mnt / "f", ns=(OLD, OLD))
    os.rename(fs.mnt / "g", fs.mnt / "h")
    os.utime(fs.mnt / "d", ns=(OLD, OLD))
    assert [seen(name) for name in ("f", "h", "d")] == before
    os.chmod(fs.mnt / "h", 0o644)
    append(fs.mnt / "h", b"more")
    assert (fs.mnt / "h").read_bytes() == b"contentmore" and (fs.mnt / "f").read_bytes() == b"content"


def test_a_closed_directory_is_given_to_another_group_of_its_owners(fs):
    """chown(2) asks for no right to search it. Who is in one group only can give it to that one again."""
    group = max(set(os.getgroups()) - {os.getgid()}, default=os.getgid())
    (fs.lower / "d").mkdir()
    fs.mount()
    (fs.mnt / "d").chmod(0o600)
    os.chown(fs.mnt / "d", -1, group)
    assert (fs.mnt / "d").stat().st_gid == group


def test_a_long_acl_goes_along_with_a_fifo(fs, needs_ours):
    """One of more than 4096 bytes, which tmpfs keeps, and the kernel's FUSE says of none: without it the mask would be what the group may."""
    entries = [(1, 6, 0xffffffff), *[(2, 4, 3000 + i) for i in range(600)], (4, 0, 0xffffffff), (0x10, 6, 0xffffffff), (0x20, 0, 0xffffffff)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as top:
        fs.lowers, fs.upper, fs.work = [pathlib.Path(top, "l")], pathlib.Path(top, "u"), pathlib.Path(top, "w")
        for d in (fs.lower, fs.upper, fs.work):
            d.mkdir()
        os.mkfifo(fs.lower / "fifo")
        try:
            os.setxattr(fs.lower / "fifo", "system.posix_acl_access", acl)
        except OSError:
            cannot("keep a long ACL in /dev/shm")
        fs.mount()
        os.utime(fs.mnt / "fifo", ns=(1, 1))
        fs.umount()
        assert os.getxattr(fs.upper / "fifo", "system.posix_acl_access") == acl and (fs.upper / "fifo").stat().st_mtime_ns == 1
        remove_tree(fs.work)


def test_default_acls_where_something_was_before(fs):
    """A name that a whiteout holds in the upper is made anew like any other: what the directory bequeaths is inherited, whatever kind it is."""
    kinds = {
        "file": lambda p, m: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, m)), "dir": os.mkdir, "fifo": os.mkfifo,
        "node": lambda p, m: os.mknod(p, stat.S_IFREG | m), "socket": lambda p, m: os.mknod(p, stat.S_IFSOCK | m)}
    modes = (0o777, 0o644, 0o555, 0)
    for kind in kinds:
        for mode in modes:
            fs.write(f"d/{kind}{mode}", b"")
    fs.mount()
    d = fs.mnt / "d"
    subprocess.run(["setfacl", "-d", "-m", f"u::rwx,g::r-x,o::---,u:{os.getuid()}:rw", str(d)], check=True)
    for kind, make in kinds.items():
        for mode in modes:
            os.unlink(d / f"{kind}{mode}")
            make(d / f"{kind}{mode}", mode)
            make(d / f"new-{kind}{mode}", mode)

    def seen(path):
        return oct(os.stat(path).st_mode), subprocess.run(["getfacl", "-cp", str(path)], check=True, capture_output=True, text=True).stdout
    for kind in kinds:
        for mode in modes:
            assert seen(d / f"{kind}{mode}") == seen(d / f"new-{kind}{mode}"), (kind, oct(mode))
            assert f"user:{subprocess.check_output(['id', '-un'], text=True).strip()}:rw-" in seen(d / f"{kind}{mode}")[1]


def test_a_name_elsewhere_that_cannot_be_reached_is_no_hindrance(fs):
    """One name of a file is in a directory that nobody may search now: all that is done by the other name goes on."""
    fs.write("a/f", b"1")
    (fs.lower / "b/deep").mkdir(parents=True)
    os.link(fs.lower / "a/f", fs.lower / "b/deep/f")
    fs.mount()
    for n in ("new", "sym"):
        os.symlink("x", fs.mnt / f"b/deep/{n}") if n == "sym" else (fs.mnt / f"b/deep/{n}").write_bytes(b"n")
        os.link(fs.mnt / f"b/deep/{n}", fs.mnt / f"a/{n}", follow_symlinks=False)
    assert os.stat(fs.mnt / "b/deep/f").st_nlink == 2
    (fs.mnt / "b/deep").chmod(0)
    (fs.mnt / "b").chmod(0o600)
    for again in (False, True):
        append(fs.mnt / "a/f", b"2")
        (fs.mnt / "a/new").chmod(0o640)
        assert {os.lstat(fs.mnt / f"a/{n}").st_nlink for n in ("f", "new", "sym")} == {2}
        if not again:
            fs.remount()
    for n in ("f", "new", "sym"):
        os.rename(fs.mnt / f"a/{n}", fs.mnt / n)
        os.unlink(fs.mnt / n)
    (fs.mnt / "b").chmod(0o700)
    (fs.mnt / "b/deep").chmod(0o700)
    assert (fs.mnt / "b/deep/f").read_bytes() == b"122" and {os.lstat(fs.mnt / f"b/deep/{n}").st_nlink for n in ("f", "new", "sym")} == {1}


def test_hard_linked_symlinks_of_the_lower_stay_one(fs):
    (fs.lower / "d").mkdir()
    (fs.lower / "s").symlink_to("t")
    for n in ("s2", "d/s3"):
        os.link(fs.lower / "s", fs.lower / n, follow_symlinks=False)
    fs.mount()
    assert [os.lstat(fs.mnt / n).st_nlink for n in ("s", "s2", "d/s3")] == [3, 3, 3]
    os.rename(fs.mnt / "s", fs.mnt / "d/x")
    os.utime(fs.mnt / "s2", ns=(OLD, OLD), follow_symlinks=False)
    assert {identity(fs.mnt / n) for n in ("d/x", "s2", "d/s3")} == {identity(fs.mnt / "s2")}
    assert {os.lstat(fs.mnt / n).st_mtime_ns for n in ("d/x", "s2", "d/s3")} == {OLD}
    os.unlink(fs.mnt / "d/s3")
    assert [os.lstat(fs.mnt / n).st_nlink for n in ("d/x", "s2")] == [2, 2]


# Other kinds of files

def test_sockets(fs):
    fs.write("d/x", b"")
    fs.mount()
    path = str(fs.mnt / "d/s")
    os.chdir(fs.mnt / "d")
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("s")
            server.listen()
            assert stat.S_ISSOCK(os.stat(path).st_mode)
            client.connect("s")
            conn, _ = server.accept()
            with conn:
                client.sendall(b"ping")
                assert conn.recv(9) == b"ping"
            os.rename(path, path + "2")
            with socket.socket(socket.AF_UNIX) as again:
                again.connect("s2")
            with socket.socket(socket.AF_UNIX) as third:
                raises(errno.EADDRINUSE, third.bind, "s2")
        with socket.socket(socket.AF_UNIX) as late:
            raises(errno.ECONNREFUSED, late.connect, "s2")
    finally:
        os.chdir("/")
    os.unlink(path + "2")
    assert os.listdir(fs.mnt / "d") == ["x"]


def test_fifos(fs):
    fs.mount()
    os.mkfifo(fs.mnt / "p", 0o640)
    assert stat.S_ISFIFO(os.stat(fs.mnt / "p").st_mode) and stat.S_IMODE(os.stat(fs.mnt / "p").st_mode) == 0o640
    raises(errno.ENXIO, os.open, fs.mnt / "p", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open(fs.mnt / "p", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fs.mnt / "p", os.O_WRONLY)
    os.write(writer, b"through")
    assert os.read(reader, 20) == b"through"
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    fs.remount()
    assert stat.S_ISFIFO(os.stat(fs.mnt / "p").st_mode)


def test_symlinks(fs):
    long = "x/" * 2000
    (fs.lower / "low").symlink_to("../odd target \n")
    fs.mount()
    assert os.readlink(fs.mnt / "low") == "../odd target \n" and os.lstat(fs.mnt / "low").st_size == 15
    os.symlink(long, fs.mnt / "long")
    assert os.readlink(fs.mnt / "long") == long and os.lstat(fs.mnt / "long").st_size == len(long)
    raises(errno.ENAMETOOLONG, os.symlink, "x" * 5000, fs.mnt / "longer")
    old(fs.mnt / "low")
    os.rename(fs.mnt / "low", fs.mnt / "moved")
    assert os.readlink(fs.mnt / "moved") == "../odd target \n" and os.lstat(fs.mnt / "moved").st_mtime_ns == OLD
    os.symlink("loop", fs.mnt / "loop")
    raises(errno.ELOOP, os.stat, fs.mnt / "loop")


# Times

@pytest.mark.slice
def test_a_umask_that_takes_all_rights(fs):
    """useradd makes files under one: what was there before keeps its mode over copy-up, and can be written."""
    for n in ("f", "d/f", "e/g"):
        fs.write(n, b"lower")
    os.mkfifo(fs.lower / "fifo", 0o640)
    fs.mount("threads=1")
    before = os.umask(0o777)
    try:
        (fs.mnt / "new").touch()
        append(fs.mnt / "f", b"!")
        (fs.mnt / "new2").touch()
        (fs.mnt / "d/new").touch()
        append(fs.mnt / "d/f", b"!")
        (fs.mnt / "e/new").mkdir()
        os.rename(fs.mnt / "fifo", fs.mnt / "fifo2")
    finally:
        os.umask(before)
    found = {n: stat.S_IMODE(os.stat(fs.mnt / n).st_mode) for n in ("new", "f", "new2", "d", "d/new", "d/f", "e", "e/new", "fifo2")}
    assert found == {"new": 0, "f": 0o644, "new2": 0, "d": 0o755, "d/new": 0, "d/f": 0o644, "e": 0o755, "e/new": 0, "fifo2": 0o640}
    assert (fs.mnt / "f").read_bytes() == (fs.mnt / "d/f").read_bytes() == b"lower!"
    os.chmod(fs.mnt / "e/new", 0o755)


def test_times_to_the_nanosecond(fs):
    fs.write("d/f", b"x" * 1000)
    (fs.lower / "d/s").symlink_to("f")
    for n in ("d/f", "d/s", "d"):
        old(fs.lower / n)
    fs.mount()
    d, f = fs.mnt / "d", fs.mnt / "d/f"
    assert os.lstat(f).st_mtime_ns == os.lstat(d / "s").st_mtime_ns == os.stat(d).st_mtime_ns == OLD
    f.chmod(0o600)  # copied up, not written: still of that time, and so is the directory
    assert os.stat(f).st_mtime_ns == OLD and os.stat(d).st_mtime_ns == OLD and os.stat(f).st_ctime_ns > OLD
    os.setxattr(f, "user.t", b"1")
    os.link(f, fs.mnt / "elsewhere")
    assert os.stat(f).st_mtime_ns == OLD and os.stat(d).st_mtime_ns == OLD
    os.utime(d / "s", ns=(7, 1234567890_123456789), follow_symlinks=False)
    os.utime(f, ns=(1_000_000_001, 4_000_000_000_999_999_999))  # beyond 2038
    assert os.stat(f).st_atime_ns == 1_000_000_001 and os.stat(f).st_mtime_ns == 4_000_000_000_999_999_999
    os.utime(f, ns=(5, -12_345_678_901))  # before 1970
    fs.remount()
    assert os.stat(f).st_mtime_ns == -12_345_678_901 and os.lstat(d / "s").st_mtime_ns == 1234567890_123456789 and os.stat(d).st_mtime_ns == OLD
    fd = os.open(f, os.O_WRONLY)
    os.close(fd)
    assert os.stat(f).st_mtime_ns == -12_345_678_901  # opened for writing is not written
    before = time.time_ns() - 1_000_000_000  # the kernel's time of files is that of its last tick, which a processor that is taken away has late
    append(f, b"y")
    after = os.stat(f)
    assert before <= after.st_mtime_ns <= time.time_ns() and after.st_ctime_ns >= before
    (d / "new").write_bytes(b"")
    assert os.stat(d).st_mtime_ns >= before
    old(d)
    os.unlink(d / "s")  # lower: a whiteout is made
    assert os.stat(d).st_mtime_ns > OLD
    fd = os.open(f, os.O_RDWR)
    os.write(fd, b"z")
    os.utime(fd, ns=(OLD, OLD))  # what is in the cache must not stamp it again
    os.close(fd)
    assert os.stat(f).st_mtime_ns == OLD
    fs.remount()
    assert os.stat(f).st_mtime_ns == OLD
    os.utime(f, None)
    assert abs(os.stat(f).st_mtime_ns - time.time_ns()) < 10_000_000_000


def test_no_time_changes_by_itself(fs):
    """What a file's mtime is once it is closed, it is for good: also when its data reach the server only later."""
    for i in range(60):
        fs.write(f"low{i}", b"low")
    fs.mount()
    for i in range(60):
        (fs.mnt / f"new{i}").write_bytes(b"x" * 5000)
        (fs.mnt / f"low{i}").write_bytes(b"y" * 5000)
        append(fs.mnt / f"low{i}", b"z")
    before = {n: os.stat(fs.mnt / n).st_mtime_ns for n in os.listdir(fs.mnt)}
    time.sleep(.1)
    fs.remount()
    after = {n: os.stat(fs.mnt / n).st_mtime_ns for n in before}
    changed = {n: after[n] - before[n] for n in before if after[n] != before[n]}
    assert not changed, f"{len(changed)} of {len(before)}: {dict(list(changed.items())[:3])}"


def test_setuid_bits_go_when_written(fs):
    if os.getuid() == 0:
        cannot("lose setuid bits: root keeps them")
    for n in ("write", "truncate", "mmap", "keep"):
        fs.write(n, b"x" * PAGE, 0o6755)
    fs.mount()
    append(fs.mnt / "write", b"y")
    os.truncate(fs.mnt / "truncate", 1)
    for n in ("write", "truncate"):
        assert stat.S_IMODE(os.stat(fs.mnt / n).st_mode) == 0o755, n
    old(fs.mnt / "keep")
    (fs.mnt / "keep").rename(fs.mnt / "kept")
    assert stat.S_IMODE(os.stat(fs.mnt / "kept").st_mode) == 0o6755
    (fs.mnt / "d").mkdir()
    (fs.mnt / "d").chmod(0o2775)
    (fs.mnt / "d/sub").mkdir()
    assert os.stat(fs.mnt / "d/sub").st_mode & stat.S_ISGID
    fs.remount()
    assert stat.S_IMODE(os.stat(fs.mnt / "kept").st_mode) == 0o6755 and stat.S_IMODE(os.stat(fs.mnt / "write").st_mode) == 0o755


# Directories

@pytest.mark.limit(120)
def test_a_hundred_thousand_entries(fs):
    lower = fs.lower / "big"
    lower.mkdir()
    for i in range(50_000):
        os.mknod(lower / f"low{i:06}")
    fs.mount()
    big = fs.mnt / "big"
    for i in range(50_000):
        os.mknod(big / f"new{i:06}")
    names = os.listdir(big)
    assert len(names) == len(set(names)) == 100_000
    for i in range(0, 50_000, 50):
        os.unlink(big / f"low{i:06}")
    assert len(os.listdir(big)) == 99_000
    assert sum(1 for e in os.scandir(big) if e.is_file()) == 99_000


def test_readdir_is_stable_under_change(fs):
    """What is there from start to end is seen once, whatever comes and goes meanwhile."""
    (fs.lower / "d").mkdir()
    for i in range(3000):
        for kind in ("stay", "go", "turn"):
            os.mknod(fs.lower / f"d/{kind}{i:05}")
    fs.mount()
    d = fs.mnt / "d"
    for first in (0, 1500):
        seen = []
        with os.scandir(d) as entries:
            for number, e in enumerate(entries):
                seen.append(e.name)
                i = number // 3
                if number % 3 == 0 and i < 1500:
                    os.unlink(d / f"go{first + i:05}")
                    (d / f"new{first + i:05}").write_bytes(b"")
                    os.rename(d / f"turn{first + i:05}", d / f"turned{first + i:05}")
        stay = [n for n in seen if n.startswith("stay")]
        assert len(stay) == 3000 and len(set(stay)) == 3000
        assert len(set(seen)) == len(seen)
    assert len(os.listdir(d)) == 9000


def test_rm_rf_of_a_big_directory_while_it_is_read(fs):
    for i in range(5000):
        fs.write(f"d/s{i % 5}/f{i}", b"")
    fs.mount()
    subprocess.run(["rm", "-rf", str(fs.mnt / "d")], check=True)
    assert os.listdir(fs.mnt) == []
    (fs.mnt / "d").mkdir()
    assert os.listdir(fs.mnt / "d") == []


def test_seekdir_and_rewinddir(fs):
    for i in range(500):
        fs.write(f"d/{i:04}", b"")
    fs.mount()
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    for f in (libc.readdir, libc.closedir, libc.rewinddir, libc.telldir):
        f.argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    handle = libc.opendir(os.fsencode(fs.mnt / "d"))

    def name():
        entry = libc.readdir(handle)
        return ctypes.string_at(entry + 19) if entry else None
    first = [name() for _ in range(200)]
    at = libc.telldir(handle)
    rest = []
    while n := name():
        rest.append(n)
    assert len(set(first + rest)) == 502
    libc.seekdir(handle, at)
    assert [name() for _ in rest] == rest and name() is None
    (fs.mnt / "d/late").write_bytes(b"")
    libc.rewinddir(handle)
    again = []
    while n := name():
        again.append(n)
    assert sorted(again) == sorted([*first, *rest, b"late"])
    libc.closedir(handle)


@pytest.mark.parametrize("options", [(), ("disk=1G",)])
def test_anothers_file_that_all_may_write(fs, needs_ours, options):
    """An upper that was made with subordinate ids, and is used without: who may write a file may cut it off as well, and its times are the clock's."""
    (fs.upper / "f").write_bytes(b"content")
    (fs.upper / "f").chmod(0o666)
    if subprocess.run(["unshare", "-U", "--map-root-user", "--map-auto", "chown", "1:1", str(fs.upper / "f")], capture_output=True, check=False).returncode != 0:
        cannot("make a user namespace with subordinate ids: this user has none, or newuidmap(1) is not there")
    fs.mount(*options)
    f = fs.mnt / "f"
    assert f.stat().st_uid != os.getuid()
    os.truncate(f, 2)
    assert f.read_bytes() == b"co" and f.stat().st_size == 2
    os.utime(f)
    raises(errno.EPERM, os.utime, f, ns=(OLD, OLD))
    with open(f, "ab") as out:
        out.write(b"py")
        out.flush()
        os.fsync(out.fileno())
    assert f.read_bytes() == b"copy"
    f.write_bytes(b"")
    assert f.stat().st_size == 0


def test_a_directory_below_one_that_a_lower_layer_renamed(fs, needs_ours):
    """The mark is of the place in the layers as they are merged: where the bottom one has it, the one above has a whiteout."""
    fs.write("a/in/deep/f", b"f")
    fs.mount()
    os.rename(fs.mnt / "a", fs.mnt / "b")
    fs.umount()
    fs.lowers.insert(0, fs.upper)
    fs.upper, fs.work = fs.top / "upper2", fs.top / "work2"
    for d in (fs.upper, fs.work):
        d.mkdir()
    fs.mount()
    os.rename(fs.mnt / "b/in/deep", fs.mnt / "c")
    for to in ("d", "e"):
        fs.remount()
        assert (fs.mnt / "c/f").read_bytes() == b"f" and os.listdir(fs.mnt / "b/in") == []
        os.rename(fs.mnt / "c", fs.mnt / to)
        assert (fs.mnt / to / "f").read_bytes() == b"f"
        os.rename(fs.mnt / to, fs.mnt / "c")
    os.rename(fs.mnt / "b", fs.mnt / "back")
    fs.remount()
    assert (fs.mnt / "c/f").read_bytes() == b"f" and os.listdir(fs.mnt / "back/in") == []


def test_places_in_a_listing_are_small(fs):
    """A program of 32 bits that was not built for large files takes no others: readdir(3) of glibc gives up with EOVERFLOW."""
    for i in range(2000):
        fs.write(f"d/{i}", b"")
    fs.mount()
    fd = os.open(fs.mnt / "d", os.O_RDONLY | os.O_DIRECTORY)
    buffer = ctypes.create_string_buffer(4096)
    places = []
    while (n := libc.getdents64(fd, buffer, len(buffer))) > 0:
        at = 0
        while at < n:
            places.append(int.from_bytes(buffer.raw[at + 8:at + 16], "little"))
            at += int.from_bytes(buffer.raw[at + 16:at + 18], "little")
    os.close(fd)
    assert n == 0 and len(set(places)) == 2002 and max(places) < 1 << 31


def test_names(fs):
    """255 bytes, bytes that are no UTF-8, and whatever else a name may have."""
    odd = [b"n" * 255, b"\xff\xfe\x80", bytes(range(1, 0x2f)), bytes(range(0x30, 0x100)), b" ", b"\n", b"..a", b"...", b"-rf", b"*", "ünïcödé-名前".encode(),
           b"user.overlay.opaque", b"a.wh.b", b"%2f", b"\\x"]
    lower, mnt = os.fsencode(fs.lower), os.fsencode(fs.mnt)
    for name in odd:
        with open(os.path.join(lower, name), "wb") as f:
            f.write(name)
    fs.mount()
    assert sorted(os.listdir(mnt)) == sorted(odd)
    for name in odd:
        with open(os.path.join(mnt, name), "ab") as f:
            f.write(b"+")
    os.mkdir(os.path.join(mnt, b"d"))
    for name in odd:
        os.rename(os.path.join(mnt, name), os.path.join(mnt, b"d", name))
        with open(os.path.join(mnt, name), "wb") as f:
            f.write(b"again")
    fs.remount()
    assert sorted(os.listdir(mnt)) == sorted([*odd, b"d"]) and sorted(os.listdir(os.path.join(mnt, b"d"))) == sorted(odd)
    for name in odd:
        with open(os.path.join(mnt, b"d", name), "rb") as f:
            assert f.read() == name + b"+"
        os.unlink(os.path.join(mnt, name))
    raises(errno.ENAMETOOLONG, os.mkdir, os.path.join(mnt, b"n" * 256))
    raises(errno.ENAMETOOLONG, os.stat, os.path.join(mnt, b"n" * 256))
    assert os.listdir(mnt) == [b"d"]


def test_dot_and_dot_dot(fs):
    fs.write("a/b/f", b"")
    fs.mount()
    a = os.stat(fs.mnt / "a").st_ino
    assert os.stat(fs.mnt / "a/b/..").st_ino == a and os.stat(fs.mnt / "a/.").st_ino == a
    os.rename(fs.mnt / "a/b", fs.mnt / "b")
    assert os.stat(fs.mnt / "b/..").st_ino == os.stat(fs.mnt).st_ino
    out = subprocess.check_output(["ls", "-ai", str(fs.mnt / "b")], text=True).split()
    assert out[:4] == [str(os.stat(fs.mnt / "b").st_ino), ".", str(os.stat(fs.mnt).st_ino), ".."]


# Watchers

def test_inotify(fs):
    fs.write("d/f", b"x")
    fs.mount()
    fd = libc.inotify_init1(os.O_NONBLOCK)
    create, delete, modify, moved_from, moved_to, attrib, close_write = 0x100, 0x200, 2, 0x40, 0x80, 4, 8
    assert libc.inotify_add_watch(fd, os.fsencode(fs.mnt / "d"), create | delete | modify | moved_from | moved_to | attrib | close_write) >= 0
    d = fs.mnt / "d"
    append(d / "f", b"y")
    (d / "new").write_bytes(b"")
    os.rename(d / "new", d / "newer")
    (d / "f").chmod(0o600)
    os.unlink(d / "f")
    events = []
    data = os.read(fd, 65536)
    while data:
        _wd, mask, _cookie, size = struct.unpack_from("iIII", data)
        events.append((mask, data[16:16 + size].rstrip(b"\0")))
        data = data[16 + size:]
    os.close(fd)
    for expected in ((modify, b"f"), (close_write, b"f"), (create, b"new"), (moved_from, b"new"), (moved_to, b"newer"), (attrib, b"f"), (delete, b"f")):
        assert expected in events, (expected, events)


def test_fanotify(fs):
    """As everybody may have it: events by file handle and name (fanotify(7), FAN_REPORT_DFID_NAME). A default box's filter refuses it."""
    fs.write("d/f", b"x")
    fs.mount()
    report_dir_fid, report_name, nonblock, add = 0x400, 0x800, 2, 1
    create, delete, modify, close_write, on_child = 0x100, 0x200, 2, 8, 0x8000000
    fd = libc.fanotify_init(report_dir_fid | report_name | nonblock, os.O_RDONLY)
    if fd < 0:
        cannot(f"watch by fanotify without rights: {errno.errorcode[ctypes.get_errno()]} (since Linux 5.13)")
    if libc.fanotify_mark(fd, add, ctypes.c_uint64(create | delete | modify | close_write | on_child), -100, os.fsencode(fs.mnt / "d")) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        assert number in (errno.ENODEV, errno.EOPNOTSUPP, errno.EXDEV), errno.errorcode[number]
        cannot("watch FUSE by fanotify (since Linux 6.8)")
    append(fs.mnt / "d/f", b"y")
    (fs.mnt / "d/new").write_bytes(b"z")
    os.unlink(fs.mnt / "d/new")
    seen = {}
    data = os.read(fd, 65536)
    while data:
        size, _version, _reserved, head, mask = struct.unpack_from("=IBBHQ", data)
        handle = data[head + 12:size]  # behind what kind of record it is, and the file system's id: a file_handle, then the name
        name = handle[8 + struct.unpack_from("=I", handle)[0]:].rstrip(b"\0")
        seen[name] = seen.get(name, 0) | mask
        data = data[size:]
    os.close(fd)
    assert seen[b"f"] & (modify | close_write) == modify | close_write and seen[b"new"] & (create | delete) == create | delete, seen


# Programs

@pytest.mark.slice
def test_programs_and_shared_libraries_run(fs):
    shutil.copy("/bin/ls", fs.lower / "ls")
    source = fs.write("lib.c", "int answer(void) { return 42; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(fs.lower / "libanswer.so"), str(source)], check=True)
    fs.write("script", "#!/bin/sh\necho from \"$0\"\n", 0o755)
    fs.mount()
    assert subprocess.run([str(fs.mnt / "ls"), str(fs.mnt)], capture_output=True, text=True, check=True).stdout.split() == ["lib.c", "libanswer.so", "ls", "script"]
    assert subprocess.run([str(fs.mnt / "script")], capture_output=True, text=True, check=True).stdout == f"from {fs.mnt}/script\n"
    code = f"import ctypes\nprint(ctypes.CDLL({str(fs.mnt / 'libanswer.so')!r}).answer())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "42\n"
    source = fs.mnt / "main.c"
    source.write_text("int answer(void); int main(void) { return answer() - 42; }", encoding="ascii")
    subprocess.run(["gcc", "-o", str(fs.mnt / "main"), str(source), "-L", str(fs.mnt), "-lanswer", f"-Wl,-rpath,{fs.mnt}"], check=True)
    assert subprocess.run([str(fs.mnt / "main")], check=False).returncode == 0
    shutil.copy(fs.mnt / "ls", fs.mnt / "ls2")
    (fs.mnt / "ls2").chmod(0o755)
    busy = subprocess.Popen([shutil.copy("/bin/sleep", fs.mnt / "sleep"), "60"])
    raises(errno.ETXTBSY, os.open, fs.mnt / "sleep", os.O_WRONLY)
    os.unlink(fs.mnt / "sleep")
    assert busy.poll() is None
    busy.kill()
    busy.wait()
    os.chmod(fs.mnt / "script", 0o644)
    raises(errno.EACCES, os.execv, fs.mnt / "script", ["script"])


# Layers

def test_without_an_upper_it_is_read_only(fs):
    fs.write("f", b"x")
    fs.mount(upper=False)
    assert (fs.mnt / "f").read_bytes() == b"x"
    for function in (lambda: (fs.mnt / "n").write_bytes(b""), lambda: append(fs.mnt / "f", b"y"), lambda: os.unlink(fs.mnt / "f"), lambda: (fs.mnt / "f").chmod(0o600),
                     lambda: os.mkdir(fs.mnt / "d"), lambda: os.rename(fs.mnt / "f", fs.mnt / "g"), lambda: os.setxattr(fs.mnt / "f", "user.a", b"1"),
                     lambda: os.utime(fs.mnt / "f", ns=(1, 1)), lambda: os.truncate(fs.mnt / "f", 0)):
        raises(errno.EROFS, function)


def test_many_lower_layers(make_overlay):
    fs = make_overlay(20)
    for i, layer in enumerate(fs.lowers):
        fs.write("same", f"{i}", where=layer)
        fs.write(f"own{i}", f"{i}", where=layer)
        fs.write(f"dir/{i}", f"{i}", where=layer)
    fs.mount()
    assert (fs.mnt / "same").read_text() == "0" and sorted(os.listdir(fs.mnt / "dir"), key=int) == [str(i) for i in range(20)]
    for i in range(20):
        assert (fs.mnt / f"own{i}").read_text() == str(i)
        append(fs.mnt / f"dir/{i}", b"+")
    os.unlink(fs.mnt / "same")
    assert not (fs.mnt / "same").exists()
    os.rename(fs.mnt / "dir", fs.mnt / "moved")
    fs.remount()
    assert sorted(os.listdir(fs.mnt / "moved"), key=int) == [str(i) for i in range(20)] and not (fs.mnt / "same").exists()


def test_file_over_directory_over_file(make_overlay):
    fs = make_overlay(3)
    fs.write("a", b"bottom", where=fs.lowers[2])
    fs.write("a/x", b"middle", where=fs.lowers[1])
    fs.write("a", b"top", where=fs.lowers[0])
    fs.write("b/deep", b"bottom", where=fs.lowers[2])
    fs.write("b", b"middle", where=fs.lowers[1])
    fs.write("b/new", b"top", where=fs.lowers[0])
    fs.mount()
    assert (fs.mnt / "a").read_bytes() == b"top" and os.listdir(fs.mnt / "b") == ["new"]
    os.unlink(fs.mnt / "a")
    (fs.mnt / "a").mkdir()
    assert os.listdir(fs.mnt / "a") == []
    fs.remount()
    assert os.listdir(fs.mnt / "a") == [] and os.listdir(fs.mnt / "b") == ["new"]


# Threads

def run_threads(*calls):
    """All of (function, arguments...) at once; none may raise, or take longer than a minute."""
    faults = []

    def guarded(function, *args):
        try:
            function(*args)
        except Exception as e:
            faults.append(repr(e))
    threads = [threading.Thread(target=guarded, args=c) for c in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60 * SLOW)
    assert not any(t.is_alive() for t in threads) and not faults, faults[:5]


def test_many_threads_on_the_same_files(fs):
    """Readers and writers of the same few files: what is read was written, nothing hangs, nothing is lost."""
    for i in range(4):
        fs.write(f"f{i}", b"0" * PAGE)
    fs.mount()
    stop, faults = time.monotonic() + 3, []

    def writer(number):
        n = 0
        while time.monotonic() < stop:
            n += 1
            fd = os.open(fs.mnt / f"f{n % 4}", os.O_WRONLY)
            os.pwrite(fd, b"%d" % number * PAGE, 0)
            os.close(fd)

    def mover(number):
        while time.monotonic() < stop:
            name = fs.mnt / f"own{number}"
            name.write_bytes(b"x" * number)
            os.rename(name, fs.mnt / f"moved{number}")
            if os.stat(fs.mnt / f"moved{number}").st_size != number:
                faults.append(f"moved{number} lost its contents")
            os.unlink(fs.mnt / f"moved{number}")

    def reader():
        while time.monotonic() < stop:
            for i in range(4):
                data = (fs.mnt / f"f{i}").read_bytes()
                # A read that meets a write may see some of both: Linux promises no more of a page.
                if len(data) != PAGE or not set(data) <= set(b"012"):
                    faults.append(f"f{i}: {len(data)} bytes, {sorted(set(data))}")
            os.listdir(fs.mnt)
    run_threads((writer, 1), (writer, 2), (mover, 3), (mover, 4), (reader,), (reader,))
    assert not faults, faults[:5]


def test_one_copy_up_for_many_first_writers(fs):
    """Threads that all write to a big lower file first: one copy, no write lost."""
    fs.write("big", b"0" * (8 << 20))
    fs.mount()
    gate = threading.Barrier(8)

    def writer(number):
        gate.wait()
        fd = os.open(fs.mnt / "big", os.O_RDWR)
        os.pwrite(fd, b"%d" % number, number * (1 << 20))
        os.close(fd)
    run_threads(*[(writer, n) for n in range(8)])
    data = (fs.mnt / "big").read_bytes()
    assert [data[n << 20:(n << 20) + 1] for n in range(8)] == [b"%d" % n for n in range(8)] and len(data) == 8 << 20


def test_a_cycle_by_concurrent_renames_cannot_happen(fs):
    for n in ("a/x", "b/y"):
        fs.write(f"{n}/f", n)
    fs.mount()
    stop = time.monotonic() + 2

    def rename(a, b):
        while time.monotonic() < stop:
            try:
                os.rename(fs.mnt / a, fs.mnt / b)
                os.rename(fs.mnt / b, fs.mnt / a)
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno not in (errno.EINVAL, errno.ENOTEMPTY):
                    raise
    run_threads((rename, "a", "b/y/a"), (rename, "b", "a/x/b"))
    files = [f for _r, _d, found in os.walk(fs.mnt) for f in found]
    assert files == ["f", "f"]
