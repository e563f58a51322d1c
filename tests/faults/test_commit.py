# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox commit, killed at its system calls, or with one of them failing: every file is the old one or the new one, and the next commit does the rest."""
import os
import random
import shutil
import stat

import pytest

import faults

SEED = int(os.environ.get("USBOX_FAULT_SEED", "1"))
SAMPLE = int(os.environ.get("USBOX_FAULT_COMMITS", "6"))  # 0: all

# What the host has, what the box makes of it, and what there is then: text, link, or None for a directory.
BEFORE = {"edit": "old\n", "gone": "gone\n", "dir/a": "a\n", "dir/b": "b\n", "ren/f": "f\n", "kind": "file\n", "mode": "mode\n"}
CHANGES = """set -e; cd tree
echo new >edit; rm gone; rm -r dir; mv ren renamed; echo more >renamed/g; rm kind; mkdir kind; echo in >kind/in; chmod 700 mode
mkdir -p made/deep; echo 1 >made/deep/1; ln made/deep/1 made/2; ln -s edit link; truncate -s 64K made/sparse
"""
AFTER = {"edit": "new\n", "renamed": None, "renamed/f": "f\n", "renamed/g": "more\n", "kind": None, "kind/in": "in\n", "mode": "mode\n", "made": None,
         "made/deep": None, "made/deep/1": "1\n", "made/2": "1\n", "link": "-> edit", "made/sparse": "\0" * 65536}


def look(top):
    found = {}
    for path in top.rglob("*"):
        name = os.fspath(path.relative_to(top))
        found[name] = "-> " + os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_text(encoding="latin-1")
    return found


def changed_box(bench, network="--network=none", overlay="--overlay=fuse", changes=CHANGES):
    """A fresh tree, and a box that has changed it."""
    bench.clean()
    tree = bench.world.dir / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name, text in BEFORE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    bench.world.usbox("run", network, overlay, "--", "sh", "-c", changes).ok()
    return tree


def whole(name, text):
    """Of one name: what was or what shall be, or a temporary name of the commit's own."""
    old_dirs = {os.path.dirname(n) for n in BEFORE} - {""}
    return ".usbox-" in name or BEFORE.get(name, "") == text or (name in AFTER and AFTER[name] == text) or (text is None and name in old_dirs)


def commits(bench, arguments):
    """Findings of one commit that is hit by these faults, and of the next."""
    tree = changed_box(bench)
    command = [bench.usbox, "commit", "last"]
    run = bench.run(command, *arguments)
    if not run.lines["fault"]:
        return []
    found = [f"half: {name}: {text!r}" for name, text in look(tree).items() if not whole(name, text)]
    if run.rc not in (0, 1, 125, 137):
        found.append(f"status {run.rc}")
    if run.rc in (1, 125) and "usbox" not in run.err:
        found.append("no word of it")
    found += [f"{why}: {line}" for why in ("left", "hang") for line in run.lines[why]]
    again = bench.world.usbox("commit", "last")
    if again.rc != 0:
        found.append(f"the next commit says {again.rc}: {again.err[-300:]}")
    now = look(tree)
    found += [f"{name}: {now.get(name, 'absent')!r}, and not {AFTER.get(name, 'absent')!r}" for name in sorted({*now, *AFTER})
              if now.get(name, "absent") != AFTER.get(name, "absent")]
    if now == AFTER and stat.S_IMODE((tree / "mode").stat().st_mode) != 0o700:
        found.append("a mode is missing")
    if now == AFTER and (tree / "made/2").stat().st_ino != (tree / "made/deep/1").stat().st_ino:
        found.append("a hard link is missing")
    return [f"{arguments[-1]}: {f} | {run.err.strip()[:200]}" for f in found]


def calls_of_commit(bench):
    changed_box(bench)
    run = bench.run([bench.usbox, "commit", "last"])
    assert run.rc == 0, run.err
    return faults.begun(run.calls)


