# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox-fs diff against uppers that drivers wrote: what it says, carried out on the lower, must give the tree that the mount had."""
import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, SLOW, TOP, WORK, cannot

sys.path.insert(0, str(TOP / "tests" / "lib"))
import fs_churn  # noqa: E402

USBOX_FS = str(BUILD / "fsoverlay" / "usbox-fs")
CHURN = str(TOP / "tests" / "lib" / "fs_churn.py")
SEEDS = range(1, 5)


@pytest.fixture
def trees(request):
    """A directory with two lowers, an upper, a work directory and a mount point."""
    top = WORK / f"diff-{os.getpid()}-{request.node.name.replace('[', '-').rstrip(']')}"
    top.mkdir(parents=True)
    for name in ("low", "mid", "upper", "work", "mnt"):
        (top / name).mkdir()
    yield top
    for directory, folders, _ in os.walk(top):
        for folder in folders:
            if not os.path.islink(os.path.join(directory, folder)):
                os.chmod(os.path.join(directory, folder), 0o700)
    shutil.rmtree(top)


def run(*argv, **kwargs):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", timeout=60 * SLOW, check=False, **kwargs)


def diff(top):
    result = run(USBOX_FS, "diff", "-o", f"lowerdir={top}/mid:{top}/low,upperdir={top}/upper")
    assert result.returncode == 0 and result.stderr == "", result
    return [json.loads(line) for line in result.stdout.splitlines()]


def at_or_below(tree, path):
    return [p for p in tree if p == path or p.startswith(path + "/")]


def carried_out(lower, lines, upper):
    """The tree that lower becomes by lines; contents are those of upper's files."""
    tree = dict(lower)
    for line in lines:
        path = line["path"]
        if line["change"] in "DT" or "redirect" in line or line.get("type") != "dir":
            for p in at_or_below(tree, path):
                del tree[p]
        if line["change"] == "D":
            continue
        content = ""
        if line["type"] == "file":
            content = fs_churn.text((upper / path[1:]).read_bytes())
            assert line["size"] == len(os.fsencode(content))
        elif line["type"] == "symlink":
            content = os.readlink(upper / path[1:])
        if "redirect" in line:
            for p in at_or_below(lower, line["redirect"]):
                tree[path + p[len(line["redirect"]):]] = lower[p]
        tree[path] = (line["type"], int(line["mode"], 8), content)
    return tree


def place_below(path, lines):
    """Where the lower has what path is compared with: below a renamed directory, at its old place."""
    moved = [line for line in lines if "redirect" in line and path.startswith(line["path"] + "/")]
    if not moved:
        return path
    nearest = max(moved, key=lambda line: len(line["path"]))
    return nearest["redirect"] + path[len(nearest["path"]):]


def check(top, lower, merged):
    lines = diff(top)
    paths = [line["path"] for line in lines]
    assert len(set(paths)) == len(paths)
    assert paths == sorted(paths, key=lambda p: os.fsencode(p).split(b"/"))
    for line in lines:
        below = lower.get(place_below(line["path"], lines))
        assert (line["change"] == "A") == (below is None), line
        if below:
            assert (line["lower"]["type"], int(line["lower"]["mode"], 8)) == below[:2], line
            assert (line["change"] == "T") == ("type" in line and line["type"] != below[0]), line
    assert carried_out(lower, lines, top / "upper") == merged


def start_trees(top, seed):
    """Two lowers; what they are together."""
    rng = random.Random(seed)
    fs_churn.populate(str(top / "low"), rng)
    (top / "mid" / "only").mkdir()
    (top / "mid" / "only" / "file").write_text("middle")
    lower = fs_churn.snapshot(str(top / "low"))
    lower.update(fs_churn.snapshot(str(top / "mid")))
    return lower


def churned(result):
    assert result.returncode == 0, result.stderr
    return {path: tuple(entry) for path, entry in json.loads(result.stdout).items()}


def by_fuse(top, program, seed):
    """Mount, change, unmount; what there was."""
    result = run(program, "-o", f"lowerdir={top}/mid:{top}/low,upperdir={top}/upper,workdir={top}/work", f"{top}/mnt")
    assert result.returncode == 0, result
    try:
        return churned(run(sys.executable, CHURN, str(seed), "150", f"{top}/mnt"))
    finally:
        assert run("fusermount3", "-u", f"{top}/mnt").returncode == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_usbox_fs(trees, seed):
    lower = start_trees(trees, seed)
    check(trees, lower, by_fuse(trees, USBOX_FS, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_fuse_overlayfs(trees, seed):
    program = shutil.which("fuse-overlayfs")
    if not program:
        cannot("run fuse-overlayfs: it is not installed")
    lower = start_trees(trees, seed)
    check(trees, lower, by_fuse(trees, program, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_kernel(trees, seed):
    script = (f'mount -t overlay -o userxattr,lowerdir={trees}/mid:{trees}/low,upperdir={trees}/upper,workdir={trees}/work overlay {trees}/mnt '
              f'|| exit 77; exec "{sys.executable}" "{CHURN}" {seed} 150 {trees}/mnt')
    lower = start_trees(trees, seed)
    result = run("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    if result.returncode == 77:
        cannot("mount an overlay in a user namespace")
    check(trees, lower, churned(result))


@pytest.mark.slice
def test_nothing_changed(trees):
    start_trees(trees, 1)
    assert not diff(trees)


def test_help_and_errors(trees):
    result = run(USBOX_FS, "diff", "--help")
    assert result.returncode == 0 and "lowerdir=" in result.stdout
    result = run(USBOX_FS, "diff", "-o", f"lowerdir={trees}/low")
    assert result.returncode == 1 and result.stdout == "" and "upperdir" in result.stderr
    (trees / "upper" / "closed").mkdir(mode=0)
    (trees / "upper" / "open").touch()
    result = run(USBOX_FS, "diff", "-o", f"lowerdir={trees}/low,upperdir={trees}/upper")
    assert result.returncode == 1 and "closed: Permission denied" in result.stderr
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == ["/closed", "/open"]
