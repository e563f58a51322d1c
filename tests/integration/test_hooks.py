# SPDX-License-Identifier: LGPL-2.1-or-later
"""Project hooks in a tree that is written through: what the caller's own tools run later must not be the box's to write."""
import subprocess

import pytest

from conftest import SLOW, assert_refused

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


def test_a_new_hook_without_overlay_is_reported(no_kept):
    result = no_kept.run("--overlay=none", "--rw", ".", "--", "sh", "-c", "echo evil >.envrc").ok()
    assert ".envrc" in result.err and "look at it" in result.err, result


def test_a_hook_that_the_host_replaces_is_reported(no_kept):
    """The kernel takes the mount over a file away when another is renamed into its place, as git config does."""
    fill(no_kept)
    proc = no_kept.popen("run", "--rm", "--rw", ".", "--", "sh", "-c", "echo ready; read line", stdin=subprocess.PIPE)
    assert proc.stdout.readline() == b"ready\n"
    no_kept.write(".git/config.lock", "mine\n").rename(no_kept.dir / ".git/config")
    err = proc.communicate(b"go\n", timeout=60 * SLOW)[1].decode()
    assert ".git/config was replaced on the host while the box ran" in err and ".envrc" not in err, err


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
