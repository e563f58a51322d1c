# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must not be asked: requests that reach the server, counted exactly, and what it holds in memory."""
import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import SANITIZED, SERVER, SLOW, cannot, libc

pytestmark = pytest.mark.usefixtures("needs_ours")
NOT_ASKED = ("FORGET", "BATCH_FORGET", "INTERRUPT", "nodes", "fds")


def requests(fs, function):
    """What function makes the kernel ask, by name."""
    before = fs.stats()
    function()
    after = fs.stats()
    return {n: after[n] - before.get(n, 0) for n in after if n not in NOT_ASKED and after[n] != before.get(n, 0)}


def read(path):
    fd = os.open(path, os.O_RDONLY)
    while os.read(fd, 1 << 16):
        pass
    os.close(fd)


def sync(fs):
    fd = os.open(fs.mnt, os.O_RDONLY)
    assert libc.syncfs(fd) == 0
    os.close(fd)


@pytest.fixture
def tree(fs):
    for i in range(50):
        fs.write(f"d/f{i}", b"x" * 3000)
    fs.write("warm", b"x")
    fs.mount()
    # What is asked once in a mount's life: whether there are opens and flushes at all.
    read(fs.mnt / "warm")
    (fs.mnt / "new").write_bytes(b"x")
    sync(fs)
    os.listdir(fs.mnt)
    os.stat(fs.mnt / "d")
    return fs


@pytest.mark.slice
def test_what_is_cached_costs_nothing(tree):
    f = tree.mnt / "d/f1"
    read(f)
    assert requests(tree, lambda: read(f)) == {}
    assert requests(tree, lambda: [read(f) for _ in range(100)]) == {}


def test_the_first_read_of_a_small_lower_file_costs_two(tree):
    assert sum(requests(tree, lambda: read(tree.mnt / "d/f2")).values()) <= 2
    found = requests(tree, lambda: [read(tree.mnt / f"d/f{i}") for i in range(10, 30)])
    assert sum(found.values()) <= 40, found


def test_a_new_small_file_costs_four(tree):
    def make(name):
        fd = os.open(tree.mnt / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"y" * 3000)
        os.close(fd)
    make("d/first")  # the directory comes up
    seen = []
    for i in range(8):
        os.stat(tree.mnt / "d")  # the one before changed it
        seen.append(requests(tree, lambda i=i: (make(f"d/new{i}"), sync(tree))))
    # Where the clock ticks between its making and its writing, its time is sent as well.
    assert min(sum(s.values()) for s in seen) <= 4, seen
    assert max(sum(s.values()) for s in seen) <= 5, seen
    assert not any("RELEASE" in s for s in seen), seen
    assert (tree.upper / "d/new1").read_bytes() == b"y" * 3000
    os.stat(tree.mnt / "d")
    assert requests(tree, lambda: read(tree.mnt / "d/new1")) == {}


def test_what_is_known_is_not_asked_again(tree):
    names = [tree.mnt / f"d/f{i}" for i in range(50)]
    for n in names:
        os.stat(n)
    assert requests(tree, lambda: [os.stat(n) for n in names]) == {}
    assert requests(tree, lambda: [os.access(n, os.R_OK) for n in names]) == {}
    os.listdir(tree.mnt / "d")
    assert requests(tree, lambda: [os.stat(n) for n in names]) == {}
    read(names[0])  # its atime is another now: asked once
    assert sum(requests(tree, lambda: os.stat(names[0])).values()) <= 1
    assert requests(tree, lambda: [os.stat(n) for n in names]) == {}


def test_absent_names_are_known_too(tree):
    def look():
        assert not os.path.exists(tree.mnt / "d/none")
    look()
    assert requests(tree, look) == {}
    (tree.mnt / "d/none").write_bytes(b"")
    assert os.path.exists(tree.mnt / "d/none")
    os.unlink(tree.mnt / "d/none")
    look()
    assert requests(tree, lambda: [look() for _ in range(10)]) == {}


def test_a_listing_with_all_attributes_costs_no_lookups(tree):
    for i in range(1000):
        tree.write(f"many/f{i:04}", b"")
    os.stat(tree.mnt / "many")
    found = requests(tree, lambda: [e.stat() for e in os.scandir(tree.mnt / "many")])
    assert found.get("LOOKUP", 0) == 0 and found.get("GETATTR", 0) <= 1 and sum(found.values()) <= 100, found


