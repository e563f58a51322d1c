# SPDX-License-Identifier: LGPL-2.1-or-later
"""Project hooks in a tree that is written through: what the caller's own tools run later must not be the box's to write."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest

from conftest import SLOW, USBOX, assert_refused, cannot
from test_full_disk import AS_OURSELVES, UNSHARE

pytestmark = pytest.mark.usefixtures("both_overlays")

HOOKS = {".git/hooks/pre-commit": "old hook\n", ".git/config": "[core]\n\tbare = false\n", ".envrc": "old\n", ".vscode/tasks.json": "{}\n",
         ".idea/workspace.xml": "<x/>\n"}
ATTACK = """
for f in .git/hooks/pre-commit .git/config .envrc .vscode/tasks.json .idea/workspace.xml; do echo evil >>$f; done
echo evil >.git/hooks/post-checkout; chmod +x .git/hooks/post-checkout
mv .git .git-away; mv .git/hooks .git/away; rm -f .git/hooks/pre-commit; rm -f .git/config .envrc; mv .vscode .v
ln -f .git/config .git/config2; echo evil >>.git/config2
echo through >file; cat .envrc
"""


def fill(box):
    for name, text in HOOKS.items():
        box.write(name, text)


def unchanged(box):
    for name, text in HOOKS.items():
        assert (box.dir / name).read_text() == text, name
    assert not (box.dir / ".git/hooks/post-checkout").exists()
    assert not (box.dir / ".git-away").exists() and not (box.dir / ".v").exists()


def test_hooks_stay_copy_on_write(box):
    fill(box)
    result = box.run("--rw", ".", "--", "sh", "-c", ATTACK)
    assert result.rc == 0 and result.out == "old\nevil\n", result
    unchanged(box)
    assert (box.dir / "file").read_text() == "through\n"
    (kept,) = list(box.boxes.iterdir())
    upper = kept / "upper" / str(box.dir).lstrip("/")
    assert (upper / ".git/hooks/post-checkout").read_text() == "evil\n"
    assert (upper / ".git/config").read_text().endswith("evil\n")


@pytest.mark.parametrize("trees", [(".", "."), (".", ".git"), (".git", "."), (".", ".git", ".")], ids=" ".join)
@pytest.mark.parametrize("overlay", [True, False], ids=["overlay", "none"])
def test_a_tree_given_twice(box, trees, overlay):
    """By a profile and the command line, say: the guards of the mount on top are the ones that count."""
    fill(box)
    options = [word for tree in trees for word in ("--rw", tree)]
    script = f"{ATTACK} mkdir -p .git/worktrees; echo evil >.git/config.worktree; echo evil >.git/commondir; true"
    result = box.run(*([] if overlay else ["--overlay=none"]), *options, "--", "sh", "-c", script).ok()
    unchanged(box)
    if not overlay:
        assert result.out == "old\n", result
        return
    assert not (box.dir / ".git/config.worktree").exists() and not (box.dir / ".git/commondir").exists(), result
    assert result.out == "old\nevil\n" and (box.dir / "file").read_text() == "through\n", result
    (kept,) = list(box.boxes.iterdir())
    upper = kept / "upper" / str(box.dir).lstrip("/")
    assert (upper / ".git/hooks/post-checkout").read_text() == "evil\n" and (upper / ".git/config.worktree").read_text() == "evil\n"
    assert (upper / ".git/config").read_text().endswith("evil\n") and (upper / ".envrc").read_text() == "old\nevil\n"


def test_repositories_deeper_in_the_tree(box):
    """Each by a --rw of its own, as README has it; and the directory above moved away, which can only be told of."""
    for name in HOOKS:
        for top in ("", "vendor/lib/"):
            box.write(f"{top}{name}", "old\n")
    for name in ("HEAD", "objects/x", "refs/x", "hooks/pre-commit", "config"):
        box.write(f".git/modules/lib/{name}", "old\n")
    options = ("--rm", "--rw", ".", "--rw", "vendor/lib", "--rw", ".git/modules/lib")
    script = "for f in vendor/lib/.envrc vendor/lib/.git/hooks/pre-commit .git/modules/lib/config .git/modules/lib/hooks/pre-commit .envrc; do echo evil >>$f; done; "
    box.run(*options, "--", "sh", "-c", script).ok()
    guarded = [box.dir / name for name in (".envrc", "vendor/lib/.envrc", "vendor/lib/.git/hooks/pre-commit", ".git/modules/lib/config", ".git/modules/lib/hooks/pre-commit")]
    assert [path.read_text() for path in guarded] == ["old\n"] * 5
    result = box.run(*options, "--", "sh", "-c", "mv vendor away; mkdir -p vendor/lib/.git; echo evil >vendor/lib/.git/config; echo evil >vendor/lib/.envrc").ok()
    assert (box.dir / "vendor/lib/.envrc").read_text() == "evil\n"
    for name in ("vendor/lib/.git/config", "vendor/lib/.envrc"):
        assert f"{box.dir}/{name} was replaced on the host" in result.err, result


def test_hooks_are_read_only_without_overlay(no_kept):
    fill(no_kept)
    result = no_kept.run("--overlay=none", "--rw", ".", "--", "sh", "-c", ATTACK)
    assert result.rc == 0 and result.out == "old\n", result
    unchanged(no_kept)
    assert (no_kept.dir / "file").read_text() == "through\n"


def test_rw_hooks_writes_them_through(no_kept):
    fill(no_kept)
    no_kept.run("--rw", ".", "--rw-hooks", "--", "sh", "-c", "echo more >>.envrc; echo more >>.git/config").ok()
    assert (no_kept.dir / ".envrc").read_text() == "old\nmore\n"
    assert (no_kept.dir / ".git/config").read_text().endswith("more\n")


def test_untouched_hooks_leave_nothing(no_kept):
    fill(no_kept)
    result = no_kept.run("--rw", ".", "--", "sh", "-c", "cat .git/config >file").ok()
    assert result.err == ""


def test_a_new_hook_is_taken_back(box):
    box.write("file")
    result = box.run("--rw", ".", "--", "sh", "-c", "echo evil >.envrc; ln -s /etc .vscode; mkdir -p .idea/x").ok()
    assert sorted(p.name for p in box.dir.iterdir()) == ["file"], result
    (kept,) = list(box.boxes.iterdir())
    upper = kept / "upper" / str(box.dir).lstrip("/")
    assert (upper / ".envrc").read_text() == "evil\n" and (upper / ".vscode").is_symlink() and (upper / ".idea/x").is_dir()


@pytest.mark.parametrize("shut", [False, True])
def test_a_new_hook_is_no_file_of_the_host(box, shut):
    """A name more of one, when the box goes on without the tree: that would be a way to write there."""
    for name in ("f", "g"):
        box.write(name, "host\n", 0o640)
        os.utime(box.dir / name, ns=(10**18, 10**18 + 5))
    script = "ln f .envrc; mkdir -p .idea/d; ln g .idea/d/g; echo own >.idea/d/h"
    box.run("--name", "n", "--rw", ".", "--", "sh", "-c", script + ("; chmod 0 .idea/d" if shut else "")).ok()
    again = "chmod 700 .idea/d; stat -c %a:%Y:%h .envrc .idea/d/g; cat .envrc .idea/d/*; echo box >>.envrc; echo box >>.idea/d/g"
    assert box.run("--name", "n", "--", "sh", "-c", again).ok().out == "640:1000000000:1\n" * 2 + "host\nhost\nown\n"
    for name in ("f", "g"):
        assert (box.dir / name).read_text() == "host\n" and (box.dir / name).stat().st_nlink == 1
    assert sorted(p.name for p in box.dir.iterdir()) == ["f", "g"]


DEEP = """
import os
top = os.open(".", os.O_PATH)
os.mkdir(".vscode"), os.chdir(".vscode")
for i in range(2100):
    os.mkdir("d"), os.chdir("d")
