# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox commit: what a box changed comes to the host, all of it and nothing else, however often it is interrupted."""
import fcntl
import json
import os
import pathlib
import random
import resource
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from conftest import BUILD, HOME, SLOW, TOP, USBOX, assert_refused, cannot, has_subids

sys.path.insert(0, str(TOP / "tests" / "lib"))
import fs_churn  # noqa: E402

OVERLAYS = ("fuse", "kernel")
SEEDS = range(11, 11 + int(os.environ.get("USBOX_TEST_SEEDS", "3")))

LOOK = r"""
import json, os, stat, sys
def look(top):
    found, names = {}, {}
    for directory, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            shown = os.path.relpath(path, top)
            kind = stat.S_IFMT(st.st_mode)
            content = os.readlink(path) if stat.S_ISLNK(kind) else None
            if stat.S_ISREG(kind):
                if not st.st_mode & 0o400:
                    os.chmod(path, 0o400)
                content = open(path, "rb").read().decode("latin-1")
                if not st.st_mode & 0o400:
                    os.chmod(path, stat.S_IMODE(st.st_mode))
                names.setdefault((st.st_dev, st.st_ino), []).append(shown)
            attributes = {}
            if not stat.S_ISLNK(kind):
                attributes = {a: os.getxattr(path, a).hex() for a in os.listxattr(path) if a.startswith(("user.", "system.posix_acl")) and ".overlay." not in a}
            found[shown] = [kind, 0 if stat.S_ISLNK(kind) else stat.S_IMODE(st.st_mode), 0 if stat.S_ISDIR(kind) else st.st_mtime_ns, content, attributes]
    return found, sorted(sorted(n) for n in names.values() if len(n) > 1)
if __name__ == "__main__":
    json.dump(look(sys.argv[1]), sys.stdout)
"""


def look(top):
    """What there is below top: entries, and names of one file."""
    return json.loads(subprocess.run([sys.executable, "-c", LOOK, top], check=True, capture_output=True, timeout=60).stdout)


@pytest.fixture(params=OVERLAYS)
def tree(box, request):
    """A box whose tree/ is changed; look.py is beside it."""
    box.options = ["--network=none", f"--overlay={request.param}"]
    box.write("look.py", LOOK)
    box.tree = box.dir / "tree"
    box.tree.mkdir()
    return box


def fill(box):
    for name in ("src/a.c", "src/b.c", "old/deep/x", "old/k", "mode", "kind", "becomes", "noted", "untouched", "many/1", "many/2", "swap1/one",
                 "swap2/two", "ren/sub/f", "ren/g", "nest/in/f", "nest/out/f", "times", "acl", "gone", "newdir/here"):
        box.write(name, f"{name}\n", where=box.tree)
    (box.tree / "link").symlink_to("src/a.c")
    (box.tree / "l1").write_text("two names\n")
    os.link(box.tree / "l1", box.tree / "l2")


CHANGES = r"""
set -e
echo four >>src/a.c; sed -i s/b/B/ src/b.c
rm -r old; rm gone
chmod 751 mode; chmod 700 many
rm kind; mkdir kind; echo in >kind/in
rm becomes; ln -s src/a.c becomes; ln -sfn other link
setfattr -n user.note -v hello noted; setfattr -n user.dir -v d many
setfacl -m u:$(id -u):r acl; setfacl -d -m u:$(id -u):rx many
mkdir -p made/deep/er; echo 1 >made/deep/er/1; ln made/deep/er/1 made/hard; ln src/b.c made/b
truncate -s 1M made/sparse; echo end >>made/sparse
mv swap1 t; mv swap2 swap1; mv t swap2
mv ren renamed; echo more >>renamed/g; rm renamed/sub/f; echo n >renamed/new
mv nest/in moved; mv nest nested; mkdir nest; echo fresh >nest/f
rm -r newdir; mkdir newdir; echo other >newdir/other
touch -d 2001-02-03T04:05:06 times made/deep
printf x >"new
line"; chmod 400 "new
line"; mkdir closed; echo y >closed/y; chmod 500 closed
python3 ../look.py .
"""


def commit(box, *argv, **kw):
    return box.usbox("commit", "last", *argv, **kw)


def run_in_tree(box, script, *options):
    return box.run(*options, "--", "sh", "-c", f"cd tree; {script}").ok()


def changed_by(box, script=CHANGES):
    """Run it; what the tree was at its end."""
    return json.loads(run_in_tree(box, script).out)


def no_rest(box):
    """Nothing of a commit's own is left, and nothing is left to carry."""
    assert not [n for n in box.tree.rglob(".usbox-*")]
    assert box.usbox("diff", "last", box.tree).lines() == []


def same(box, want):
    have = look(box.tree)
    for path in sorted(set(have[0]) | set(want[0])):
        assert have[0].get(path) == want[0].get(path), path
    assert have[1] == want[1]


def test_a_name_at_which_nothing_changed_is_said_to_be_one(tree):
    run_in_tree(tree, "echo a >a")
    assert "no change of the box is at or below what is named; usbox diff " in commit(tree, "tree/mistyped").ok().err
    assert "what is named" not in commit(tree, "tree/a").ok().err
    assert (tree.tree / "a").read_text(encoding="utf-8") == "a\n"


def test_a_name_of_a_file_whose_other_name_is_not_asked_for(tree):
    """As git clone of a directory beside it has it: objects of the host's by a second name."""
    (tree.tree / "object").write_text("host\n", encoding="utf-8")
    run_in_tree(tree, "mkdir clone; ln object clone/object")
    assert "conflict" not in commit(tree, "tree/clone").ok().err
    assert os.path.samefile(tree.tree / "object", tree.tree / "clone/object")
    no_rest(tree)


@pytest.mark.slice
@pytest.mark.parametrize("script,left", [("echo x >>a; rm b", {"a": "one\nx\n", "c": "one\n"}), ("rm a b", {"c": "one\n"}), ("rm a b c", {}),
                                         ("rm a; rm b; echo new >b; chmod 600 c", {"b": "new\n", "c": "one\n"})])
def test_names_of_one_file(tree, script, left):
    """What a commit does at one name of a file changes the file's ctime, by which the others look changed: that was it itself. Also where it goes on."""
    (tree.tree / "a").write_text("one\n", encoding="utf-8")
    for name in ("b", "c"):
        os.link(tree.tree / "a", tree.tree / name)
    run_in_tree(tree, script)
    result = commit(tree, tree.tree / "a").ok()
    assert ("a: has other names on the host, which keep what it was" in result.err) == ("x >>a" in script), result
    assert ", 0 failed, 0 passed over" in commit(tree).ok().err
    assert {path.name: path.read_text(encoding="utf-8") for path in tree.tree.iterdir()} == left
    no_rest(tree)


@pytest.mark.parametrize("named", [(), ("tree/a",)], ids=["at once", "one first"])
def test_names_of_one_file_in_directories_that_go(tree, named):
    """With the first directory the file loses a name, by which it is found changed in the second. What the host did meanwhile is a conflict still."""
    for name in ("a/deep/1", "c/2"):
        tree.write(name, f"{name}\n", where=tree.tree)
    (tree.tree / "b").mkdir()
    for name in ("b/1", "left"):
        os.link(tree.tree / "a/deep/1", tree.tree / name)
    run_in_tree(tree, "rm -r a b c")
    assert ", 0 failed, 0 passed over" in commit(tree, *named or ("tree/a", "tree/b")).ok().err
    (tree.tree / "c/2").write_text("host\n", encoding="utf-8")
    if named:
        assert re.findall(r"conflict: \S+/tree/(\S+):", commit(tree).err) == ["c"]
        assert " 1 change carried" in commit(tree, "tree/b").ok().err
    assert sorted(os.listdir(tree.tree)) == ["c", "left"] and (tree.tree / "left").read_text(encoding="utf-8") == "a/deep/1\n"
    assert (tree.tree / "left").stat().st_nlink == 1 and (tree.tree / "c/2").read_text(encoding="utf-8") == "host\n"


@pytest.mark.parametrize("gone", ["b", "d"])
def test_a_file_that_lost_a_name_by_a_commit_is_moved_by_the_host(tree, gone):
    """It is its only copy then, and what it has come to is not what the box had there."""
    for name in ("a", "d/1", "f", "t/2"):
        tree.write(name, f"{name}\n", where=tree.tree)
    os.link(tree.tree / "a", tree.tree / "b")
    os.link(tree.tree / "d/1", tree.tree / "e")
    run_in_tree(tree, "rm -r b d; echo box >>f; rm -r t")
    assert " 1 change carried" in commit(tree, f"tree/{gone}").ok().err
    last = tree.tree / {"b": "a", "d": "e"}[gone]
    content = last.read_text(encoding="utf-8")
    os.link(last, tree.tree / "t/3")
    last.rename(tree.tree / "f")
    before = look(tree.tree)
    result = commit(tree)
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+):", result.err) == ["f", "t"], result
    assert look(tree.tree) == before and (tree.tree / "f").read_text(encoding="utf-8") == content


def test_a_name_goes_of_a_file_whose_attributes_changed(tree):
    """They are changed in place, for all names of it."""
    (tree.tree / "a").write_text("one\n", encoding="utf-8")
    os.link(tree.tree / "a", tree.tree / "b")
    run_in_tree(tree, "chmod 600 a; touch -d @5 a; rm b")
    assert " 2 changes carried to the host, 0 failed" in commit(tree).ok().err
    assert os.listdir(tree.tree) == ["a"] and (tree.tree / "a").stat().st_mtime == 5 and (tree.tree / "a").stat().st_mode & 0o777 == 0o600
    no_rest(tree)


@pytest.mark.parametrize("script", ["mv a c", "setfattr -n user.k -v v a; mv a c", "mv a c; echo more >>c", "mkdir d; mv a d/c"])
def test_a_file_of_several_names_gets_another(tree, script):
    """Of which the box has not looked at the others. By usbox-fs the file has these still; the kernel's overlay gave it its own bytes, and they are what they were."""
    (tree.tree / "a").write_text("one\n", encoding="utf-8")
    os.link(tree.tree / "a", tree.tree / "b")
    run_in_tree(tree, script)
    result = commit(tree).ok()
    name = "d/c" if "mkdir" in script else "c"
    told = f"{tree.tree}/{name}: a file of its own here: what the box had by this name has other names on the host, which keep what it was" in result.err
    assert told == ("--overlay=fuse" in tree.options), result
    assert (tree.tree / "b").read_text(encoding="utf-8") == "one\n" and not os.path.samefile(tree.tree / "b", tree.tree / name)
    assert os.listxattr(tree.tree / "b") == [] and (os.listxattr(tree.tree / name) == ["user.k"]) == ("setfattr" in script)
    no_rest(tree)


@pytest.mark.parametrize("script", ["mv a c; mv b d", "mv a c; rm b", "ls -l a b; mv a c"])
def test_a_file_of_several_names_gets_another_for_each(tree, script):
    """Or one that stands on the host by one of its names: nothing is left that keeps what it was."""
    (tree.tree / "a").write_text("one\n", encoding="utf-8")
    os.link(tree.tree / "a", tree.tree / "b")
    run_in_tree(tree, script)
    assert "other names" not in commit(tree).ok().err
    if "--overlay=fuse" in tree.options and "rm b" not in script:
        assert len({path.stat().st_ino for path in tree.tree.iterdir()}) == 1 and len(os.listdir(tree.tree)) == 2
    no_rest(tree)


