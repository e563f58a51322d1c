# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox commit of a box that ran again since it was committed, and what is left to carry then: nothing that nobody changed."""
import os

import pytest

OVERLAYS = ("fuse", "kernel")


@pytest.fixture(params=OVERLAYS)
def twice(box, request):
    """A box that is run and committed as often as a script is given to it."""
    def run(*scripts):
        for script in scripts:
            box.run("--network=none", "--name=b", f"--overlay={request.param}", "--", "sh", "-c", f"set -e; {script}").ok()
            box.usbox("commit", "b").ok()
            assert box.usbox("diff", "b", box.dir).lines() == []
    box.commits = run
    for name in ("d/f", "d/g"):
        box.write(name, f"{name}\n")
    return box


@pytest.mark.slice
def test_a_file_that_is_moved_after_a_commit(twice):
    """The kernel's overlay does not tell which file it copied; that names of its directory came and went was the commit itself."""
    twice.commits("echo more >>d/f; echo n >d/n", "mv d/f d/x; mv d/n d/m", "mv d/g d/y")
    assert sorted(p.name for p in (twice.dir / "d").iterdir()) == ["m", "x", "y"]


def test_another_name_of_a_file_in_a_directory_that_is_moved(twice):
    """It comes first in the order of the walk, when that file is not there yet."""
    twice.commits("mv d z; ln z/f a")
    assert os.path.samefile(twice.dir / "a", twice.dir / "z/f")


def test_a_file_that_nobody_may_read(twice):
    twice.commits("echo s >d/s; chmod 0 d/s", "chmod 0 d/f", "echo other >d/o")
    for name in ("s", "f"):
        assert (twice.dir / "d" / name).stat().st_mode & 0o777 == 0
        (twice.dir / "d" / name).chmod(0o600)


def test_a_file_that_the_host_removed_is_not_taken_for_one_that_was_moved(twice):
    """Since the kernel copied it, its directory has changed."""
    twice.commits("echo n >d/n")
    twice.run("--network=none", "--name=b", "--", "sh", "-c", "echo more >>d/f").ok()
    (twice.dir / "d/f").unlink()
    result = twice.usbox("commit", "b")
    assert result.rc == 1 and "the host has this file no more" in result.err, result


def test_a_file_of_which_a_commit_took_another_name(twice):
    """It has another ctime by that, which nobody else gave it; what the host does to it later is a change."""
    for name in "xy":
        os.link(twice.dir / "d/f", twice.dir / "d" / name)
    twice.commits("rm d/f", "echo more >>d/x", "rm d/x")
    assert (twice.dir / "d/y").read_text(encoding="utf-8") == "d/f\n"
    (twice.dir / "d/y").rename(twice.dir / "d/z")
    twice.run("--network=none", "--name=b", "--", "sh", "-c", "echo more >>d/z").ok()
    result = twice.usbox("commit", "b")
    assert result.rc == 1 and "d/z: the host changed it since" in result.err, result