# Those that change something are what matters most.
CHANGING = set("renameat2 renameat unlinkat mkdirat linkat symlinkat openat write fchmod fchmodat utimensat fsync syncfs copy_file_range ioctl".split())


@pytest.mark.parametrize("what", ("SIGKILL", "errno"))
def test_commit(bench, what):
    calls = calls_of_commit(bench)
    rng = random.Random(f"{SEED} {what}")
    changing = [c for c in calls if c.name in CHANGING]
    chosen = calls if SAMPLE == 0 else rng.sample(changing, SAMPLE) + rng.sample(calls, SAMPLE // 2)
    wrong = []
    for call in chosen:
        wrong += commits(bench, ("--fault", f"{call}:{faults.errno_of(call.name) if what == 'errno' else what}"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slice
def test_second_names(bench):
    """One that cannot be linked is linked by the next commit, or is a file of its own where its file cannot have one more."""
    calls = [c for c in calls_of_commit(bench) if c.name == "linkat"]
    assert calls
    wrong = [found for call in calls for found in commits(bench, ("--fault", f"{call}:ENOSPC"))]
    assert not wrong, "\n".join(wrong)
    tree = changed_box(bench)
    bench.run([bench.usbox, "commit", "last"], *(word for call in calls for word in ("--fault", f"{call}:EMLINK")))
    assert look(tree) == AFTER and (tree / "made/2").stat().st_ino != (tree / "made/deep/1").stat().st_ino


@pytest.mark.parametrize("changes", ("echo 1 >tree/made", "echo new >tree/edit", "rm tree/gone", "mv tree/ren tree/renamed"))
def test_a_host_that_cannot_rename_so(bench, changes):
    """As NFS answers to any flag of renameat2(2)."""
    tree = changed_box(bench, changes=changes)
    before = look(tree)
    run = bench.run([bench.usbox, "commit", "last"], "--fault", "usbox:renameat2:1:EINVAL")
    assert run.lines["fault"] and run.rc == 125 and "rename in " in run.err and "NFS" in run.err, run.err
    assert look(tree) == before
    bench.world.usbox("commit", "last").ok()
    assert look(tree) != before


def test_what_cannot_be_looked_at(bench):
    """A renamed directory whose new name is not seen: what is in it is on the host alone, and stays."""
    def renamed():
        tree = changed_box(bench, changes="mv tree/ren tree/renamed")
        return tree, [bench.usbox, "commit", "last"]

    _tree, command = renamed()
    looks = [c for c in dict.fromkeys(bench.run(command).calls) if c.name == "newfstatat"]
    assert looks
    for call in looks:
        tree, command = renamed()
        bench.run(command, "--fault", f"{call}:EIO")
        assert [name for name, text in look(tree).items() if text == "f\n"] in (["ren/f"], ["renamed/f"]), call
        bench.world.usbox("commit", "last")
        assert [name for name, text in look(tree).items() if text == "f\n"] in (["ren/f"], ["renamed/f"]), call


@pytest.mark.parametrize("changes, name", (("echo new >tree/edit", "edit"), ("rm tree/gone", "gone")))
def test_what_came_out_and_cannot_go_back(bench, changes, name):
    """What the host had at the name was exchanged, cannot be looked at, and cannot be put back: it is not removed for that."""
    changed_box(bench, changes=changes)
    calls = faults.begun(bench.run([bench.usbox, "commit", "last"]).calls)
    moved = next(i for i, c in enumerate(calls) if c.name == "renameat2")
    seen = next(c for c in calls[moved:] if c.name == "newfstatat")
    tree = changed_box(bench, changes=changes)
    run = bench.run([bench.usbox, "commit", "last"], "--fault", f"{seen}:EIO", "--fault", "usbox:renameat2:2:EIO")
    assert len(run.lines["fault"]) == 2 and run.rc == 125, run.err
    kept = [path for path in tree.iterdir() if path.is_file() and path.read_text() == BEFORE[name]]
    assert len(kept) == 1 and kept[0].name in run.err, run.err
    bench.world.usbox("commit", "last")
    assert kept[0].read_text() == BEFORE[name]