os.link("f", "g", src_dir_fd=top)
"""


@pytest.mark.parametrize("descriptors", [256, 4096])
def test_a_new_hook_that_is_too_deep(box, descriptors):
    """What cannot be looked at is not kept, since there may be a file of the host's in it."""
    box.write("f", "host\n")
    limit = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", USBOX]
    result = subprocess.run([*limit, "run", "--network=none", "--name", "n", "--rw", ".", "--", "python3", "-c", DEEP], env=box.env, cwd=box.dir,
                            capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0 and "what the box made of .vscode could not be kept as it was" in result.stderr, result
    assert os.listdir(box.dir) == ["f"] and (box.dir / "f").stat().st_nlink == 1
    assert (next(box.boxes.iterdir()) / "upper" / str(box.dir).lstrip("/") / ".vscode").is_dir()
    box.usbox("rm", "n").ok()


MARKS = """
import os, stat, subprocess
os.makedirs(".vscode/moved/in"), os.makedirs(".vscode/opaque"), os.makedirs(".idea/d")
def mark(path, what, value, mode):
    os.setxattr(path, "user.keep", b"kept"), os.setxattr(path, f"user.overlay.{what}", value), os.chmod(path, mode)
mark(".vscode/moved", "redirect", os.fsencode(os.path.abspath("../secret")), 0o755)
mark(".vscode/moved/in", "redirect", os.fsencode(os.path.abspath("../other")), 0o555)
mark(".vscode/opaque", "opaque", b"y", 0o700)
for path, mode in ((".idea/f", 0o444), (".idea/d/g", 0o640), (".envrc", 0o400)):
    open(path, "w").close(), mark(path, "usbox.ino", b"1", mode)
for path in (".vscode/moved/key", ".idea/d/n"):
    os.mknod(path, stat.S_IFCHR | 0o600, 0)
"""


def test_a_new_hook_has_no_marks(box):
    """The tree is the box's to write, with all that says something in its layer: that it renamed a directory, of which it does not even know."""
    box.write("secret/key", "secret\n")
    box.write("other/file", "file\n")
    box.write("proj/file")
    options = ("--name", "n", "--hide", box.dir / "secret")
    box.run(*options, "--rw", "proj", "--", "python3", "-c", f"import os; os.chdir('proj')\n{MARKS}").ok()
    assert os.listdir(box.dir / "proj") == ["file"]
    (kept,) = list(box.boxes.iterdir())
    upper = kept / "upper" / str(box.dir / "proj").lstrip("/")
    modes = {".vscode/moved": 0o755, ".vscode/moved/in": 0o555, ".vscode/opaque": 0o700, ".idea/f": 0o444, ".idea/d/g": 0o640, ".envrc": 0o400}
    for name, mode in modes.items():
        path = upper / name
        assert path.stat().st_mode & 0o7777 == mode, name
        path.chmod(0o700)
        assert [a for a in os.listxattr(path) if a.startswith("user.")] == ["user.keep"], name
        path.chmod(mode)
    assert sorted(str(p.relative_to(upper)) for p in upper.rglob("*")) == sorted([".vscode", ".idea", ".idea/d", *modes])
    assert "renamed" not in box.usbox("diff", "n").ok().out
    box.usbox("commit", "n").ok()
    assert (box.dir / "secret/key").read_text() == "secret\n" and (box.dir / "other/file").read_text() == "file\n"
    assert os.listdir(box.dir / "proj/.vscode/moved") == ["in"] and os.listdir(box.dir / "proj/.vscode/moved/in") == []


def test_the_way_to_a_hook_looks_as_on_the_host(box):
    """In upper/ it is usbox that makes it, before the run by the kernel's overlay and after it by usbox-fs: what is there shows in the box."""
    way = {"d": 0o710, "d/repo": 0o750, "d/repo/.git": 0o751, "d/repo/.git/hooks": 0o700}
    box.write("d/repo/.git/hooks/pre-push", "old\n")
    box.write("d/repo/.git/config", "old\n")
    for path, mode in way.items():
        os.chmod(box.dir / path, mode)
    look = "stat -c %a " + " ".join(way)
    seen = [f"{mode:o}" for mode in way.values()]
    script = "echo new >>d/repo/.git/hooks/pre-push; echo new >>d/repo/.git/config; echo new >d/repo/.envrc; "
    assert box.run("--name", "n", "--network=none", "--rw", "d/repo", "--", "sh", "-c", script + look).lines() == seen
    assert box.run("--name", "n", "--network=none", "--", "sh", "-c", look + "; cat d/repo/.git/hooks/pre-push d/repo/.git/config d/repo/.envrc").lines() == \
        [*seen, "old", "new", "old", "new", "new"]
    listed = box.usbox("diff", "n").lines()
    assert sorted(line.split("/work/")[1] for line in listed if "/work/" in line) == ["d/repo/.envrc", "d/repo/.git/config", "d/repo/.git/hooks/pre-push"], listed
    box.usbox("commit", "n").ok()
    assert [f"{(box.dir / path).stat().st_mode & 0o7777:o}" for path in way] == seen
    assert (box.dir / "d/repo/.envrc").read_text() == "new\n"


def test_a_box_goes_on_with_its_hooks(box):
    fill(box)
    options = ("--name", "n", "--rw", ".")
    box.run(*options, "--", "sh", "-c", "echo 1 >>.envrc; echo 1 >.git/hooks/n").ok()
    assert box.run(*options, "--", "sh", "-c", "echo 2 >>.envrc; cat .envrc .git/hooks/n").ok().out == "old\n1\n2\n1\n"
    assert (box.dir / ".envrc").read_text() == "old\n"
    box.usbox("commit", "n").ok()
    assert (box.dir / ".envrc").read_text() == "old\n1\n2\n" and (box.dir / ".git/hooks/n").read_text() == "1\n"


def test_a_hook_of_which_only_the_mode_changed(box):
    """Or attributes: its copy is not one that stayed as it was."""
    fill(box)
    box.run("--rw", ".", "--", "sh", "-c", "chmod 700 .envrc; setfattr -n user.k -v v .git/config").ok()
    assert (box.dir / ".envrc").stat().st_mode & 0o777 != 0o700
    box.usbox("commit", "last").ok()
    assert (box.dir / ".envrc").stat().st_mode & 0o777 == 0o700 and (box.dir / ".envrc").read_text() == "old\n"
    assert os.getxattr(box.dir / ".git/config", "user.k") == b"v"


def test_attributes_that_are_not_the_box_s(box):
    """An ACL that each file below the boxes' directory gets, and the box has not given; and those of a hook's directory itself, which are not kept."""
    fill(box)
    box.write(".vscode/t", "t\n")
    home = box.boxes.parent
    home.mkdir(parents=True, exist_ok=True)
    acl = subprocess.run(["setfacl", "-d", "-m", f"u:{os.getuid()}:rwx", home], check=False)
    if acl.returncode != 0:
        cannot("set an ACL where boxes are kept")
    for name in (".envrc", ".git/config"):
        (box.dir / name).chmod(0o644)
    assert box.run("--rw", ".", "--", "cat", ".envrc", ".git/config").ok().err == ""
    assert "what the box made of the mode or attributes of .vscode itself is not kept" in box.run("--rw", ".", "--", "chmod", "700", ".vscode").ok().err
    assert "itself is not kept" in box.run("--rw", ".", "--", "setfattr", "-n", "user.k", "-v", "v", ".vscode").ok().err
    assert (box.dir / ".vscode").stat().st_mode & 0o777 != 0o700 and os.listxattr(box.dir / ".vscode") == []


def test_a_box_makes_a_hook_once_more(box):
    """What its earlier run made is not there for it, which is said. Nor does what it makes stay on the host."""
    options = ("--name", "n", "--rw", ".")
    box.write("file", "f\n")
    box.run(*options, "--", "sh", "-c", "echo 1 >.envrc; mkdir .vscode; echo 1 >.vscode/a").ok()
    result = box.run(*options, "--", "sh", "-c", "cat .envrc; echo 2 >.envrc; mkdir .vscode; echo 2 >.vscode/b").err
    for name in (".envrc", ".vscode"):
        assert f"{box.dir}/{name} of an earlier run is not in the box: usbox diff shows it, usbox commit takes it" in result, result
        assert f"what the box made of {name} takes the place of what an earlier run made of it" in result, result
    assert "cat: .envrc: No such file" in result and "on the host: other programs" not in result and os.listdir(box.dir) == ["file"], result
    assert not list(box.boxes.glob("*/hook-before")), result
    box.usbox("commit", "n").ok()
    assert (box.dir / ".envrc").read_text() == "2\n" and os.listdir(box.dir / ".vscode") == ["b"]


def test_what_is_no_copy_of_a_hook_is_not_mounted(box):
    """What an earlier run of the box left at such a name."""
    options = ("--name", "n", "--rw", ".")
    box.run(*options, "--", "sh", "-c", "ln -s /etc/passwd .envrc; echo file >.vscode; mkdir .git").ok()
    box.write(".envrc", "host\n")
    result = box.run(*options, "--overlay=kernel", "--", "true")
    assert result.rc == 125 and "/.envrc: File exists" in result.err and "usbox commit" in result.err, result
    result = box.run(*options, "--", "sh", "-c", "cat .envrc; echo box >>.envrc")
    if result.rc == 0:
        assert result.out == "host\n" and "could not be kept" in result.err, result
    else:
        assert result.rc == 125 and "/.envrc: File exists" in result.err, result
    assert (box.dir / ".envrc").read_text() == "host\n"


def test_a_new_directory_beside_hooks_is_no_conflict(box):
    """Those that were there are guarded by the kernel's overlayfs, which marks a directory that it made in another way than usbox-fs."""
    fill(box)
    box.write(".idea/old/f", "old\n")
    box.run("--rw", ".", "--", "sh", "-c", "mkdir -p .vscode/new/er .git/hooks/d; echo 1 >.vscode/new/er/f; echo 2 >.git/hooks/d/f; echo new >.idea/old/n").ok()
    shutil.move(box.dir / ".idea/old", box.dir / "elsewhere")
    result = box.usbox("commit", "last")
    assert result.rc == 1 and re.findall(r": conflict: (.*)", result.err) == [f"{box.dir}/.idea/old: the host has this directory no more"], result
    shutil.move(box.dir / "elsewhere", box.dir / ".idea/old")
    assert " 0 failed, 0 passed over" in box.usbox("commit", "last").ok().err
    found = {name: (box.dir / name).read_text() for name in (".vscode/new/er/f", ".git/hooks/d/f", ".idea/old/n", ".idea/old/f")}
    assert list(found.values()) == ["1\n", "2\n", "new\n", "old\n"], found


def test_where_git_takes_its_configuration_from(box):
    """A repository that says where else it is to be found, and a worktree, whose .git is a file that says so."""
    subprocess.run(["git", "init", "-q", "--template=", "repo"], cwd=box.dir, check=True)
    box.write("tree/.git", f"gitdir: {box.dir}/repo/.git\n")
    box.write("repo/.git/config.worktree", "")
    evil = "mkdir evil; (cd evil && git init -q --bare . && git config core.fsmonitor 'touch stolen'); "
    script = evil + "echo $PWD/evil >.git/commondir; git config -f evil/config x.y z; cat evil/config >>.git/config.worktree; echo gitdir: $PWD/evil >.git; cat .git 2>/dev/null"
    for name in ("repo", "tree"):
        shown = box.run("--rm", "--rw", ".", "--", "sh", "-c", script, cwd=box.dir / name)
        assert (name == "tree") == (f"gitdir: {box.dir}/tree/evil" in shown.out), shown
        subprocess.run(["git", "status"], cwd=box.dir / name, check=True, capture_output=True)
        assert not list(box.dir.rglob("stolen")), shown
    assert (box.dir / "repo/.git").is_dir() and not (box.dir / "repo/.git/commondir").exists()
    assert (box.dir / "repo/.git/config.worktree").read_text() == "" and (box.dir / "tree/.git").read_text() == f"gitdir: {box.dir}/repo/.git\n"
    script = "echo gitdir: $PWD/evil >.git"
    box.write("new/file")
    box.run("--rw", ".", "--", "sh", "-c", script, cwd=box.dir / "new").ok()
    assert not (box.dir / "new/.git").exists()
    assert box.usbox("diff", "last", "--json").json()["hook"]


@pytest.mark.parametrize("name", ["repo/.git", "bare.git", "bare", "repo/.git/worktrees/tree"])
def test_a_tree_that_is_a_repository_itself(box, name):
    """A worktree needs the repository that it is of, so that is given by its own name: nothing in it may be made to run outside either."""
    for command in (["init", "-q", "-b", "main", "repo"], ["init", "-q", "--bare", name] if name.startswith("bare") else ["--version"],
                    ["-C", "repo", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "x"],
                    ["-C", "repo", "worktree", "add", "-q", "../tree"]):
        subprocess.run(["git", *command], cwd=box.dir, check=True, capture_output=True)
    place = box.dir / name
    linked = name.endswith("tree")
    if not linked:
        (place / "hooks/pre-commit").write_text("old hook\n")
    before = {x: (place / x).read_text() for x in ("config", "hooks/pre-commit", "commondir") if (place / x).exists()}
    script = f"cd {name} && echo evil >>config; echo evil >>hooks/pre-commit; echo evil >>commondir; mv hooks away; rm -f config HEAD2; echo through >new"
    box.run("--rw", name, "--", "sh", "-c", script).ok()
    assert (place / "new").read_text() == "through\n"
    assert {x: (place / x).read_text() for x in before} == before
    assert linked or not (place / "commondir").exists()
    assert not (place / "away").exists() and (linked or not (place / "config.worktree").exists())
    if name == "repo/.git":  # and a commit in the worktree goes through
        box.run("--rw=repo/.git", "--rw=tree", "--", "git", "-C", "tree", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "y").ok()
        assert subprocess.run(["git", "log", "--format=%s", "tree"], cwd=box.dir / "repo", check=True, capture_output=True).stdout == b"y\nx\n"


def test_a_new_hook_without_overlay_is_reported(no_kept):
    result = no_kept.run("--overlay=none", "--rw", ".", "--", "sh", "-c", "echo evil >.envrc").ok()
    assert ".envrc" in result.err and "look at it" in result.err, result


# The guard is back where the name is there and cannot be written: before, it is the box's own copy, which can be. Nothing is written meanwhile.
BACK = """
back() { for f; do until [ -e $f ] && [ ! -w $f ]; do sleep 0.01; done; done; }
spoil() { for f; do (echo evil >>$f) 2>/dev/null && echo spoilt $f; rm -rf $f 2>/dev/null; mv $f $f.away 2>/dev/null; ln -f $f $f.too 2>/dev/null; done; }
"""


class Working:
    """A box in which a script runs that waits for lines, and says lines."""

    def __init__(self, box, script, *options):
        self.proc = box.popen("run", "--rm", *options, "--rw", ".", "--", "sh", "-c", BACK + script, stdin=subprocess.PIPE)
        self.expect("ready")

    def expect(self, word):
        assert self.proc.stdout.readline().decode().strip() == word

    def go_on(self):
        self.proc.stdin.write(b"go on\n")
        self.proc.stdin.flush()

    def end(self):
        out, err = self.proc.communicate(b"end\n", timeout=60 * SLOW)
        assert self.proc.returncode == 0, (out, err)
        return out.decode(), err.decode()


def replace(box, name, text):
    box.write(name + ".lock", text).rename(box.dir / name)


def test_guards_come_back(box):
    """The kernel takes the mount over a file away when another is renamed into its place, as git config does, and over a directory that is removed."""
    fill(box)
    names = ".git/config .envrc .git/hooks .vscode"
    working = Working(box, f"echo mine >>.git/config; echo ready; back {names}; echo back; read line; spoil {names} .git/hooks/new .vscode/new; cat .git/config .envrc; ls .git .git/hooks")
    subprocess.run(["git", "config", "-f", ".git/config", "user.name", "host's"], cwd=box.dir, check=True)
    replace(box, ".envrc", "the host's\n")
    (box.dir / ".git/hooks").rename(box.dir / ".git/old")
    box.write(".git/hooks/post-merge", "the host's\n")
    shutil.rmtree(box.dir / ".vscode")
    (box.dir / ".vscode").mkdir()
    working.expect("back")
    out, err = working.end()
    assert "spoilt" not in out and "mine" not in out and "host's\nthe host's\n" in out and "away" not in out and out.endswith("\npost-merge\n"), out
    text = {name: (box.dir / name).read_text() for name in (".git/config", ".envrc", ".git/hooks/post-merge")}
    assert "name = host's" in text[".git/config"] and "evil" not in "".join(text.values()), text
    assert not list((box.dir / ".vscode").iterdir()) and not list((box.dir / ".git").glob("*.too"))
    for name in names.split():
        assert f"{name} was replaced on the host while the box ran: its guard is back" in err, err
    assert err.count("was replaced") == 4, err


def test_guards_come_back_each_time(no_kept):
    """By inode numbers that come again, too."""
    fill(no_kept)
    working = Working(no_kept, "echo ready; for i in 1 2 3 4; do until grep -q mine$i .git/config; do sleep 0.01; done; back .git/config; spoil .git/config; echo back; read line; done")
    for i in range(1, 5):
        replace(no_kept, ".git/config", f"mine{i}\n")
        working.expect("back")
        if i < 4:
            working.go_on()
    out, err = working.end()
    assert out == "" and (no_kept.dir / ".git/config").read_text() == "mine4\n", out
    assert err.count("its guard is back") == 1, err


def test_guards_come_back_over_another_repository(no_kept):
    fill(no_kept)
    working = Working(no_kept, "echo ready; back .git/config .git/hooks; echo back; read line; spoil .git/config; mv .git .git-away 2>/dev/null; echo x >.git/file")
    (no_kept.dir / ".git").rename(no_kept.dir / "old")
    subprocess.run(["git", "init", "-q", "--template=", no_kept.dir], check=True)
    no_kept.write(".git/hooks/post-merge", "the host's\n")
    working.expect("back")
    out, _ = working.end()
    assert out == "" and "evil" not in (no_kept.dir / ".git/config").read_text(), out
    assert (no_kept.dir / ".git/file").read_text() == "x\n" and (no_kept.dir / ".git/hooks/post-merge").exists()


def test_a_hook_that_has_no_guard_any_more_is_reported(no_kept):
    fill(no_kept)
    working = Working(no_kept, "echo ready; until [ -L .envrc ]; do sleep 0.01; done; echo seen; read line")
    shutil.rmtree(no_kept.dir / ".idea")
    (no_kept.dir / ".envrc.lock").symlink_to("elsewhere")
    (no_kept.dir / ".envrc.lock").rename(no_kept.dir / ".envrc")
    working.expect("seen")
    _, err = working.end()
    assert ".envrc was replaced on the host while the box ran, and from then on the box could write it" in err and ".git" not in err and ".idea" not in err, err


@pytest.mark.parametrize("nested", [True, False])
def test_where_no_guard_comes_back_it_is_said(no_kept, nested):
    """With --nested what the box sees of it is not ours to say; without inotify nobody sees the change."""
    fill(no_kept)
    script = "echo ready; until grep -q mine .git/config; do sleep 0.01; done; echo seen; read line"
    if nested:
        working = Working(no_kept, script, "--nested")
    else:
        argv = [USBOX, "run", "--rm", "--network=none", *no_kept.options, "--rw", ".", "--", "sh", "-c", script]
        limit = [*UNSHARE, f'echo 0 >/proc/sys/user/max_inotify_instances; exec {AS_OURSELVES} "$@"', "sh"]
        working = Working.__new__(Working)
        working.proc = subprocess.Popen([*limit, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=no_kept.env, cwd=no_kept.dir)
        working.expect("ready")
    replace(no_kept, ".git/config", "mine\n")
    working.expect("seen")
    _, err = working.end()
    assert ("max_user_instances" in err) != nested, err
    assert ".git/config was replaced on the host while the box ran, and from then on the box could write it" in err, err


def test_a_new_repository_stays_whole(no_kept):
    result = no_kept.run("--rw", ".", "--", "git", "init", "-q", ".").ok()
    assert (no_kept.dir / ".git/config").exists()
    assert ".git/hooks" in result.err and ".git/config" in result.err, result


def test_a_symlink_on_the_way_is_refused(no_kept):
    no_kept.write("elsewhere/hooks/x")
    (no_kept.dir / ".git").symlink_to("elsewhere")
    assert_refused(no_kept.run("--rw", ".", "--", "true"), ".git/hooks", "--rw-hooks")
    no_kept.run("--rw", ".", "--rw-hooks", "--", "true").ok()


@pytest.mark.slice
def test_git_works_in_a_written_through_tree(no_kept):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", no_kept.dir], check=True)
    no_kept.write("file", "text\n")
    no_kept.run("--rw", ".", "--", *git, "add", "file").ok()
    no_kept.run("--rw", ".", "--", *git, "commit", "-qm", "from a box").ok()
    log = subprocess.run(["git", "log", "--format=%s"], cwd=no_kept.dir, check=True, capture_output=True, text=True)
    assert log.stdout == "from a box\n"


LOOK = " before you run git, direnv or an editor there or above"
CHANGED = " was changed while the box ran: look at it" + LOOK
NEW = " is new: look at it" + LOOK
REPOSITORY = " is a new repository: look at what is in it and beside it" + LOOK
REPLACED = " is another one than before the box ran: look at what is in it" + LOOK
SHUT = " cannot be looked into: look at what is in it" + LOOK
BELOW = {"sub/.git/config": "[core]\n", "sub/.git/hooks/pre-commit": "old\n", ".git/modules/a/m/config": "[core]\n", ".git/modules/a/m/HEAD": "x\n",
         ".git/modules/a/m/refs/x": "", ".git/modules/a/m/objects/x": "", "a/m/.git": "gitdir: ../../.git/modules/a/m\n", "pkg/.vscode/tasks.json": "{}\n",
         "pkg/.idea/d/w.xml": "<x/>\n", "pkg/.envrc": "old\n", "bare.git/config": "[core]\n", "file": "text\n"}


def settle():
    """Directories that changed a moment ago are read again in any case."""
    time.sleep(0.2)


def fill_below(box):
    fill(box)
    for name, text in BELOW.items():
        box.write(name, text)
    settle()


def named(box, script, *options, rw="."):
    """What the end says of project hooks below the top, each by its path there."""
    result = box.run("--rm", *options, "--rw", rw, "--", "sh", "-c", script).ok()
    return [line.replace("usbox: ", "", 1).replace(f"{box.dir}/", "", 1) for line in result.err.splitlines()]


@pytest.mark.slice
@pytest.mark.parametrize("options", [(), ("--overlay=none",)], ids=["overlay", "none"])
def test_hooks_below_the_top_are_named(no_kept, options):
    """They have no guard."""
    fill_below(no_kept)
    assert named(no_kept, "echo more >>file; echo more >sub/.git/index; touch a/new pkg/new; mkdir -p sub/.git/objects/aa; cat sub/.git/config", *options) == []
    assert set(named(no_kept, "echo evil >>sub/.git/config; echo evil >sub/.git/hooks/post-merge; echo evil >>pkg/.idea/d/w.xml", *options)) == {
        f"{name}{CHANGED}" for name in ("sub/.git/config", "sub/.git/hooks", "pkg/.idea")}
    assert set(named(no_kept, "cp pkg/.envrc pkg/e; mv pkg/e pkg/.envrc; chmod +x sub/.git/hooks/pre-commit; echo x >a/m/.git; rm bare.git/config", *options)) == {
        f"{name}{CHANGED}" for name in ("pkg/.envrc", "sub/.git/hooks", "a/m/.git")}
    assert set(named(no_kept, "touch .git/modules/a/m/config.worktree bare.git/commondir; mkdir new new/.vscode; ln -s /etc new/.idea", *options)) == {
        *(f"{name}{CHANGED}" for name in (".git/modules/a/m/config.worktree", "bare.git/commondir")), f"new/.vscode{NEW}", f"new/.idea{NEW}"}
    assert named(no_kept, "echo x >>sub/.git/config; echo x >sub/.envrc; echo x >>pkg/.vscode/tasks.json", *options, "--rw-hooks") == []


# Of a page that was read first, the file system is not told when it is written.
BY_MAPPING = """
import mmap, os
for name in ("sub/.git/config", "sub/.git/hooks/pre-commit", "pkg/.envrc", "pkg/.vscode/large"):
    fd = os.open(name, os.O_RDWR)
    page = mmap.mmap(fd, 0)
    page[0] and page.write(b"evil")
"""


@pytest.fixture
def in_memory(no_kept):
    """no_kept in a directory of a tmpfs."""
    if not os.access("/dev/shm", os.W_OK) or subprocess.run(["stat", "-fc", "%T", "/dev/shm"], check=True, capture_output=True, text=True).stdout != "tmpfs\n":
        cannot("give a directory on a tmpfs")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as top:
        no_kept.dir = pathlib.Path(top)
        yield no_kept


def test_hooks_below_the_top_are_read_where_the_time_of_change_does_not_tell(in_memory):
    fill_below(in_memory)
    in_memory.write("pkg/.vscode/large", "x" * 300000)
    in_memory.write("sub/.git/hooks/x.sample", "x")
    box = in_memory
    assert named(box, "cat sub/.git/config pkg/.vscode/* sub/.git/hooks/*; echo more >>file") == []
    assert set(named(box, f"python3 - <<'X'\n{BY_MAPPING}\nX")) == {f"{name}{CHANGED}" for name in ("sub/.git/config", "sub/.git/hooks", "pkg/.envrc", "pkg/.vscode")}
    assert (box.dir / "pkg/.envrc").read_text(encoding="utf-8") == "evil"
    for i in range(40):
        box.write(f"pkg/.idea/{i}", "x" * 300000)
    *lines, last = named(box, "echo evil >sub/.envrc")
    assert lines == [f"sub/.envrc{NEW}"] and last == (
        f"not all project hooks below {box.dir} could be read (8 MiB at most): on its file system, others may have changed unseen"), last


def test_a_repository_below_the_top_that_is_new_is_one_line(no_kept):
    fill_below(no_kept)
    script = "git init -q clone; mkdir clone/.vscode clone/d; touch clone/.envrc clone/d/.envrc; git init -q clone/d/e; "
    assert named(no_kept, script + "mkdir -p d/bare/objects d/bare/refs; touch d/bare/HEAD d/bare/config") == [f"clone/.git{REPOSITORY}", f"d/bare{REPOSITORY}"]
    assert named(no_kept, "mv sub old; mkdir -p sub/.git; touch sub/.git/config") == [f"sub/.git{REPLACED}", f"old/.git{REPOSITORY}"]
    # what was there before is named all the same
    assert named(no_kept, "mkdir pkg/.git; touch pkg/.git/config; echo evil >>pkg/.envrc") == [f"pkg/.envrc{CHANGED}", f"pkg/.git{REPOSITORY}"]
    assert named(no_kept, "mkdir objects refs; echo ref: x >HEAD; echo evil >config") == [f"{no_kept.dir}{REPOSITORY}"]


def test_trees_within_each_other_are_looked_at_once(no_kept):
    fill_below(no_kept)
    assert named(no_kept, "echo evil >>sub/.git/config; echo evil >>pkg/.envrc; touch pkg/.idea/d/.envrc", "--rw", "pkg", "--rw", ".", rw="pkg") == [f"sub/.git/config{CHANGED}"]


def test_a_tree_within_another_that_is_not_where_it_was(no_kept):
    """Whoever may write what is above it can move it."""
    fill_below(no_kept)
    no_kept.write("d/tree/sub/.git/config")
    no_kept.write("d/tree/.vscode/tasks.json")
    *lines, last = named(no_kept, "mv d e; echo evil >>e/tree/sub/.git/config; mkdir -p d/tree/sub/.git; echo evil >d/tree/sub/.git/config", "--rw", ".", rw="d/tree")
    assert {f"e/tree/sub/.git{REPOSITORY}", f"d/tree/sub/.git{REPOSITORY}"} <= set(lines + [last]), (lines, last)
    assert any(line.startswith("d/tree is not the directory any more") for line in [*lines, last]), (lines, last)


def test_what_is_as_before_is_not_read_again(no_kept):
    """To read all names of a tree takes most of the time."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", no_kept.dir], check=True, capture_output=True, text=True).stdout.strip()
    if kind not in ("ext2/ext3", "xfs", "btrfs", "f2fs", "tmpfs"):
        cannot(f"tell by times of change that usbox trusts: its files are on {kind}")
    fill_below(no_kept)
    for i in range(50):
        no_kept.write(f"d/{i}/e/file")
    settle()
    err = no_kept.run("--rm", "--verbose", "--rw", ".", "--", "sh", "-c", "echo more >>d/1/e/file; touch d/2/new pkg/new; mkdir d/3/e/new").ok().err
    before, after = re.findall(r"(\d+) directories at and below work, (\d+) of them as before", err)
    assert before[1] == "0" and int(after[0]) > 100, (before, after)
    # all but d/2, pkg, d/3/e and what is new
    assert int(after[0]) - int(after[1]) == 4, (before, after)


OTHERS = """
touch -r one/k ../time; touch one/k/.envrc; touch -r ../time one/k
mv two/a two/x; mv two/b two/a; mv two/x two/b
mv three/a three/b
rm -r four/k; mkdir -p four/k; touch four/k/.idea
python3 -c 'import os; os.rename("five/k", "five/x"); os.rename("five/j", "five/k"); os.rename("five/x", "five/j")'
mkdir -p six/k/new/.vscode; ln -s ../one seven/one
"""


def test_what_only_looks_as_before_is_read_again(no_kept):
    """Directories that keep their time, their name or their number, and those below what is another one now."""
    fill_below(no_kept)
    for name in ("one/k/f", "two/a/k/.envrc", "two/b/k/f", "three/a/k/.envrc", "four/k/f", "five/k/d/e/.idea", "five/j/d/e/f", "six/k/f", "seven/f"):
        no_kept.write(name)
    settle()
    *lines, last = named(no_kept, OTHERS)
    assert last == f"1 more project hooks below {no_kept.dir} are new or were changed: look at them likewise", (lines, last)
    assert set(lines) < {f"{name}{NEW}" for name in ("one/k/.envrc", "two/b/k/.envrc", "three/b/k/.envrc", "four/k/.idea", "five/j/d/e/.idea", "six/k/new/.vscode")}
    assert len(lines) == 5


def test_hooks_below_the_top_that_are_many(no_kept):
    """Few are named, and first what git at the top reads by itself."""
    fill_below(no_kept)
    script = "for i in $(seq 20); do mkdir d$i; touch d$i/.envrc; done; echo evil >>pkg/.envrc; echo evil >>.git/modules/a/m/config"
    *lines, last = named(no_kept, script)
    assert lines[:2] == [f".git/modules/a/m/config{CHANGED}", f"pkg/.envrc{CHANGED}"] and len(lines) == 5, lines
    assert last == f"17 more project hooks below {no_kept.dir} are new or were changed: look at them likewise", last


HOSTILE = """
mkdir 'n
l' && touch 'n
l/.envrc'; mv pkg away; ln -s away pkg; mkdir -p shut/.git names/.git; chmod 0 shut; chmod 444 names
python3 - <<'X'
import os
os.mkdir("deep"); os.chdir("deep")
for i in range(3000):
    os.mkdir("d"); os.chdir("d")
open(".envrc", "w").close()
X
mkfifo sub/.envrc; echo evil >>sub/.git/config
"""


def test_a_tree_below_the_top_that_is_made_to_be_hard_to_look_at(no_kept):
    fill_below(no_kept)
    try:
        *lines, last = named(no_kept, HOSTILE)
        assert lines[0] == f"sub/.git/config{CHANGED}", lines
        told = {f"n\\nl/.envrc{NEW}", f"away/.envrc{NEW}", f"away/.vscode{NEW}", f"away/.idea{NEW}", f"shut{SHUT}", f"names{SHUT}", f"sub/.envrc{NEW}"}
        assert len(lines) == 6 and set(lines[1:5]) <= told and lines[5].startswith("3 more project hooks"), lines
        assert last.startswith(f"not all below {no_kept.dir} could be looked at"), last
        *lines, last = named(no_kept, "chmod 700 shut; echo evil >>sub/.git/config")
        assert lines == [f"sub/.git/config{CHANGED}", f"shut/.git{REPOSITORY}"] and last.startswith("not all"), (lines, last)
    finally:
        for name in ("shut", "names"):
            (no_kept.dir / name).chmod(0o700)
        subprocess.run(["rm", "-rf", no_kept.dir / "deep"], check=True)