@pytest.mark.parametrize("script", ["ln a A; chmod 600 a", "ln a A; setfattr -n user.k -v v A", "ln -f a B; chmod 600 B", "mv d e; ln e/z e/a; chmod 600 e/z"])
def test_a_new_name_comes_before_that_of_which_attributes_changed(tree, script):
    """In the order of the walk it is first, when the host's file is not yet what it is in the box."""
    for name in ("a", "B", "d/z"):
        tree.write(name, f"{name}\n", where=tree.tree)
    run_in_tree(tree, script)
    assert " 0 failed, 0 passed over" in commit(tree).ok().err
    old, new = ("e/z", "e/a") if "mv" in script else ("a", "B" if "B" in script else "A")
    assert os.path.samefile(tree.tree / old, tree.tree / new)
    no_rest(tree)


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)  # the kernel's overlay renames no directory
def test_a_new_name_that_comes_last_is_not_made_in_a_directory_that_could_not_be(tree):
    """The host's directory of that name still stands. Two of them: the second is not all that is passed over."""
    for d in ("shut/a", "shut/b", "x", "y"):
        (tree.tree / d).mkdir(parents=True)
    tree.write("f", "f\n", where=tree.tree)
    (tree.tree / "shut").chmod(0o555)
    try:
        run_in_tree(tree, "chmod 700 shut; chmod 600 f; ln f x/g; rmdir shut/a shut/b; mv x shut/a; mv y shut/b; chmod 555 shut")
        err = commit(tree).err
        assert err.count("failed: ") == 2 and "1 change carried to the host, 2 failed" in err, err
        assert sorted(os.listdir(tree.tree / "shut")) == ["a", "b"] and not os.listdir(tree.tree / "shut/a")
    finally:
        (tree.tree / "shut").chmod(0o755)
    assert not list(tree.tree.rglob(".usbox-*"))


def test_attributes_of_a_file_of_several_names(tree):
    """They are the host's file's. The kernel's overlay has shown another name with what it had before, so it is said that this gets them, too."""
    (tree.tree / "a").write_text("one\n", encoding="utf-8")
    os.link(tree.tree / "a", tree.tree / "b")
    run_in_tree(tree, "ls -l a b; chmod 600 a")
    told = f"{tree.tree}/a: has other names on the host, of which mode, attributes and times change as well" in commit(tree).ok().err
    assert told == ("--overlay=kernel" in tree.options)
    assert os.path.samefile(tree.tree / "a", tree.tree / "b") and (tree.tree / "b").stat().st_mode & 0o777 == 0o600


def test_a_file_of_the_project_is_no_name_of_one_outside_of_it(tree, home_file):
    """The next box, which may write the project, would write what nobody showed it; nor is it one of a hook. Of three names in the project two are one file."""
    tool = home_file(f".local/bin/usbox-test-{os.getpid()}", mode=0o755)
    (tree.tree / ".envrc").write_text("hook\n", encoding="utf-8")
    (tree.tree / "made").mkdir()
    tree.run("--", "sh", "-c", f"cd tree; ln {tool} made/a || cp -p {tool} made/a; ln made/a made/b; ln .envrc made/hook; ln .envrc made/other").ok()
    assert " 4 changes carried" in commit(tree).ok().err
    files = {name: (tree.tree / "made" / name).stat() for name in ("a", "b", "hook", "other")}
    assert files["a"].st_ino == files["b"].st_ino != tool.stat().st_ino and files["hook"].st_ino == files["other"].st_ino != (tree.tree / ".envrc").stat().st_ino
    assert (tree.tree / "made/a").read_bytes() == tool.read_bytes() and (tree.tree / "made/hook").read_text(encoding="utf-8") == "hook\n"
    no_rest(tree)


@pytest.mark.slice
def test_everything(tree):
    fill(tree)
    want = changed_by(tree)
    before = look(tree.tree)
    shown = commit(tree, "--dry-run").ok()
    assert look(tree.tree) == before and "D  " in shown.out and "0 conflicts" in shown.err
    assert "0 failed" in commit(tree).ok().err
    same(tree, want)
    assert (tree.tree / "made/sparse").stat().st_blocks < 100
    no_rest(tree)
    assert " 0 changes carried" in commit(tree).ok().err


RENAMES = {
    "and back": "ln a/1 a/new; rm a/2; mv a t; echo more >>t/3; mv t a; chmod 600 a/4",
    "and back, out of another": "mv p t; mkdir p; mv t/s p/s; rm p/s/1; echo more >>p/s/2; ln p/s/3 p/s/new; mkdir p/s/d; touch t/new",
    "two changed places": "mv a t; mv b a; mv t b; rm a/2 b/1; echo more >>a/3; chmod 600 b/3; echo new >b/new; rm a/4; mkdir a/4; touch a/4/x; ln b/4 b/link",
    "three changed places": "mv a t; mv b a; mv c b; mv t c; rm a/1 b/2 c/3; for f in a/2 b/3 c/1; do echo more >>$f; done",
    "into the next, which takes its place": "rm b/1; mv a b/1; mv b a; rm a/2 a/1/3; echo more >>a/1/2; mv a/3 a/1/3",
    "a part goes elsewhere": "mv p q; mv q/s b/s; rm q/1 b/s/1; echo more >>b/s/2; mkdir q/s; touch q/s/1",
    "a part of what came in its place": "mv p q; mv b p; mv p/2 q/s/2; mkdir p/s; echo new >p/s/2; mv q/s c/s; rm c/s/3",
}


@pytest.mark.parametrize("script", RENAMES.values(), ids=RENAMES)
def test_renamed_directories(tree, script):
    """And changed as well: what goes with a directory is told apart from what the host has where that comes to."""
    for directory in ("a", "b", "c", "p", "p/s"):
        for name in "1234":
            tree.write(f"{directory}/{name}", f"{directory}/{name}\n", where=tree.tree)
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    result = commit(tree).ok()
    assert " 0 failed, 0 passed over" in result.err and "conflict" not in result.err, result
    same(tree, want)
    no_rest(tree)


@pytest.mark.parametrize("script", ["mv a b", "mv a b; echo new >a", "mv a b; mkdir a; touch a/new a/1", "mv a/s b", "mv a/s b; rm -r a", "mv a b; mv c a",
                                    "mv a b; mv b/s c/s; mkdir b/s"])
@pytest.mark.parametrize("named", ["tree/a", "tree/b"])
@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_where_a_directory_was_is_committed_before_where_it_is(tree, script, named):
    """Of what a renamed directory has there is nothing but what stands on the host."""
    for name in ("a/1", "a/s/2", "c/3"):
        tree.write(name, f"{name}\n", where=tree.tree)
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    first = commit(tree, named)
    if named == "tree/a":
        assert re.search(r"skipped: \S+/tree/a\S*: the box has what the host has here as \S+/tree/\S+, which is to be named, too", first.err), first
    assert " 0 failed, 0 passed over" in commit(tree).ok().err
    same(tree, want)
    no_rest(tree)


@pytest.mark.parametrize("script", ["mv a/s shut/s; rm -r a", "mv a/s shut/s; rm -r a; echo new >a", "mv a/s shut/s; rm -r a; mv c a", "mv a shut/s", "mv a shut/s; mv c a"])
@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_a_directory_that_cannot_be_moved_is_not_removed_with_another(tree, script):
    """Where it is to go cannot be written. Once it can, the commit goes on."""
    for name in ("a/1", "a/s/2", "c/3", "shut/4"):
        tree.write(name, f"{name}\n", where=tree.tree)
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    (tree.tree / "shut").chmod(0o555)
    result = commit(tree, "--force")
    assert result.rc == 1 and f"failed: {tree.tree}/shut/s: Permission denied" in result.err, result
    assert list(tree.tree.rglob("2")) and list(tree.tree.rglob("3")), result
    (tree.tree / "shut").chmod(0o755)
    assert " 0 failed, 0 passed over" in commit(tree).ok().err
    same(tree, want)
    no_rest(tree)


@pytest.mark.parametrize("script", ["mv p q; mv d q/d; echo file >d", "mv p q; mv d q/d; mkdir d; echo file >d/1", "mv p q; mv d q/d; mv e d"])
@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_a_directory_that_went_into_one_that_is_passed_over(tree, script):
    """It stays where it is, and so nothing comes in its place: that is no change of the host's."""
    for name in ("p/secret", "p/1", "d/1", "e/2"):
        tree.write(name, f"{name}\n", where=tree.tree)
    tree.options.append(f"--hide={tree.tree}/p/secret")
    run_in_tree(tree, script)
    before = look(tree.tree)
    result = commit(tree)
    assert result.rc == 1 and " 0 changes carried to the host, 0 failed, " in result.err, result
    assert re.search(r"skipped: \S+/tree/d(/1)?: what the host has here was to be renamed, and cannot be", result.err), result
    assert look(tree.tree) == before


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)  # the kernel's overlay renames no directory
def test_a_long_chain_of_renamed_directories_that_cannot_be(tree):
    """The first has a name that is never carried, and so the second cannot have its place, nor the third that of the second: one walk over all of them is enough."""
    n, more = 200, 5000
    for i in range(n):
        (tree.tree / f"d{i:03}").mkdir()
    script = (f"import os; [open(f'f{{i}}', 'w').close() for i in range({more})]; os.rename('d000', '.usbox-commit-x'); "
              f"[os.rename(f'd{{i:03}}', f'd{{i - 1:03}}') for i in range(1, {n})]")
    tree.run("--", "sh", "-c", f'cd tree; python3 -c "{script}"', timeout=200).ok()  # each rename is synced
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = commit(tree, "--dry-run", timeout=200)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert f"{more} changes would be carried, 0 conflicts, {n + 1} passed over" in result.err, result.err[-1000:]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 5 * SLOW, cpu


@pytest.mark.parametrize("script", ["mv a t; mv b a; mv t b", "rm -r a; mkdir a", "chmod 700 a", "python3 -c 'import os; os.setxattr(\"a\", \"user.k\", b\"v\")'"])
def test_a_box_that_changed_only_directories_of_the_hosts_is_kept(tree, script):
    """Its layer has no file, and no directory that the host has not."""
    tree.write("a/1", "1\n", where=tree.tree)
    tree.write("b/2", "2\n", where=tree.tree)
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    assert " 0 failed, 0 passed over" in commit(tree).ok().err
    same(tree, want)
    assert tree.usbox("diff", "last").ok().out == ""


def test_a_change_far_down_is_kept(tree):
    """Farther than what is counted for the line at the end of the run."""
    far = "/".join(["d" * 200] * 6)
    tree.write(f"{far}/1", "1\n", where=tree.tree)
    run_in_tree(tree, f"echo 2 >{far}/1")
    assert "1 change carried to the host, 0 failed" in commit(tree).ok().err
    assert (tree.tree / far / "1").read_text(encoding="utf-8") == "2\n"