def test_a_long_listing_asks_for_no_labels_and_for_acls_once(tree):
    def look():
        for i in range(50):
            for name in ("security.selinux", "system.posix_acl_access"):
                try:
                    os.getxattr(tree.mnt / f"d/f{i}", name)
                except OSError as e:
                    seen.add((name, e.errno))
    seen = set()
    look()
    # ls(1) asks no further file for its label once it has heard this.
    assert seen == {("security.selinux", errno.EOPNOTSUPP), ("system.posix_acl_access", errno.ENODATA)}
    assert requests(tree, look).get("GETXATTR", 0) == 50
    assert subprocess.run(["ls", "-l", str(tree.mnt / "d")], check=True, capture_output=True).stdout
    assert requests(tree, lambda: subprocess.run(["ls", "-l", str(tree.mnt / "d")], check=True, capture_output=True)).get("GETXATTR", 0) <= 1


@pytest.mark.slice
def test_small_writes_are_gathered(tree):
    def write():
        fd = os.open(tree.mnt / "d/big", os.O_WRONLY | os.O_CREAT, 0o644)
        for _ in range(4096):
            os.write(fd, b"z" * 1024)
        os.close(fd)
        sync(tree)
    found = requests(tree, write)
    assert sum(found.values()) <= 30 and found["WRITE"] <= 20, found
    assert os.stat(tree.upper / "d/big").st_size == 4 << 20


def test_overwriting_in_the_cache_is_asked_once(tree):
    def write():
        fd = os.open(tree.mnt / "d/again", os.O_RDWR | os.O_CREAT, 0o644)
        for i in range(200):
            os.pwrite(fd, b"%04d" % i * 256, 0)
            assert os.pread(fd, 4, 0) == b"%04d" % i
        os.close(fd)
    found = requests(tree, write)
    assert found["WRITE"] <= 4 and found.get("READ", 0) == 0, found


def test_a_program_runs_from_the_cache(tree):
    script = tree.mnt / "d/script"
    script.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    script.chmod(0o755)

    def run():
        assert subprocess.run([str(script)], check=False).returncode == 0
    run()
    # security.capability and the like: asked once, if at all
    run()
    found = requests(tree, lambda: [run() for _ in range(10)])
    assert sum(found.values()) == 0, found


def test_one_stream_of_requests_and_several(tree):
    """One thread answers while one process asks (turns.c), and all of them when others come."""
    ask = ("import os, sys\nfor i in range(2000):\n try:\n  os.getxattr(sys.argv[1], 'user.none')\n except OSError:\n  pass\n"
           "open(sys.argv[1] + '.made', 'x').close()\nos.fsync(os.open(sys.argv[1] + '.made', os.O_RDONLY))\n")

    def run(names):
        procs = [subprocess.Popen([sys.executable, "-c", ask, str(tree.mnt / "d" / n)]) for n in names]
        assert [p.wait(timeout=60 * SLOW) for p in procs] == [0] * len(names)
    for names in (["f0"], ["f1", "f2", "f3"], ["f4"], ["f5", "f6"]):
        assert requests(tree, lambda names=names: run(names))["GETXATTR"] == 2000 * len(names)
    assert len(list(tree.upper.glob("d/*.made"))) == 7


def test_statistics_are_left_at_the_end(tree):
    read(tree.mnt / "d/f1")
    tree.stats_file.unlink(missing_ok=True)
    tree.umount()
    found = json.loads(tree.stats_file.read_text(encoding="ascii"))
    assert found["LOOKUP"] >= 2 and found["READ"] >= 1 and "nodes" in found and "fds" in found


@pytest.mark.limit(120)
def test_memory_of_thirty_thousand_files(fs):
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a user namespace without rights")
    for i in range(300):
        (fs.lower / f"d{i}").mkdir()
        for k in range(100):
            os.close(os.open(fs.lower / f"d{i}/file-{k:03}", os.O_CREAT | os.O_WRONLY))
    script = pathlib.Path(__file__).with_name("forget.py")
    result = subprocess.run(["unshare", "-Urm", sys.executable, str(script), SERVER, fs.mount_options(), str(fs.mnt), str(fs.stats_file)],
                            capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stderr
    empty, full, after = json.loads(result.stdout)
    assert empty["nodes"] <= 310 and 30300 <= full["nodes"] <= 30310, (empty, full)
    assert after["nodes"] <= 10, after
    assert full["fds"] <= 5000 and after["fds"] <= empty["fds"] + 50, (empty, full, after)
    if not SANITIZED:
        assert full["rss"] - empty["rss"] < 9 << 10, f"{full['rss'] - empty['rss']} KiB for 30,300 files"
        assert after["rss"] - empty["rss"] < 3 << 10, f"{after['rss'] - empty['rss']} KiB are kept"
