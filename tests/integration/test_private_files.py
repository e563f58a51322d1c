# SPDX-License-Identifier: LGPL-2.1-or-later
"""Outside of home and working directory a box has the eyes of any other user of the machine, whatever its root is made of."""
import os
import pathlib
import subprocess

import pytest

from conftest import SLOW, USBOX, cannot

PLACES = ("/srv", "/mnt", "/opt")  # shown as they are; the test's own files are mounted there


@pytest.fixture(params=["fuse", "kernel", "none"])
def overlay(request):
    return request.param


@pytest.fixture
def there(box):
    """A directory of the caller's, and a way to run usbox on a machine that has it in such a place: (directory, its place, run)."""
    me = [f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
    place = next((p for p in PLACES if os.path.isdir(p) and not os.path.islink(p)), None)
    if not place or subprocess.run(["unshare", "-Urm", "unshare", "-U", *me, "true"], check=False, capture_output=True).returncode != 0:
        cannot("mount a directory at one of " + ", ".join(PLACES))
    top = box.dir / "there"
    top.mkdir()
    box.kept = 0

    def run(*argv, cwd="/"):
        script = f'mount --bind "$1" {place} && shift && cd "$1" && shift && exec unshare -U {" ".join(me)} "$@"'
        return subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", top, cwd, USBOX, "run", "--rm", "--network=none", *argv], env=box.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * SLOW, check=False)
    return top, place, run


def make(top, name, mode=0o644):
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text\n", encoding="ascii")
    path.chmod(mode)


OPEN = ["a/b/c/d/open", "a/open", "open"]
CLOSED = [("private", 0o600), ("a/private", 0o600), ("a/group", 0o640), ("a/b/private", 0o600), ("a/b/c/private", 0o600), ("a/b/c/d/e/f/g/private", 0o600),
          ("shut/open", 0o644), ("shut/private", 0o600), ("shut/in/private", 0o600), ("a/shut/open", 0o644), ("a/shut/private", 0o600),
          ("a/shut/in/private", 0o600), ("a/b/c/shut/open", 0o644), ("a/b/c/shut/in/private", 0o600)]
LOOK = 'cd "$1" && find . -type f | sort; shift; for f; do cat "$f" 2>/dev/null && echo "READ $f"; done; echo end'


def fill(top):
    for name in OPEN:
        make(top, name)
    for name, mode in CLOSED:
        make(top, name, mode)
    for name in ("shut", "a/shut", "a/b/c/shut"):
        (top / name).chmod(0o700)
        (top / name / "in").mkdir(mode=0o700, exist_ok=True)
        (top / name / "in").chmod(0o700)


@pytest.mark.slice
def test_private_files_are_not_there(there, overlay):
    top, place, run = there
    fill(top)
    look = ["--", "sh", "-c", LOOK, "sh", place, *(name for name, _ in CLOSED)]
    result = run(f"--overlay={overlay}", *look)
    assert result.stdout.splitlines() == [f"./{name}" for name in OPEN] + ["end"], result
    # A tree that is given has the caller's own eyes.
    result = run(f"--overlay={overlay}", f"--ro={place}/a", *look)
    assert set(result.stdout.splitlines()) >= {f"READ {name}" for name, _ in CLOSED if name.startswith("a/")}, result
    assert "READ shut" not in result.stdout and "READ private" not in result.stdout, result
    result = run(f"--overlay={overlay}", f"--ro={place}/a/b/c/private", *look)
    assert [line for line in result.stdout.splitlines() if line.startswith("READ")] == ["READ a/b/c/private"], result


def test_of_a_closed_directory_only_the_working_directory_is_there(there, overlay):
    """Also where it is not the first closed one on the way; in it the box has the caller's own eyes."""
    top, place, run = there
    for name in ("open", "mine/other", "mine/in/other", "mine/in/work/private", "mine/in/work/deep/private"):
        make(top, name, 0o600 if name.endswith("private") else 0o644)
    (top / "mine/link").symlink_to("other")
    (top / "mine/in").chmod(0o700)
    (top / "mine").chmod(0o700)
    look = ["--", "sh", "-c", 'cd "$1" && find . ! -type d | sort', "sh", place]
    result = run(f"--overlay={overlay}", *look, cwd=f"{place}/mine/in/work")
    assert result.stdout.splitlines() == ["./mine/in/work/deep/private", "./mine/in/work/private", "./open"], result
    assert run(f"--overlay={overlay}", "--workdir=/usr", *look, cwd=f"{place}/mine/in/work").stdout == "./open\n"
    assert "./mine/in/work/private\n" in run(f"--overlay={overlay}", *look, cwd=place).stdout


def test_what_is_too_large_to_be_looked_through_is_not_there(there, overlay):
    """usbox-fs looks at each file when it is asked for; the others at the start, and not for long."""
    top, place, run = there
    make(top, "a/b/open")
    make(top, "a/b/large/deep/private", 0o600)
    for i in range(10001):
        os.link(top / "a/b/open", top / f"a/b/large/{i}")
    look = ["--", "sh", "-c", 'cd "$1" && ls a/b; ls a/b/large/7; cat a/b/large/deep/private', "sh", place]
    result = run(f"--overlay={overlay}", *look)
    assert "text" not in result.stdout, result
    if overlay == "fuse":
        assert result.stdout == "large\nopen\na/b/large/7\n" and "left out" not in result.stderr, result
    else:
        assert "7" not in result.stdout and f"left out: {place}/a" in result.stderr, result
    result = run(f"--overlay={overlay}", f"--ro={place}/a/b", *look)
    assert result.stdout == "large\nopen\na/b/large/7\ntext\n" and "left out" not in result.stderr, result


@pytest.mark.parametrize("overlay", ["fuse", "kernel"])
def test_hidden_in_hidden(box, overlay):
    """The inner one does not make the outer one be there."""
    names = [f"{'abcdefgh'[i]}/in" for i in range(8)]
    for name in names:
        box.write(f"{name}/file", "text\n")
    hide = [f"--hide={box.dir}/{part}" for name in names for part in (name, pathlib.Path(name).parent)]
    assert box.run(f"--overlay={overlay}", *hide, "--", "ls", "-A", ".").lines() == []