def test_a_box_that_made_and_removed_a_file_leaves_nothing(tree):
    tree.write("a/1", "1\n", where=tree.tree)
    (tree.tree / "a").chmod(0o700)
    changed_by(tree, "touch a/t; rm a/t; python3 ../look.py .")
    assert_refused(commit(tree), "box", "left nothing", "")


def test_a_directory_in_which_a_commit_worked(tree):
    """Its ctime is the commit's doing, and what the box did with it is no conflict in the next one; what the host did is one still."""
    for name in ("mode/1", "anew/1", "gone/1", "closed/1"):
        tree.write(name, f"{name}\n", where=tree.tree)
    run_in_tree(tree, "echo x >mode/1; chmod 700 mode; rm -r anew; mkdir anew; touch anew/1 anew/2; rm -r gone; echo x >closed/1; chmod 700 closed")
    assert " 2 changes carried" in commit(tree, "tree/mode/1", "tree/anew/2").ok().err
    (tree.tree / "closed").chmod(0o750)
    result = commit(tree)
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+):", result.err) == ["closed"], result
    assert " 0 failed" in commit(tree, "--force").ok().err
    assert [oct((tree.tree / name).stat().st_mode)[-3:] for name in ("mode", "closed")] == ["700", "700"] and not (tree.tree / "gone").exists()
    no_rest(tree)


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_where_a_file_was_is_committed_before_where_it_is(tree):
    """It was that commit which took it, and not somebody on the host; what somebody took is a conflict."""
    for name in ("from/1", "from/2", "to/x"):
        tree.write(name, f"{name}\n", where=tree.tree)
    run_in_tree(tree, "mv from/1 to/1; mv from/2 to/2")
    assert " 2 changes carried" in commit(tree, "tree/from").ok().err and os.listdir(tree.tree / "from") == []
    assert " 2 changes carried" in commit(tree).ok().err
    assert {name: (tree.tree / "to" / name).read_text(encoding="utf-8") for name in "12"} == {"1": "from/1\n", "2": "from/2\n"}
    no_rest(tree)
    run_in_tree(tree, "chmod 600 to/1; echo more >>to/2")
    assert " 1 change carried" in commit(tree, "tree/to/2").ok().err
    for name in "12":
        (tree.tree / "to" / name).unlink()
    result = commit(tree)
    assert result.rc == 1 and result.err.count("the host has this file no more") == 2, result


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_where_a_file_was_is_removed_as_a_whole_before_where_it_is(tree):
    """Its directory's removal is one change, and takes the file from the host."""
    for name in ("from/deep/1", "from/2", "to/x"):
        tree.write(name, f"{name}\n", where=tree.tree)
    run_in_tree(tree, "mv from/deep/1 to/1; chmod 600 to/1; rm -r from")
    assert " 1 change carried" in commit(tree, "tree/from").ok().err and os.listdir(tree.tree) == ["to"]
    assert " 1 change carried" in commit(tree).ok().err
    assert (tree.tree / "to/1").read_text(encoding="utf-8") == "from/deep/1\n"
    no_rest(tree)


def test_what_the_host_removed_of_what_a_commit_brought_does_not_come_back(tree):
    """Until that is asked for. What the box itself removed meanwhile, with another commit, and has again is new."""
    tree.options += ["--name", "agent"]
    tree.write("new/1", "host\n", where=tree.tree)
    run_in_tree(tree, "rm -r new; mkdir new dir; echo f >f; echo 1 >new/1; echo 2 >new/2; echo 3 >dir/3; ln -s f link")
    assert " 0 failed" in tree.usbox("commit", "agent").ok().err
    for name in ("f", "new/1", "link"):
        (tree.tree / name).unlink()
    shutil.rmtree(tree.tree / "dir")
    result = tree.usbox("commit", "agent")
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+): (.*)", result.err) == [
        ("dir", "the host has this directory no more"), *((name, "the host has this file no more") for name in ("f", "link", "new/1"))], result
    assert " 0 changes carried" in tree.usbox("commit", "agent", "tree/new/2").ok().err
    assert sorted(p.name for p in tree.tree.rglob("*")) == ["2", "new"]
    assert " 5 changes carried" in tree.usbox("commit", "agent", "--force").ok().err
    run_in_tree(tree, "rm -r f dir")
    assert " 2 changes carried" in tree.usbox("commit", "agent").ok().err
    run_in_tree(tree, "echo again >f; mkdir dir; echo again >dir/3")
    assert " 3 changes carried" in tree.usbox("commit", "agent").ok().err and (tree.tree / "dir/3").read_text(encoding="utf-8") == "again\n"
    shutil.rmtree(tree.tree / "new")
    assert "conflict: " in tree.usbox("commit", "agent").err and not (tree.tree / "new").exists()
    tree.usbox("rm", "agent").ok()


def test_a_directory_whose_mode_a_commit_changed_is_the_same_one(tree):
    """And so is one that the host renamed and put back."""
    tree.options += ["--name", "agent"]
    for path in ("d/1", "d/s/2", "e/3"):
        tree.write(path, f"{path}\n", where=tree.tree)
    run_in_tree(tree, "chmod 750 d; chmod 711 d/s; setfattr -n user.k -v box e")
    assert " 3 changes carried" in tree.usbox("commit", "agent").ok().err
    run_in_tree(tree, "echo more >>d/1; rm d/s/2; echo more >>e/3")
    assert " 3 changes carried" in tree.usbox("commit", "agent").ok().err
    run_in_tree(tree, "echo and more >>d/1; echo and more >>e/3")
    for to in ("aside", "d"):
        next(tree.tree.glob("d" if to == "aside" else "aside")).rename(tree.tree / to)
    assert " 2 changes carried" in tree.usbox("commit", "agent").ok().err
    tree.usbox("rm", "agent").ok()


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_the_host_shuts_what_a_commit_brought_in_a_directory_that_the_box_renames_then(tree):
    """On the host it has its old path still."""
    tree.options += ["--name", "agent"]
    tree.write("a/f", "1\n", where=tree.tree)
    run_in_tree(tree, "echo 2 >>a/f")
    assert " 1 change carried" in tree.usbox("commit", "agent").ok().err
    (tree.tree / "a/f").chmod(0o600)
    run_in_tree(tree, "mv a z; echo more >>z/f")
    result = tree.usbox("commit", "agent")
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+): (.*)", result.err) == [("z/f", "the host changed it since")], result
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent", "--force").ok().err
    assert (tree.tree / "z/f").read_text(encoding="utf-8") == "1\n2\nmore\n"
    tree.usbox("rm", "agent").ok()


@pytest.mark.parametrize("name", ["new/f", "new", "f", "d", "moved"])
def test_the_host_shuts_what_a_commit_brought(tree, name):
    """It stays shut: a mode changes neither the time nor the size by which the commit knows what it has made."""
    for path in ("f", "d/1", "old/2"):
        tree.write(path, f"{path}\n", where=tree.tree)
    tree.options += ["--name", "agent"]
    run_in_tree(tree, "mkdir new; echo 1 >new/f; echo 2 >>f; chmod 750 d; mv old moved; chmod 755 moved")
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    assert " 0 changes carried" in tree.usbox("commit", "agent").ok().err
    mode = (tree.tree / name).stat().st_mode & 0o777
    (tree.tree / name).chmod(0o700)
    run_in_tree(tree, "echo more >>new/f; echo 3 >other")
    result = tree.usbox("commit", "agent")
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+): the host changed", result.err) == [name], result
    assert (tree.tree / name).stat().st_mode & 0o777 == 0o700 and not (tree.tree / "other").exists()
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "--force", "agent").ok().err
    assert (tree.tree / name).stat().st_mode & 0o777 == mode and (tree.tree / "new/f").read_text(encoding="utf-8") == "1\nmore\n"
    assert " 0 changes carried" in tree.usbox("commit", "agent").ok().err
    tree.usbox("rm", "agent").ok()


def attributes(path):
    """The machine's own (security.selinux) are not."""
    return {key: os.getxattr(path, key) for key in os.listxattr(path) if key.startswith(("user.", "system."))}


@pytest.mark.parametrize("name", ["new/f", "new", "f", "d", "moved"])
@pytest.mark.parametrize("what", ["attribute", "changed", "gone", "ACL"])
def test_the_host_s_attributes_of_what_a_commit_brought_stay(tree, name, what):
    """They, too, change neither the time nor the size by which the commit knows what it has made."""
    for path in ("f", "d/1", "old/2"):
        tree.write(path, f"{path}\n", where=tree.tree)
    tree.options += ["--name", "agent"]
    set_it = "setfattr -n user.k -v box new new/f f d moved"
    run_in_tree(tree, f"mkdir new; echo 1 >new/f; echo 2 >>f; chmod 750 d; mv old moved; chmod 755 moved; {set_it}")
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    assert " 0 changes carried" in tree.usbox("commit", "agent").ok().err
    path = tree.tree / name
    if what == "gone":
        os.removexattr(path, "user.k")
    elif what == "ACL":
        subprocess.run(["setfacl", "-m", "u:0:r", path], check=True)
    else:
        os.setxattr(path, "user.k" if what == "changed" else "user.host", b"host")
    before = attributes(path)
    run_in_tree(tree, "echo more >>new/f; echo 3 >other")
    result = tree.usbox("commit", "agent")
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+): the host changed", result.err) == [name], result
    assert attributes(path) == before and not (tree.tree / "other").exists()
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "--force", "agent").ok().err
    assert attributes(path) == {"user.k": b"box"}
    assert " 0 changes carried" in tree.usbox("commit", "agent").ok().err
    tree.usbox("rm", "agent").ok()


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_a_directory_that_was_renamed_and_is_another_on_the_host_by_now(tree):
    """Even if it has the old one's number, as is usual. What the host did in the old one goes along."""
    for name in ("a/1", "b/2"):
        tree.write(name, f"{name}\n", where=tree.tree)
    if subprocess.run(["stat", "-c", "%W", tree.tree], check=True, capture_output=True, timeout=60).stdout == b"0\n":
        cannot("tell when a directory was made")
    run_in_tree(tree, "mv a to; echo more >to/new; mv b went")
    shutil.rmtree(tree.tree / "a")
    tree.write("a/host", "host\n", where=tree.tree)
    tree.write("b/host", "host\n", where=tree.tree)
    before = look(tree.tree)
    result = commit(tree)
    assert result.rc == 1 and re.findall(r"conflict: \S+/tree/(\S+): (.*)", result.err) == [
        ("to", "the host has another directory now where the one was that was renamed to it")], result
    assert look(tree.tree) == before
    assert " 0 failed, 0 passed over" in commit(tree, "tree/went", "tree/b").ok().err
    assert sorted(os.listdir(tree.tree / "went")) == ["2", "host"] and os.listdir(tree.tree / "a") == ["host"]
    commit(tree, "--force").ok()
    assert sorted(os.listdir(tree.tree / "to")) == ["host", "new"] and not (tree.tree / "a").exists()


def without_fifos(tree, fifos):
    return {p: v for p, v in tree.items() if not any(p == f or p.startswith(f + "/") for f in fifos)}


