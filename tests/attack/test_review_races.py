# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done with a box's changes, while somebody changes a directory for a symlink to another one and back, as fast as can be: in the box's layer, and on
the host. Whoever goes by names comes out there; the verbs of usbox must not."""
import contextlib
import shutil
import subprocess
import sys

import pytest

# Exchanges two names until its stdin ends, and leaves them as they were.
SWAPPER = """
import ctypes, os, select, sys
libc = ctypes.CDLL(None)
a, b = map(os.fsencode, sys.argv[1:])
n = 0
print("up", flush=True)
while n % 2 or not select.select([0], [], [], 0)[0]:
    if libc.renameat2(-100, a, -100, b, 2) != 0 and select.select([0], [], [], 0)[0]:
        break
    n += 1
"""
NAMES = [f"{i:02}" for i in range(40)]
ROUNDS = 4


@contextlib.contextmanager
def swapped(directory, link):
    with subprocess.Popen([sys.executable, "-c", SWAPPER, directory, link], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        assert proc.stdout.readline() == b"up\n"
        try:
            yield
        finally:
            proc.stdin.close()
            assert proc.wait(60) == 0


def fill(directory, text):
    directory.mkdir()
    for name in NAMES:
        (directory / name).write_text(text, encoding="ascii")


def texts(directory):
    return {path.name: path.read_text(encoding="ascii") for path in directory.iterdir()}


@pytest.fixture
def raced(box):
    """A box that changed all files of d, and a directory beside the tree with others of their names."""
    box.options = ["--network=none"]
    box.outside = box.top / "outside"
    fill(box.outside, "SECRET\n")
    make_host(box)
    run(box)
    return box


def make_host(box):
    for path in (box.dir / "d", box.dir / "link"):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    fill(box.dir / "d", "host\n")
    (box.dir / "link").symlink_to(box.outside)


def run(box):
    box.run("--", "sh", "-c", "for f in d/*; do echo box >>$f; done").ok()
    box.upper = next(box.boxes.glob("*/upper")) / str(box.dir).lstrip("/")
    (box.upper / "elsewhere").symlink_to(box.outside)


def untouched(box):
    return texts(box.outside) == dict.fromkeys(NAMES, "SECRET\n")


def by_names(directory):
    """What a program reads there that goes by names."""
    found = set()
    for name in NAMES:
        with contextlib.suppress(OSError):
            found.add((directory / name).read_text(encoding="ascii"))
    return found


def test_who_goes_by_names_comes_out(raced):
    for directory, link in (raced.upper / "d", raced.upper / "elsewhere"), (raced.dir / "d", raced.dir / "link"):
        with swapped(directory, link):
            while "SECRET\n" not in by_names(directory):
                pass


@pytest.mark.slice
def test_diff(raced):
    for directory, link in (raced.upper / "d", raced.upper / "elsewhere"), (raced.dir / "d", raced.dir / "link"):
        with swapped(directory, link):
            for _ in range(ROUNDS):
                for form in "--patch", "--stat", "--json":
                    assert "SECRET" not in raced.usbox("diff", form, "last").out
    assert untouched(raced)


def test_commit(raced):
    for where in raced.upper, raced.dir:
        for _ in range(ROUNDS):
            with swapped(where / "d", where / ("elsewhere" if where == raced.upper else "link")):
                raced.usbox("commit", "--force", "last")
            assert untouched(raced)
            assert not {"SECRET\n", "SECRET\nbox\n"} & by_names(raced.dir / "d") or (raced.dir / "d").is_symlink()
            make_host(raced)


def test_drop(raced):
    for _ in range(ROUNDS):
        with swapped(raced.upper / "d", raced.upper / "elsewhere"):
            raced.usbox("drop", "last")
        assert untouched(raced)
        if list(raced.boxes.iterdir()):  # a directory that came back when it was to go
            raced.usbox("drop", "last").ok()
        run(raced)