@pytest.mark.parametrize("before", ["nothing", "parts", "killed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_changes(tree, seed, before):
    """What the box had is what the host then has, whatever was carried before the whole; FIFOs are passed over."""
    rng = random.Random(f"{seed} {before}")
    shutil.copy(TOP / "tests" / "lib" / "fs_churn.py", tree.dir)
    fs_churn.populate(str(tree.tree), random.Random(seed))
    result = tree.run("--", "/usr/bin/python3", "fs_churn.py", str(seed), "120", "tree").ok()
    want = {path: tuple(entry) for path, entry in json.loads(result.out).items()}
    fifos = [path for path, entry in want.items() if entry[0] == "fifo"]
    names = sorted({*want, *fs_churn.snapshot(str(tree.tree))})
    for _ in range(3):
        if before == "parts":
            assert commit(tree, "--", "tree" + rng.choice(names)).rc in (0, 1)
        elif before == "killed":
            assert injected(tree, "--fault", f"usbox:{rng.choice(CHANGING)}:{rng.randrange(1, 30)}:SIGKILL")[0] in (0, 1, 128 + signal.SIGKILL)
    # The kernel does not tell of which file a copy is: what is in a directory in which an earlier one worked may have been the host's.
    result = commit(tree, *["--force"] * (before == "parts" and "--overlay=kernel" in tree.options))
    assert result.rc == (1 if fifos else 0), result
    assert " 0 failed" in result.err and "conflict:" not in result.err, result
    assert without_fifos(fs_churn.snapshot(str(tree.tree)), fifos) == without_fifos(want, fifos)
    if not fifos:
        no_rest(tree)


INJECT = BUILD / "tests" / "faults" / "inject"
# Those before and after which the host, the journal or what is not finished yet is another.
CHANGING = ("openat", "write", "renameat2", "unlinkat", "mkdirat", "linkat", "symlinkat", "fchmod", "fsetxattr", "utimensat", "syncfs", "fdatasync", "copy_file_range")


def injected(box, *arguments, command=("commit", "last")):
    """usbox commit (or command) under tests/faults/inject: its status (128 and the signal), and its calls that change something, as CALL:N."""
    if not INJECT.exists():
        cannot("run tests/faults/inject, which writes registers of x86-64")
    with tempfile.NamedTemporaryFile("r", dir=box.top) as log:
        proc = subprocess.run([INJECT, "--log", log.name, *arguments, "--", USBOX, *command], env=box.traced(), cwd=box.dir, capture_output=True,
                              timeout=120, check=False)
        calls = [line.split()[2:] for line in log if line.startswith("call usbox ")]
    return proc.returncode, [f"{name}:{n}" for name, n in calls if name in CHANGING]


def killed(box, call):
    """Whether the commit was ended at that call."""
    rc, _ = injected(box, "--fault", f"usbox:{call}:SIGKILL")
    assert rc in (0, 128 + signal.SIGKILL), rc
    return rc != 0


@pytest.mark.parametrize("call", ("renameat2:2", "renameat2:5", "fchmod:4"))
def test_killed_again_and_again(tree, call):
    """Each commit gets a few steps on."""
    fill(tree)
    want = changed_by(tree)
    n = 0
    while killed(tree, call):
        n += 1
        assert n < 200
    assert n > 1
    same(tree, want)
    no_rest(tree)


@pytest.mark.parametrize("first", range(3))
def test_killed_once(box, first):
    """At one call of many; the next commit does the rest."""
    box.options = ["--network=none"]
    box.write("look.py", LOOK)

    def changed(name):
        box.tree = box.dir / name
        fill(box)
        return json.loads(box.run("--", "sh", "-c", f"cd {name}; {CHANGES}").ok().out)
    changed("whole")
    rc, calls = injected(box)
    assert rc == 0 and len(calls) > 100
    for at in range(first, len(calls), max(6, len(calls) // 8)):
        want = changed(f"t{at}")
        killed(box, calls[at])
        commit(box).ok()
        same(box, want)
        no_rest(box)


MORE_RENAMES = {
    "into new ones": "mkdir -p n/m; mv a n/m/a; mv p/s n/s; rm n/m/a/1; mv b c/b",
    "nested ones apart": "mv p q; mv q/s c/s; mv q c/s/q",
    "one after the other": "mv a t; mv b a; mv c b; mv p c; mv c/s p",
}
GOES_ON = "set -e; mv c z; for d in a b p q; do test ! -d $d || mv $d c-$d; done; for f in $(find . -name 3); do rm $f; done; for f in $(find . -name 2); do echo on >>$f; done"


# The kernel's overlay renames no directory: a part of what it has is as any other.
@pytest.mark.parametrize("tree,named", [("fuse", None), ("fuse", "tree/b"), ("fuse", "tree/q"), ("kernel", None)], indirect=["tree"])
@pytest.mark.parametrize("script", [*RENAMES.values(), *MORE_RENAMES.values()], ids=[*RENAMES, *MORE_RENAMES])
def test_a_box_goes_on_where_a_commit_renamed_directories(tree, script, named):
    """It sees what it left, and with the next commit the host loses nothing that the box did not remove."""
    tree.options += ["--name", "agent"]
    for directory in ("a", "b", "c", "p", "p/s"):
        for name in "1234":
            tree.write(f"{directory}/{name}", f"{directory}/{name}\n", where=tree.tree)
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    tree.usbox("commit", "agent", *([named] if named else []))
    assert changed_by(tree, "python3 ../look.py .") == want
    want = changed_by(tree, f"{GOES_ON}; python3 ../look.py .")
    assert changed_by(tree, "python3 ../look.py .") == want
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    same(tree, want)
    no_rest(tree)
    assert changed_by(tree, "python3 ../look.py .") == want
    assert " 0 changes carried" in tree.usbox("commit", "agent").ok().err
    same(tree, want)
    tree.usbox("rm", "agent").ok()


@pytest.mark.parametrize("script", ["chmod 700 e e/s", "rm -r e; mkdir e; echo x >e/q", "rm -r e", "mv e/s e/t; chmod 700 e/t", "rm -r e/s; echo file >e/s", "mv e d"])
def test_a_directory_that_a_commit_renamed_changes_once_more(tree, script):
    """The rename moved its ctime, which is no doing of the host's. What the host puts into it is, still."""
    tree.options += ["--name", "agent"]
    for name in ("d/1", "d/s/2"):
        tree.write(name, f"{name}\n", where=tree.tree)
    run_in_tree(tree, "mv d e; mv e/s t; mv t e/s")
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    want = changed_by(tree, f"set -e; {script}; python3 ../look.py .")
    if script.startswith("rm -r e") and "e/s" not in script:
        (tree.tree / "e/host").touch()
        assert re.search(r"conflict: \S+/tree/e(/host)?: ", tree.usbox("commit", "agent").err)
        (tree.tree / "e/host").unlink()
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    same(tree, want)
    no_rest(tree)
    tree.usbox("rm", "agent").ok()


CLOSED = [("mkdir -m 555 new", 0o555), ("mkdir -m 0 new", 0), ("umask 222; mkdir new", 0o555), ("mv old new; mkdir -m 311 new/in", 0o755)]


@pytest.mark.parametrize("user,script,mode", [*(("self", *case) for case in CLOSED), *(("root", *case) for case in CLOSED),
                                              ("root", "chmod 444 old; mv old new; mkdir new/in", 0o444)])
def test_new_directories_that_are_closed(tree, user, script, mode):
    """That they are new is written on them by the box's file system, also where they shut out their owner, or are in one that does."""
    if user == "root" and not has_subids():
        cannot("no range of subordinate ids, no newuidmap")
    tree.write("old/1", "1\n", where=tree.tree)
    run_in_tree(tree, script, "--user", user)
    result = commit(tree).ok()
    assert " 0 failed, 0 passed over" in result.err, result
    assert (tree.tree / "new").stat().st_mode & 0o7777 == mode
    (tree.tree / "new").chmod(0o755)
    if "old" in script:
        assert (tree.tree / "new/1").read_text(encoding="utf-8") == "1\n"
        (tree.tree / "new/in").chmod(0o755)


@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_a_box_goes_on_where_renamed_directories_are_closed(tree):
    """Their modes stay what they are."""
    tree.options += ["--name", "agent"]
    for name in ("a/1", "b/2", "c/3"):
        tree.write(name, f"{name}\n", where=tree.tree)
    want = changed_by(tree, "set -e; mv a q; mkdir n; mv b n/b; mv c n/b/c; chmod 500 q n/b/c; chmod 100 n; python3 ../look.py .")
    assert " 0 failed, 0 passed over" in tree.usbox("commit", "agent").ok().err
    layer = pathlib.Path(f"{next(tree.boxes.glob('*/upper'))}{tree.tree}")
    modes = [(layer / name).stat().st_mode for name in ("q", "n")]
    assert changed_by(tree, "cat q/1 n/b/2 n/b/c/3 >/dev/null; python3 ../look.py .") == want
    assert [(layer / name).stat().st_mode for name in ("q", "n")] == modes
    (tree.tree / "n").chmod(0o700)
    tree.usbox("rm", "agent").ok()


@pytest.mark.parametrize("commits", [False, True], ids=["and runs", "and commits"])
@pytest.mark.parametrize("call", ["write", "setxattr", "syncfs"])
@pytest.mark.parametrize("tree", ["fuse"], indirect=True)
def test_killed_while_its_layer_hears_of_renamed_directories(tree, call, commits):
    """It hears of them at the next start, or when a commit begins."""
    tree.options += ["--name", "agent"]
    n = 0
    while True:
        n += 1
        for name in ("a/s/1", "b/2", "c/3"):
            tree.write(name, f"{name}\n", where=tree.tree)
        want = changed_by(tree, "set -e; mv a t; mv b a; mv t b; mv c b/s/c; python3 ../look.py .")
        tree.usbox("commit", "agent").ok()
        rc, calls = injected(tree, "--fault", f"usbox:{call}:{n}:SIGKILL", command=["run", *tree.options, "--", "true"])
        if commits:
            tree.usbox("commit", "agent").ok()
        assert changed_by(tree, "python3 ../look.py .") == want, n
        want = changed_by(tree, "set -e; mv a t; mv b a; mv t b; python3 ../look.py .")
        tree.usbox("commit", "agent").ok()
        same(tree, want)
        tree.usbox("rm", "agent").ok()
        shutil.rmtree(tree.tree)
        tree.tree.mkdir()
        if rc == 0 or n == {"write": 6, "setxattr": 4, "syncfs": 1}[call]:
            break
    assert n > 1 or call == "syncfs", calls


def test_what_a_killed_commit_left_goes_with_the_box(tree):
    """Whoever removes it; a directory that was put aside goes back to its name."""
    ways = (lambda: tree.usbox("drop", "last").ok(), lambda: tree.usbox("rm", "last").ok(), lambda: tree.run("--", "true").ok())
    n = 0
    while True:
        for name in "one", "two":
            tree.write(f"{name}/{name}", name, where=tree.tree)
        tree.write("f", "f\n", where=tree.tree)
        run_in_tree(tree, "mv one t; mv two one; mv t two; echo more >>f")
        n += 1
        if not killed(tree, f"renameat2:{n}"):
            break
        ways[n % 3]()
        assert not [p for p in tree.tree.rglob(".usbox-*")] and not list(tree.boxes.iterdir()), n
        assert {p.name for p in tree.tree.rglob("*") if p.is_file()} == {"f", "one", "two"}, n
        shutil.rmtree(tree.tree)
        tree.tree.mkdir()
    assert n > 4


def swap(a, b):
    a.rename(a.parent / "swapped")
    b.rename(a)
    (a.parent / "swapped").rename(b)


# What the box did, what the host did meanwhile, whether that is a conflict.
MATRIX = {
    "both change": ("echo box >>f", lambda t: (t / "f").write_text("host\n"), True),
    "host replaces": ("echo box >>f", lambda t: os.replace(t / "g", t / "f"), True),
    "host puts the times back": ("echo box >>f", lambda t: ((t / "f").write_text("F\n"), os.utime(t / "f", ns=(1, 1))), True),
    "host chmods": ("echo box >>f", lambda t: (t / "f").chmod(0o600), True),
    "host removes": ("echo box >>f", lambda t: (t / "f").unlink(), True),
    "host changes what the box removed": ("rm f", lambda t: (t / "f").write_text("host\n"), True),
    "both remove": ("rm f", lambda t: (t / "f").unlink(), False),
    "both make": ("echo box >n", lambda t: (t / "n").write_text("host\n"), True),
    "both make the same": ("printf same >n; touch -d @1 n", lambda t: ((t / "n").write_text("same"), os.utime(t / "n", (1, 1))), False),
    "both make a directory": ("mkdir n; echo 1 >n/1", lambda t: ((t / "n").mkdir(), (t / "n/1").write_text("host\n")), True),
    "both make a directory of other things": ("mkdir -p n/s; echo 1 >n/1 >n/s/1", lambda t: ((t / "n/s").mkdir(parents=True), (t / "n/s/2").touch()), False),
    "host makes a file in a directory that the box replaced": ("rm -r d; mkdir d; echo 1 >d/1", lambda t: (t / "d/2").touch(), True),
    "host makes a file in a directory that the box removed": ("rm -r d", lambda t: (t / "d/n").write_text("host\n"), True),
    "host changes a file in a directory that the box removed": ("rm -r d", lambda t: (t / "d/e/f").write_text("host\n"), True),
    "host removes the directory that the box worked in": ("echo 1 >d/n", lambda t: shutil.rmtree(t / "d"), True),
    "host makes a file beside": ("echo 1 >d/n", lambda t: (t / "d/m").write_text("host\n"), False),
    "host changes another": ("echo box >>f", lambda t: (t / "g").write_text("host\n"), False),
    "host replaces the directory by a link": ("echo 1 >d/n", lambda t: (shutil.rmtree(t / "d"), (t / "d").symlink_to("/tmp")), True),
    "host's link changes": ("ln -sfn box l", lambda t: ((t / "l").unlink(), (t / "l").symlink_to("host")), True),
    "both change a directory's mode": ("chmod 700 d", lambda t: (t / "d").chmod(0o711), True),
    "box renames what the host changed": ("mv f n", lambda t: (t / "f").write_text("host\n"), True),
    "host swaps directories in which nothing is new": ("echo box >>d/f", lambda t: swap(t / "d", t / "o"), True),
    "host swaps, box replaces": ("echo box >d/e/n; mv d/e/n d/e/f", lambda t: swap(t / "d", t / "o"), True),
    "host swaps, box removes": ("rm d/f", lambda t: swap(t / "d", t / "o"), True),
    "host swaps, box adds": ("echo 1 >d/n", lambda t: swap(t / "d", t / "o"), False),
    "host swaps, box changes the mode": ("chmod 700 d; echo box >>d/f", lambda t: swap(t / "d", t / "o"), True),
    "host swaps, box renames one out of it": ("mv d/e n", lambda t: swap(t / "d", t / "o"), True),
    "host swaps two elsewhere": ("echo box >>d/f", lambda t: swap(t / "o", t / "p"), False),
    "box renames, host elsewhere": ("mv f n", lambda t: (t / "g").write_text("host\n"), False),
}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("case", MATRIX)
def test_conflicts(box, case, overlay):
    script, on_host, is_conflict = MATRIX[case]
    box.options = ["--network=none", f"--overlay={overlay}"]
    box.tree = box.dir / "tree"
    for name in ("f", "g", "d/e/f", "d/f", "o/e/f", "o/f", "p/f"):
        box.write(name, f"{name}\n", where=box.tree)
    (box.tree / "l").symlink_to("f")
    run_in_tree(box, script + "; echo untouched by the host >other")
    on_host(box.tree)
    before = look(box.tree)
    result = commit(box)
    if not is_conflict:
        assert result.rc == 0 and "conflict:" not in result.err, result
        assert (box.tree / "other").is_file()
        return
    assert result.rc == 1 and "conflict: " in result.err and "nothing was carried" in result.err, result
    assert look(box.tree) == before
    commit(box, "tree/other").ok()
    assert (box.tree / "other").is_file()
    (box.tree / "other").unlink()
    assert look(box.tree)[0] == before[0]
    forced = commit(box, "--force")
    if case in ("host removes the directory that the box worked in", "host replaces the directory by a link"):
        return
    assert forced.rc == 0 and "conflict:" not in forced.err, forced
    assert box.usbox("diff", "last", box.tree).lines() == []


def test_directories_that_two_boxes_make(tree):
    """Both are taken, each has no say about what is the other's, and each about its own goes on."""
    for name in ("one", "two"):
        tree.usbox("run", *tree.options, "--name", name, "--", "sh", "-c", f"mkdir -p n/s; touch n/{name} n/s/{name}").ok()
    for name in ("one", "two"):
        tree.usbox("commit", name).ok()
    assert tree.usbox("diff", "two").lines() == []
    tree.usbox("run", *tree.options, "--name", "two", "--", "rm", "n/s/two").ok()
    assert [line.split("/n/")[1] for line in tree.usbox("diff", "two").lines()] == ["s/two"]
    tree.usbox("commit", "--force", "two").ok()
    assert {p.name for p in tree.dir.rglob("n/**/*")} == {"s", "one", "two"} and [p.name for p in (tree.dir / "n/s").iterdir()] == ["one"]
    tree.usbox("rm", "one", "two").ok()


def test_hidden_names(box):
    """What was hidden stays as it is, --force or not; nothing is written by such a name. What the host has there is a conflict, which nobody has seen: so
    --force goes on without it."""
    box.options = ["--network=none", "--hide", "**/.env", "--hide", f"{box.dir}/d/secret"]
    box.write("d/.env", "host\n")
    box.write("d/secret", "host\n")
    box.write("e/.env", "host\n")
    box.write("ren/.env", "host\n")
    box.run("--", "sh", "-c", "echo box >d/.env; mkdir d/secret; echo 1 >d/secret/1; echo box >.env; rm -r e; mv ren ren2; echo ok >d/ok").ok()
    before = look(box.dir)[0]
    for force in ([], ["--force"]):
        result = commit(box, *force)
        carried = "1 change carried" if force else "2 conflicts: nothing was carried"
        assert result.rc == 1 and carried in result.err and ("of all but what was hidden from it" in result.err) == (not force), result
        for name in ("d/.env", "d/secret"):
            assert f"{'skipped' if force else 'conflict'}: {box.dir}/{name}: the host has this name" in result.err, result
        for name in ("e", "ren2", ".env"):
            assert f"skipped: {box.dir}/{name}: " in result.err, result
        assert {p: v for p, v in look(box.dir)[0].items() if p not in ("d/ok", "d")} == {p: v for p, v in before.items() if p != "d"}
        assert (box.dir / "d/ok").exists() == bool(force)
    assert (box.dir / "d/ok").read_text() == "ok\n"


def test_a_mark_that_leads_to_what_was_hidden(box):
    """No box makes one; where its layer has one all the same, the commit believes no more of it than usbox-fs, and nothing hidden comes to where a box sees it."""
    box.options = ["--network=none", "--name", "n", "--hide", "secret", "--hide", f"{box.dir}/d/keys"]
    for name in ("secret/in/file", "d/keys/file", "shown/file"):
        box.write(name, "host\n")
    box.run("--", "mkdir", "a", "b", "c", "e").ok()
    (kept,) = list(box.boxes.iterdir())
    upper = kept / "upper" / str(box.dir).lstrip("/")
    for name, to in (("a", "secret"), ("b", "secret/in"), ("c", "d/keys"), ("e", "shown")):
        os.removexattr(upper / name, "user.overlay.opaque")
        os.setxattr(upper / name, "user.overlay.redirect", os.fsencode(box.dir / to))
    (upper / "a/new").write_text("box\n", encoding="utf-8")
    assert box.run("--", "ls", "-A", "a", "b", "c", "e").ok().out == "a:\nnew\n\nb:\n\nc:\n\ne:\nfile\n"
    for force in ([], ["--force"]):
        result = box.usbox("commit", *force, "n")
        skipped = re.findall(r": skipped: (\S+): (.*)", result.err)
        assert result.rc == 1 and skipped == [(f"{box.dir}/{name}", "the directory that was renamed to it is hidden from the box") for name in "abc"], result
        assert sorted(p.name for p in box.dir.iterdir()) == ["d", "e", "secret"], result
        assert (box.dir / "secret/in/file").exists() and (box.dir / "d/keys/file").exists() and (box.dir / "e/file").exists()


def test_a_renamed_directory_that_lies_deep(box):
    """Each level takes descriptors, and the caller's limit is the command's: what is not looked at for want of them is not taken for nothing."""
    box.options = ["--network=none", "--name", "n"]
    deep = "d/" * 300
    box.write("h/f", "host\n")
    box.run("--", "sh", "-c", f"mkdir -p {deep} && mv h {deep}x && touch {deep}x/new").ok()

    def run_with(limit, *argv):
        words = ["sh", "-c", f'ulimit {limit} 256; exec "$@"', "sh", USBOX, "run", *box.options, *argv]
        return subprocess.run(words, env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=60, check=False)
    result = run_with("-Sn", "--overlay=kernel", "--", "true")
    assert result.returncode == 125 and "the box renamed a directory" in result.stderr, result
    box.usbox("commit", "n").ok()
    result = run_with("-n", "--", "ls", f"{deep}x")
    assert result.returncode == 125 and "look for renamed directories in the box's layer: Too many open files" in result.stderr, result
    result = run_with("-Sn", "--", "sh", "-c", f"ulimit -Sn; ls {deep}x")
    assert (result.returncode, result.stdout) == (0, "256\nf\nnew\n"), result
    assert box.usbox("diff", "n").ok().out == ""
    box.usbox("rm", "n").ok()


def test_names_like_a_hidden_one(tree):
    """In a directory that the host has not, it is another path. There a path is hidden, too, where that is known of names that are not there."""
    tree.write("keys/k", "secret\n", where=tree.tree)
    tree.options += [f"--hide={tree.tree}/keys", f"--hide={tree.tree}/new/place/keys"]
    run_in_tree(tree, "mkdir -p new/keys new/place/keys other/new/place/keys; echo 1 >new/keys/1; echo 2 >other/new/place/keys/2; echo 3 >new/place/keys/3")
    skipped = re.findall(r"skipped: \S+/tree/(\S+): (.*)", commit(tree).err)
    assert skipped == ([] if "--overlay=kernel" in tree.options else [("new/place/keys", "a name that is hidden from boxes")])
    assert look(tree.tree)[0].keys() - {"new/place/keys", "new/place/keys/3"} == {
        "keys", "keys/k", "new", "new/keys", "new/keys/1", "new/place", "other", "other/new", "other/new/place", "other/new/place/keys", "other/new/place/keys/2"}
    assert (tree.tree / "new/place/keys").exists() == (not skipped)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_commit_made_by_a_hidden_name_is_no_secret(box, overlay):
    """A box that goes on after a commit goes on with that, too; what others put beside it stays hidden."""
    cache = pathlib.Path(HOME, f".usbox-test-{os.getpid()}")
    box.options = ["--network=none", f"--overlay={overlay}", "--name", "agent"]
    box.write("f", "")
    try:
        first = box.run("--", "sh", "-c", f"echo f >f; mkdir {cache}; echo a >{cache}/a; echo b >{cache}/b").ok()
        assert "nothing of it is on the host" in first.err
        assert "4 changes carried" in box.usbox("commit", "agent").ok().err and box.usbox("diff", "agent").lines() == []
        (cache / "hosts").write_text("host\n", encoding="utf-8")
        (cache / "c").write_text("host\n", encoding="utf-8")
        second = box.run("--", "sh", "-c", f"ls {cache}; echo aa >{cache}/a; rm {cache}/b; echo c >{cache}/c; echo d >{cache}/d").ok()
        assert second.out == "a\nb\n" and "nothing of it is on the host" not in second.err and "shows what of it is not on the host" in second.err
        assert [line[:1] + line[len(f"A  {cache}"):] for line in box.usbox("diff", "agent").lines()] == [
            "M/a", "D/b", "A/c  (the host has this name, hidden from the box)", "A/d"]
        result = box.usbox("commit", "agent")
        assert result.rc == 1 and f"conflict: {cache}/c: " in result.err and "nothing was carried" in result.err, result
        result = box.usbox("commit", "--force", "agent")
        assert result.rc == 1 and f"skipped: {cache}/c: " in result.err and "3 changes carried" in result.err, result
        assert {p.name: p.read_text(encoding="utf-8") for p in cache.iterdir()} == {"a": "aa\n", "c": "host\n", "d": "d\n", "hosts": "host\n"}
        box.usbox("rm", "agent").ok()
    finally:
        shutil.rmtree(cache, ignore_errors=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_commit_made_by_a_hidden_name_goes_with_what_the_box_had_there(box, overlay):
    """Nothing of the layer says so: such a name needs no mark. Where others put something in it, it stays."""
    top = pathlib.Path(HOME, f".usbox-test-{os.getpid()}")
    gone, kept, file = (top.with_name(f"{top.name}-{what}") for what in ("gone", "kept", "file"))
    box.options = ["--network=none", f"--overlay={overlay}", "--name", "agent"]
    try:
        box.run("--", "sh", "-c", f"mkdir -p {gone}/deep {kept}; echo 1 >{gone}/deep/1; echo 2 >{kept}/2; echo 3 >{file}").ok()
        box.usbox("commit", "agent").ok()
        assert box.usbox("diff", "agent").lines() == []
        (kept / "hosts").write_text("host\n", encoding="utf-8")
        box.run("--", "rm", "-r", gone, kept, file).ok()
        assert box.usbox("diff", "agent").lines() == [f"D  {file}", f"D  {gone}/", f"D  {kept}/"]
        result = box.usbox("commit", "agent")
        assert result.rc == 1 and f"skipped: {kept}: something in it was hidden from the box" in result.err and "2 changes carried" in result.err, result
        assert not gone.exists() and not file.exists() and sorted(os.listdir(kept)) == ["2", "hosts"]
        (kept / "hosts").unlink()
        assert "1 change carried" in box.usbox("commit", "agent").ok().err
        assert not kept.exists() and box.usbox("diff", "agent").lines() == []
        box.usbox("rm", "agent").ok()
    finally:
        for path in (gone, kept):
            shutil.rmtree(path, ignore_errors=True)
        file.unlink(missing_ok=True)


HOSTILE = """
cd {upper}{dir}; rm -rf sub way
ln -s {outside} sub; ln -s {outside} way; mkdir into; ln -s {outside}/f into/f
mkfifo fifo; mkdir '...'; echo 1 >.../x; echo suid >suid; chmod 6755 suid
mkdir into/.usbox-commit-{id}; echo 1 >into/.usbox-commit-{id}/x
mkdir closed; echo 1 >closed/x; setfattr -n user.overlay.redirect -v /../../etc closed
mkdir moved; setfattr -n user.overlay.redirect -v {outside} moved
setfattr -n user.overlay.evil -v 1 .../x; setfattr -n user.fine -v 1 .../x
"""


def test_hostile_upper(box):
    """A handmade upper: nothing is written but below the names that it has, and nothing through them."""
    outside = box.top / "outside"
    outside.mkdir()
    (outside / "f").write_text("host\n")
    box.options = ["--network=none"]
    box.write("sub/inner", "inner\n")
    box.run("--", "sh", "-c", "echo 1 >a; echo 2 >sub/b; mkdir way; echo 3 >way/f").ok()
    upper = next(box.boxes.glob("*/upper"))
    subprocess.run(["sh", "-ec", HOSTILE.format(upper=upper, dir=box.dir, outside=outside, id=upper.parent.name)], check=True, timeout=60)
    result = commit(box, "--force")
    assert result.rc == 1, result
    assert look(outside)[0].keys() == {"f"} and (outside / "f").read_text() == "host\n"
    assert f"skipped: {box.dir}/sub: the box's layer could not be read in full" in result.err and os.listdir(box.dir / "sub") == ["inner"]
    shutil.rmtree(f"{upper}{box.dir}/closed")
    assert commit(box, "--force").rc == 1
    assert look(outside)[0].keys() == {"f"} and (outside / "f").read_text() == "host\n"
    assert os.readlink(box.dir / "sub") == str(outside) and os.readlink(box.dir / "into/f") == f"{outside}/f"
    assert (box.dir / "suid").stat().st_mode & 0o7777 == 0o755 and "set-id" in result.err
    assert not (box.dir / "fifo").exists() and not (box.dir / "moved").exists()
    assert not list(box.dir.rglob(".usbox-*")) and (box.dir / "a").read_text() == "1\n"
    assert [a for a in os.listxattr(box.dir / ".../x") if a.startswith("user.")] == ["user.fine"]


def test_swapped_on_the_host(box):
    """A directory of the host that became a symlink since is not written through."""
    outside = box.top / "outside"
    outside.mkdir()
    (outside / "f").write_text("host\n")
    box.options = ["--network=none"]
    box.write("d/f", "f\n")
    box.run("--", "sh", "-c", "echo box >>d/f; echo new >d/new").ok()
    shutil.rmtree(box.dir / "d")
    (box.dir / "d").symlink_to(outside)
    for force in ([], ["--force"]):
        commit(box, *force)
        assert look(outside)[0].keys() == {"f"} and (outside / "f").read_text() == "host\n"


# So many changes that a commit is not through with them before it has been listened to.
MANY = "i=0; while [ $i -lt 100 ]; do echo $i >a-$i-%s; i=$((i+1)); done" % ("x" * 100)


def commit_with_somebody_at_work(box, meanwhile):
    """meanwhile() is called when the commit has judged all and carried a little of it: it then waits for us to read what it says of that."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with open(reader, "rb") as told, box.popen("commit", "--json", "last", stdout=writer) as proc:
        os.close(writer)
        first = told.readline()
        try:
            meanwhile()
        except BaseException:
            proc.kill()
            raise
        lines = [json.loads(line) for line in [first, *told]]
        proc.communicate(timeout=60)
    return proc.returncode, {os.path.basename(line["path"]): line for line in lines}


@pytest.mark.parametrize("script", ("rm -r d", "rm -r d; echo 1 >d", "rm -r d; mv e d"))
def test_what_comes_into_a_directory_that_goes(box, script):
    """Behind the commit's look at it, and before the directory's turn."""
    box.options = ["--network=none"]
    box.write("d/deep/f", "f\n")
    box.write("e/g", "g\n")
    box.run("--", "sh", "-c", f"{MANY}; {script}").ok()
    before = look(box.dir / "d")
    rc, told = commit_with_somebody_at_work(box, lambda: box.write("d/deep/late", "host\n"))
    assert rc == 1 and told["d"]["result"] == "failed" and "the host changed it while commit was at work" in told["d"]["reason"], told["d"]
    assert [name for name, line in told.items() if line["result"] != "done" and not name.startswith("a-")] == ["d"]
    assert (box.dir / "d/deep/late").read_text() == "host\n" and (box.dir / "e/g").read_text() == "g\n" and not list(box.dir.rglob(".usbox-*"))
    (box.dir / "d/deep/late").unlink()
    assert look(box.dir / "d") == before
    commit(box, "--force").ok()
    assert not (box.dir / "d/deep").exists() and box.usbox("diff", "last").lines() == []


def test_nobody_takes_the_box_from_a_commit(box):
    box.options = ["--network=none"]
    box.run("--", "sh", "-c", MANY).ok()

    name = box.usbox("inspect", "last").json()[0]["id"]

    def others():
        assert_refused(box.usbox("commit", name), "another commit of box", "is at work")
        assert_refused(box.usbox("drop", name), "another usbox commits, explores or removes it")
        assert box.usbox("ps", "-aq").lines() == [name]
        box.run("--", "true").ok()
    rc, told = commit_with_somebody_at_work(box, others)
    assert rc == 0 and len(told) == 100 and {line["result"] for line in told.values()} == {"done"}
    assert len(list(box.dir.glob("a-*"))) == 100 and box.usbox("diff", name).lines() == []


def test_a_directory_that_cannot_be_written(box):
    """One line each, and the rest goes on."""
    box.options = ["--network=none"]
    box.write("shut/f", "f\n")
    box.write("open/f", "f\n")
    (box.dir / "shut").chmod(0o555)
    box.run("--", "sh", "-c", "chmod 755 shut; echo 1 >shut/n; echo 1 >>shut/f; chmod 555 shut; echo 1 >open/n; echo 1 >>open/f").ok()
    result = commit(box)
    assert result.rc == 1, result
    for name in ("n", "f"):
        assert f"failed: {box.dir}/shut/{name}: Permission denied" in result.err, result
    assert (box.dir / "shut/f").read_text() == "f\n" and (box.dir / "open/f").read_text() == "f\n1\n" and (box.dir / "open/n").exists()
    (box.dir / "shut").chmod(0o755)
    assert "conflict: " in commit(box).err
    commit(box, "--force").ok()
    assert (box.dir / "shut/f").read_text() == "f\n1\n" and (box.dir / "shut").stat().st_mode & 0o777 == 0o555


def test_rights_of_files(box):
    """Those of programs are not carried, which is said; what the host has of them stays where the box changed a time alone."""
    if not has_subids():
        cannot("no range of subordinate ids, no newuidmap")
    box.options = ["--network=none", "--user=root"]
    for name in ("times", "mode", "bytes", "able"):
        box.write(name, f"{name}\n", mode=0o4755)
    (box.dir / "able").chmod(0o755)
    able = "import os; [os.setxattr(f, 'security.capability', bytes.fromhex('0100000200200000' + '00' * 12)) for f in ('able', 'new')]"  # cap_net_raw=ep
    box.run("--", "sh", "-c", f'touch -d 2001-02-03 times; chmod 4775 mode; echo more >>bytes; chmod 4755 bytes; cp able new; python3 -c "{able}"').ok()
    result = commit(box)
    assert sorted(re.findall(r"/(\w+): carried without its (\S+)", result.ok().err)) == [
        ("able", "capabilities"), ("bytes", "set-id"), ("mode", "set-id"), ("new", "capabilities")], result
    modes = {name: (box.dir / name).stat().st_mode & 0o7777 for name in ("times", "mode", "bytes", "able", "new")}
    assert modes == {"times": 0o4755, "mode": 0o775, "bytes": 0o755, "able": 0o755, "new": 0o755}
    assert (box.dir / "times").stat().st_mtime < 1e9 and "times" not in box.usbox("diff", "last", box.dir).ok().out


HELD = {
    "to a place for keys": ("mkdir -p ~/.ssh; mv k d/1 ~/.ssh; rm -r d", ["d", "k"], "passed over"),
    "to what cannot be written": ("chmod 755 shut; mv k d/1 shut; rm -r d; chmod 555 shut", ["d", "k"], "could not be made"),
    "and to another name as well": ("chmod 755 shut; mv k shut; ln shut/k n; chmod 555 shut", [], "could not be made"),
}


@pytest.mark.parametrize("case", HELD)
def test_what_the_box_moved_to_where_it_cannot_come_stays(box, case):
    """The host would have it nowhere. Who names it takes it away."""
    script, stays, why = HELD[case]
    box.options = ["--network=none"]
    for name in ("k", "d/1", "d/2", "gone", "shut/s"):
        box.write(name, f"{name}\n")
    (box.dir / "shut").chmod(0o555)
    box.run("--", "sh", "-c", f"set -e; {script}; rm gone").ok()
    result = commit(box)
    assert result.rc == 1 and re.findall(r"(?:skipped|failed): (\S+): the box has it, or something in it, by a name that (.*)", result.err) == [
        (f"{box.dir}/{name}", f"{'is ' * (why == 'passed over')}{why}") for name in stays], result
    left = [name for name in ("d", "k", "gone") if (box.dir / name).exists()]
    assert left == (stays or ["d"]) and (not stays or sorted(os.listdir(box.dir / "d")) == ["1", "2"])
    (box.dir / "shut").chmod(0o755)
    if stays:
        commit(box, "k").ok()
        assert not (box.dir / "k").exists()


def test_attributes_of_what_its_owner_may_not_write(box):
    """The caller may change its mode, and so have them there; it ends with the mode that the box had."""
    box.options = ["--network=none"]
    for name in ("stays", "opened", "d/f"):
        box.write(name, f"{name}\n", mode=0o444)
    (box.dir / "d").chmod(0o555)
    box.run("--", "sh", "-c", "set -e; for f in stays opened d; do chmod u+w $f; setfattr -n user.k -v box $f; done; chmod 444 stays; chmod 555 d").ok()
    assert "3 changes carried to the host, 0 failed" in commit(box).ok().err
    assert {name: ((box.dir / name).stat().st_mode & 0o7777, os.getxattr(box.dir / name, "user.k")) for name in ("stays", "opened", "d")} == {
        "stays": (0o444, b"box"), "opened": (0o644, b"box"), "d": (0o555, b"box")}
    assert box.usbox("diff", "last", box.dir).lines() == []
    (box.dir / "d").chmod(0o755)


def test_a_read_only_host(box):
    """One line for each change, and nothing lost: on a host that can be written the same commit carries it."""
    box.options = ["--network=none"]
    box.write("d/f", "f\n")
    box.run("--", "sh", "-c", "echo 1 >>d/f; echo 1 >d/n").ok()
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" commit last d'
    result = subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", box.dir / "d", USBOX], env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=60,
                            check=False)
    assert result.returncode == 1 and " 0 changes carried" in result.stderr, result
    for name in ("n", "f"):
        assert f"failed: {box.dir}/d/{name}: Read-only file system" in result.stderr, result
    commit(box).ok()
    assert (box.dir / "d/f").read_text() == "f\n1\n" and (box.dir / "d/n").read_text() == "1\n"


def test_unreadable_files(box):
    """Files that shut out their owner come with what is in them."""
    box.options = ["--network=none"]
    box.run("--", "sh", "-c", "echo 1 >a; chmod 0 a; mkdir d; echo 2 >d/b; chmod 0 d/b d").ok()
    commit(box).ok()
    (box.dir / "d").chmod(0o700)
    for name, want in (("a", "1\n"), ("d/b", "2\n")):
        assert (box.dir / name).stat().st_mode & 0o777 == 0
        (box.dir / name).chmod(0o600)
        assert (box.dir / name).read_text() == want


def test_full_disk(box):
    """What does not fit is named; the file that was there is whole."""
    box.options = ["--network=none"]
    box.write("small/f", "f\n")
    box.run("--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x >small/big; echo 1 >small/little; cat small/big >>small/f").ok()
    script = ('mount -t tmpfs -o size=128k,mode=755 t "$1" && echo f >"$1/f" && "$2" commit last --force; echo "rc=$?"; ls -A "$1"; cat "$1/f"')
    result = subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", box.dir / "small", USBOX], env=box.env, cwd=box.dir, capture_output=True,
                            text=True, timeout=60, check=True)
    assert result.stdout == "rc=1\nf\nlittle\nf\n", result
    assert result.stderr.count("No space left on device") == 2, result


def test_full_disk_of_the_box(box):
    """Where commit cannot write down what it does, it does nothing; with space again, all."""
    box.options = ["--network=none"]
    box.write("f", "f\n")
    box.run("--", "sh", "-c", "rm f; echo 1 >n").ok()
    script = ('mkdir "$1/small" && mount -t tmpfs -o size=512k,mode=700 t "$1/small" && cp -a "$1/data/usbox" "$1/small/" && export XDG_DATA_HOME="$1/small"; '
              'head -c 1000000 /dev/zero >"$1/small/fill" 2>/dev/null; "$2" commit last; echo "rc=$?"; ls -A; rm "$1/small/fill"; "$2" commit last; echo "rc=$?"; ls -A')
    result = subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", box.top, USBOX], env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=60,
                            check=True)
    assert result.stdout == "rc=125\nf\nrc=0\nn\n", result
    assert "No space left on device" in result.stderr and "goes on where it stopped" in result.stderr, result


def test_real_programs(box):
    """make install, and a commit of git's, made in the box."""
    box.options = ["--network=none"]
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    box.write("hello.c", '#include <stdio.h>\nint main(void) { puts("hello"); }\n')
    box.write("Makefile", "hello: hello.c\n\tcc -o hello hello.c\ninstall: hello\n\tinstall -D hello out/bin/hello\n\tln -s hello out/bin/hi\n")
    for argv in (["init", "-q", "."], ["add", "hello.c", "Makefile"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *argv], cwd=box.dir, check=True, timeout=60)
    script = "make install && sed -i s/hello/bye/ hello.c && git -c user.name=n -c user.email=e commit -qam second && git gc -q"
    box.run("--", "sh", "-c", script).ok()
    assert not (box.dir / "out").exists()
    commit(box).ok()
    assert subprocess.run([box.dir / "out/bin/hi"], check=True, capture_output=True, timeout=60).stdout == b"hello\n"
    assert subprocess.run([*git, "log", "--format=%s"], cwd=box.dir, check=True, capture_output=True, timeout=60).stdout == b"second\nfirst\n"
    assert subprocess.run([*git, "status", "--porcelain"], cwd=box.dir, check=True, capture_output=True, text=True, timeout=60).stdout == "?? hello\n?? out/\n"
    subprocess.run([*git, "fsck", "--strict"], cwd=box.dir, check=True, timeout=60)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_hooks_of_a_tree_that_is_written_through(box, overlay):
    """Those that were there and those that came to be are shown first, and carried when that is asked for; what lies around them stays as it is."""
    box.options = ["--network=none", f"--overlay={overlay}", "--rw", "."]
    for name in (".git/hooks/old", ".git/config", "f"):
        box.write(name, f"{name}\n")
    (box.dir / ".git").chmod(0o770)
    box.run("--", "sh", "-c", "echo 1 >>f; echo 2 >.git/hooks/new; echo 3 >>.git/config; mkdir -p .vscode/d; echo 4 >.vscode/d/s; echo 5 >.envrc").ok()
    assert (box.dir / "f").read_text() == "f\n1\n" and not (box.dir / ".vscode").exists()
    shown = [json.loads(line) for line in box.usbox("diff", "last", "--json").lines()]
    assert [line["path"].removeprefix(str(box.dir)) for line in shown] == [
        "/.envrc", "/.git/config", "/.git/hooks/new", "/.vscode", "/.vscode/d", "/.vscode/d/s"] and all(line["hook"] for line in shown)
    commit(box).ok()
    assert (box.dir / ".git/hooks/new").read_text() == "2\n" and (box.dir / ".git/config").read_text() == ".git/config\n3\n"
    assert (box.dir / ".vscode/d/s").read_text() == "4\n" and (box.dir / ".envrc").read_text() == "5\n"
    assert (box.dir / ".git").stat().st_mode & 0o777 == 0o770


def test_paths(box):
    """Only what is named, with the directories that it needs."""
    box.options = ["--network=none"]
    box.write("d/f", "f\n")
    box.run("--", "sh", "-c", "mkdir -p n/e; echo 1 >n/e/1; echo 2 >n/e/2; echo 1 >>d/f; mv d d2; echo 3 >d2/3; echo 4 >a").ok()
    commit(box, "n/e/1").ok()
    assert look(box.dir)[0].keys() == {"n", "n/e", "n/e/1", "d", "d/f"}
    commit(box, "d2/3").ok()
    assert look(box.dir)[0].keys() == {"n", "n/e", "n/e/1", "d2", "d2/f", "d2/3"} and (box.dir / "d2/f").read_text() == "f\n"
    commit(box, "nothing", box.dir / "n").ok()
    commit(box).ok()
    assert look(box.dir)[0].keys() == {"n", "n/e", "n/e/1", "n/e/2", "d2", "d2/f", "d2/3", "a"} and (box.dir / "d2/f").read_text() == "f\n1\n"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_working_directory_in_tmp(box, overlay):
    """The box's own /tmp is no change, the working directory in it is the host's."""
    box.options = ["--network=none", f"--overlay={overlay}"]
    top = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (top / "f").write_text("f\n")
        box.run("--", "sh", "-c", "echo 1 >>f; echo 2 >n; echo 3 >/tmp/mine", cwd=top).ok()
        commit(box).ok()
        assert (top / "f").read_text() == "f\n1\n" and (top / "n").read_text() == "2\n" and not os.path.exists("/tmp/mine")
    finally:
        shutil.rmtree(top)


def test_files_of_other_ids(box):
    """What a box's root gave to another user is shown, and named where it cannot be read."""
    if not has_subids():
        cannot("map subordinate ids")
    box.options = ["--network=none", "--user=root"]
    box.run("--", "sh", "-c", "echo 1 >mine; echo 2 >shut; chmod 600 shut; chown 5:5 shut; echo 3 >open; chown 5:5 open").ok()
    assert "b/shut: binary" in box.usbox("diff", "last", "--patch", ".").ok().out
    result = commit(box)
    assert result.rc == 1 and f"failed: {box.dir}/shut: Permission denied" in result.err, result
    assert (box.dir / "mine").read_text() == "1\n" and (box.dir / "open").stat().st_uid == os.getuid() and not (box.dir / "shut").exists()
    assert "2 changes have another owner or group in the box: owners are not carried" in result.err, result
    box.run("--", "sh", "-c", "echo 4 >>mine; echo 5 >new; chown 5:5 open").ok()
    assert "1 change has another owner or group in the box: owners are not carried" in commit(box).ok().err
    box.run("--", "sh", "-c", "echo 6 >>mine; chmod 700 new").ok()
    assert "owner" not in commit(box).ok().err


def test_a_directory_of_another_id(box):
    """One that cannot be read is not taken for the host's, which has it no more, and keeps nothing else from being carried."""
    if not has_subids():
        cannot("map subordinate ids")
    box.options = ["--network=none", "--user=root"]
    for mode, force in (("444", []), ("700", []), ("0", ["--force"])):
        box.run("--", "sh", "-c", f"mkdir -m {mode} shut; touch shut/f; chown 5:5 shut; echo {mode} >mine").ok()
        result = commit(box, *force)
        assert result.rc == 1 and f"skipped: {box.dir}/shut: the box's directory cannot be read" in result.err and "conflict" not in result.err, result
        assert (box.dir / "mine").read_text() == f"{mode}\n" and not (box.dir / "shut").exists()
        assert "shut in the box's layer: Permission denied" in result.err and "1 change carried to the host, 0 failed, 1 passed over" in result.err, result
    box.run("--", "sh", "-c", "mkdir -m 555 open; echo x >open/f; chown 5:5 open").ok()
    commit(box).ok()
    assert (box.dir / "open/f").read_text() == "x\n"


@pytest.mark.parametrize("force", [False, True])
def test_what_the_box_moved_into_a_directory_of_another_id_stays(box, force):
    """Of a renamed directory the box has nothing but a mark, which nobody can read there: by force it would be nowhere."""
    if not has_subids():
        cannot("map subordinate ids")
    box.options = ["--network=none", "--user=root"]
    box.tree = box.dir / "tree"
    for name in ("gone", "file", "other", "anew"):
        box.write(f"{name}/1", f"{name}\n", where=box.tree)
    box.write("f", "f\n", where=box.tree)
    before = look(box.tree)
    run_in_tree(box, "mkdir -m 700 shut; mv gone file other anew f shut; echo file >file; mkdir -m 755 anew; echo new >anew/1; mkdir new; echo 1 >new/1; chown 5:5 shut")
    result = commit(box, *["--force"] * force)
    assert result.rc == 1 and "2 changes carried to the host, 0 failed" in result.err, result
    why = "the box's layer could not be read in full: it may have been moved"
    assert re.findall(r"skipped: \S+/tree/(\S+): (.*)", result.err) == [
        *((name, why) for name in ("anew", "f", "file", "gone", "other")), ("shut", "the box's directory cannot be read")], result
    shutil.rmtree(box.tree / "new")
    assert look(box.tree) == before


def test_programs_are_told_what_people_are(tree):
    tree.write("a", "one\n", where=tree.tree)
    os.link(tree.tree / "a", tree.tree / "b")
    run_in_tree(tree, "echo x >>a; echo new >n")
    for options, did in ((["--dry-run"], "would"), ([], "done")):
        result = commit(tree, "--json", *options).ok()
        a, n = sorted((json.loads(line) for line in result.lines()), key=lambda change: change["path"])
        assert (a["change"], a["result"], a["note"]) == ("M", did, "has other names on the host, which keep what it was"), result
        assert (n["change"], n["result"]) == ("A", did) and "note" not in n and result.err == "", result


def test_owners_are_told_to_programs(box):
    if not has_subids():
        cannot("map subordinate ids")
    box.options = ["--network=none", "--user=root"]
    box.run("--", "sh", "-c", "echo 1 >mine; echo 3 >open; chown 5:5 open; chmod 4755 open").ok()
    mine, given = sorted((json.loads(line) for line in commit(box, "--json").lines()), key=lambda change: change["path"])
    assert "note" not in mine and "carried without its set-id bits; has another owner or group in the box" in given["note"], given


def test_the_way_to_a_tree_that_is_written_through(tree):
    """What the box makes of these directories is carried; what usbox makes of them for its hooks' sake is not."""
    way = tree.tree / "way"
    through = way / "to/it"
    through.mkdir(parents=True)
    for directory in (way, way / "to"):
        directory.chmod(0o775)
    tree.options.append(f"--rw={through}")
    run_in_tree(tree, "chmod 700 way; setfattr -n user.note -v hello way/to; touch way/to/new way/to/it/through; echo hook >way/to/it/.envrc")
    assert way.stat().st_mode & 0o777 == 0o775 and not (through / ".envrc").exists()
    assert " 4 changes carried to the host, 0 failed, 0 passed over" in commit(tree).ok().err
    assert way.stat().st_mode & 0o777 == 0o700 and (way / "to").stat().st_mode & 0o777 == 0o775 and os.getxattr(way / "to", "user.note") == b"hello"
    assert (through / ".envrc").read_text(encoding="utf-8") == "hook\n"
    assert tree.usbox("diff", "last").ok().out == ""
    way.chmod(0o775)
    run_in_tree(tree, "echo more >>way/to/it/.envrc")
    assert [line.split()[0] for line in tree.usbox("diff", "last").ok().out.splitlines() if str(way) in line] == ["M"]
    commit(tree).ok()
    assert (through / ".envrc").read_text(encoding="utf-8") == "hook\nmore\n" and {p.stat().st_mode & 0o777 for p in (way, way / "to")} == {0o775}


def test_rootfs(box):
    """The host is what the box had for one."""
    box.options = ["--network=none"]
    top = box.top / "root"
    for name in ("bin", "lib", "lib64", "usr"):
        (top / name).parent.mkdir(exist_ok=True)
        if os.path.islink("/" + name):
            (top / name).symlink_to(os.readlink("/" + name))
    (top / "usr").mkdir(exist_ok=True)
    (top / "etc").mkdir()
    box.run("--rootfs", top, "--ro-bind", "/usr", "/usr", "-w", "/", "--", "/bin/sh", "-c", "mkdir -p /data/x && echo 1 >/data/x/f").ok()
    commit(box).ok()
    assert (top / "data/x/f").read_text() == "1\n" and not os.path.exists("/data/x/f")


def test_rootfs_that_the_box_moved(box):
    """A symlink that it has put there leads to what is not its root."""
    box.options = ["--network=none"]
    box.write("proj/root/usr/f")
    for name in ("bin", "lib", "lib64"):
        if os.path.islink("/" + name):
            (box.dir / "proj/root" / name).symlink_to(os.readlink("/" + name))
    box.write("other/f")
    script = f"echo 1 >/new; cd {box.dir}/proj; mv root r2; ln -s {box.dir}/other root"
    box.run("--rootfs", "proj/root", "--ro-bind", "/usr", "/usr", "--rw", "proj", "-w", "/", "--", "/bin/sh", "-c", script).ok()
    for verb in ("commit", "diff"):
        assert_refused(box.usbox(verb, "last"), f"the box's root {box.dir}/proj/root is {box.dir}/other now, by a symlink")
    assert os.listdir(box.dir / "other") == ["f"]
    (box.dir / "proj/root").unlink()
    (box.dir / "proj/r2").rename(box.dir / "proj/root")
    commit(box).ok()
    assert (box.dir / "proj/root/new").read_text() == "1\n"


def test_output(box):
    box.options = ["--network=none"]
    box.write("f", "f\n")
    box.run("--", "sh", "-c", "echo 1 >n; echo 1 >>f; mkfifo p").ok()
    dry = commit(box, "--dry-run", "--json")
    assert dry.rc == 1 and [json.loads(line) for line in dry.out.splitlines()] == [
        {"path": f"{box.dir}/p", "change": "A", "result": "skipped", "reason": "neither a file nor a directory nor a symlink"},
        {"path": f"{box.dir}/f", "change": "M", "result": "would"}, {"path": f"{box.dir}/n", "change": "A", "result": "would"}]
    assert commit(box, "--json", "f").ok().out == json.dumps({"path": f"{box.dir}/f", "change": "M", "result": "done"}, separators=(",", ":")) + "\n"
    assert not (box.dir / "n").exists() and (box.dir / "f").read_text() == "f\n1\n"


def test_bad_input(box):
    box.options = ["--network=none"]
    assert_refused(box.usbox("commit"), "commit")
    assert_refused(box.usbox("commit", "last"), "last")
    box.run("--", "sh", "-c", "echo 1 >a").ok()
    journal = next(box.boxes.glob("*")) / "commit"
    journal.write_bytes(b"what\0is\0this\0")
    assert_refused(commit(box), "earlier commits")
    journal.write_bytes(b"P 0 0 0 0 0\0/cut sho")
    commit(box).ok()
    assert (box.dir / "a").read_text() == "1\n"


def test_drop(box):
    box.options = ["--network=none"]
    box.run("--", "sh", "-c", "echo 1 >a").ok()
    box.usbox("drop", "last").ok()
    assert not list(box.boxes.glob("*")) and not (box.dir / "a").exists()
    assert_refused(box.usbox("drop", "last"), "last")
    assert_refused(box.usbox("diff", "last"), "last")


def test_keep_max(box):
    """What is more than that is dropped, with the reason; a name keeps it."""
    box.options = ["--network=none", "--keep-max", "64K"]
    script = "head -c 200000 /dev/zero >big"
    result = box.run("--", "sh", "-c", script).ok()
    assert "more than --keep-max=64.0" in result.err and not list(box.boxes.glob("*")), result
    assert "usbox diff last" in box.run("--", "sh", "-c", "head -c 2000 /dev/zero >small").ok().err
    assert "usbox commit n takes it" in box.run("--name", "n", "--", "sh", "-c", script).ok().err
    box.usbox("rm", "n").ok()


def test_running(box):
    """A box that runs is looked at, but neither carried nor dropped."""
    box.options = ["--network=none"]
    with box.popen("run", "--name", "busy", "--", "sh", "-c", "echo 1 >a; echo made; read x", stdin=subprocess.PIPE) as proc:
        assert proc.stdout.readline() == b"made\n"
        assert f"A  {box.dir}/a" in box.usbox("diff", "busy").lines()
        assert_refused(box.usbox("commit", "busy"), "running")
        assert_refused(box.usbox("drop", "busy"), "running")
        assert_refused(box.usbox("explore", "busy"), "running", "exec")
        proc.communicate(b"\n", timeout=60)
    box.usbox("commit", "busy").ok()
    assert (box.dir / "a").read_text() == "1\n"
    # What the box does after that is judged anew.
    box.run("--name", "busy", "--", "sh", "-c", "echo 2 >>a; echo b >b").ok()
    box.usbox("commit", "busy").ok()
    assert (box.dir / "a").read_text() == "1\n2\n" and (box.dir / "b").exists()
    box.usbox("rm", "busy").ok()
