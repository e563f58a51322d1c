# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ways out and leftovers that an attack on the box has found; each was open once."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import HOME, own_processes, wait_until

pytestmark = pytest.mark.usefixtures("both_overlays")


@pytest.mark.slice
def test_no_setid_file_in_a_written_host_directory(no_kept, subids):
    """The box's root is the caller there: a set-id file would let every other user who can come to it be the caller."""
    make = "cp /bin/true gate; chmod 4755 gate; chmod u+s gate; stat -c %a gate"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        for mode, expected in ((0o755, "755"), (0o700, "4755")):
            open_dir = pathlib.Path(top) / f"in-{mode:o}" / "d"
            open_dir.mkdir(parents=True)
            open_dir.parent.chmod(mode)
            os.chmod(top, 0o755)
            out = no_kept.usbox("run", "--rm", "--user=root", "--bind", open_dir, "/mnt", "-w", "/mnt", "--", "sh", "-c", make)
            assert out.out.strip() == expected, out
            assert bool(os.stat(open_dir / "gate").st_mode & 0o6000) == (expected == "4755")


# The directory above the tree becomes another one, in which the tree's name is a symlink to what is not the box's.
ANOTHER_WAY = """
import os, sys
above, victim = os.path.dirname(os.getcwd()), sys.argv[1]
try:
    os.rename(above, above + "-away"); os.mkdir(above); os.symlink(victim, above + "/tree")
except OSError as e:
    print(e)
for name in ".git/commondir", ".git/config.worktree", ".envrc", ".git/config":
    open(name, "a").write("evil")
os.mkdir(".vscode")
open(".vscode/tasks.json", "w").write("evil")
"""


def listed(directory):
    return {p.relative_to(directory): p.read_bytes() if p.is_file() else None for p in directory.rglob("*")}


@pytest.mark.slice
def test_no_hook_is_taken_back_by_a_symlink(box):
    """What the box made of project hooks is moved into upper/ in the end; the way there is what the box made of it."""
    tree, victim = box.dir / "above" / "tree", box.dir / "victim"
    for directory in (tree, victim):
        (directory / ".git").mkdir(parents=True)
    (tree / ".git/config").write_text("[core]\n")
    (victim / "file").write_text("mine\n")
    before = listed(victim)
    result = box.usbox("run", "--rw", ".", "--", "/usr/bin/python3", "-c", ANOTHER_WAY, victim, cwd=tree).ok()
    assert listed(victim) == before, result
    assert (tree / ".git/config").read_text() == "[core]\n"
    for name in (".git/commondir", ".git/config.worktree", ".envrc", ".vscode"):
        assert not (tree / name).exists() or f"{tree / name} on the host" in result.err, result


def test_a_box_that_goes_on_has_no_layer_by_a_symlink(box):
    """Its upper/ is that of the run before, with a symlink in it where a directory of the host's is by now."""
    victim, tree = box.dir / "victim", box.dir / "project" / "tree"
    (victim / "tree").mkdir(parents=True)
    options = ("run", "--name=goes-on")
    box.usbox(*options, "--", "ln", "-s", victim, "project").ok()
    (tree / ".git").mkdir(parents=True)
    (tree / ".git/config").write_text("[core]\n")
    before = listed(victim)
    for more in ([], ["--rw", "."]):
        result = box.usbox(*options, *more, "--", "sh", "-c", "echo evil >new; echo evil >.git/config", cwd=tree)
        assert result.rc == 125 or (result.rc == 0 and more), result
        assert listed(victim) == before, result
    assert (tree / ".git/config").read_text() == "[core]\n"
    box.usbox("rm", "goes-on").ok()


def test_a_deep_tree_is_removed(no_kept):
    """Deeper than a path is long."""
    script = "import os\nos.chdir('/var/tmp')\nfor i in range(2100):\n    os.mkdir('d'); os.chdir('d')\n"
    no_kept.python(script, "--ulimit=nofile=256").ok()
    deep = "import os\nfor i in range(2100):\n    os.mkdir('d'); os.chdir('d')\n"
    no_kept.python(deep).ok()


@pytest.mark.parametrize("victim", ["usbox", "init"])
def test_pid_host_leaves_no_process(no_kept, victim):
    before = own_processes()
    proc = no_kept.popen("run", "--pid=host", "--network=none", "--", "sh", "-c", "(setsid sleep 777 &); echo ready; sleep 778")
    assert proc.stdout.readline() == b"ready\n"
    if victim == "usbox":
        proc.kill()
    else:
        children = open(f"/proc/{proc.pid}/task/{proc.pid}/children", encoding="ascii").read().split()
        init = next(int(p) for p in children if open(f"/proc/{p}/comm", encoding="ascii").read().strip() == "usbox-init")
        os.kill(init, signal.SIGKILL)
    proc.wait(60)
    assert wait_until(lambda: not set(own_processes()) - set(before))
    sleeps = ["pgrep", "-u", str(os.getuid()), "-x", "-f", "sleep 77[78]"]
    assert wait_until(lambda: subprocess.run(sleeps, capture_output=True, check=False).stdout == b"")


def test_hidden_names_made_while_the_box_runs(no_kept, home_file):
    """--home all: what is made under a hidden name after the start is as hidden."""
    name = ".kube/config"
    if (HOME / ".kube").exists():
        pytest.fail("the test's home is in use")
    proc = no_kept.popen("run", "--rm", "--home=all", "--network=none", "--", "sh", "-c", "echo ready; read line; cat ~/.kube/config || echo hidden", stdin=subprocess.PIPE)
    assert proc.stdout.readline() == b"ready\n"
    home_file(name, "secret\n")
    time.sleep(0.1)
    out, _err = proc.communicate(b"go\n", timeout=60)
    assert out == b"hidden\n"


def test_the_target_of_a_hidden_link_is_hidden(no_kept, home_file):
    target = home_file("dotfiles-of-a-test/aws/credentials", "secret\n", 0o644)
    link = HOME / ".aws"
    assert not link.is_symlink() and not link.exists()
    link.symlink_to(target.parent)
    try:
        out = no_kept.sh("cat ~/.aws/credentials ~/dotfiles-of-a-test/aws/credentials 2>/dev/null; echo end", "--home=all").ok().out
    finally:
        link.unlink()
    assert out == "end\n"


def test_the_last_run_alone_is_kept(no_kept):
    no_kept.run("--", "touch", "made").ok()
    assert len(list(no_kept.boxes.iterdir())) == 1
    no_kept.run("--", "true").ok()
    assert list(no_kept.boxes.iterdir()) == []


def test_ping_has_its_socket(no_kept):
    out = no_kept.python("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP); print('made')").ok().out
    assert out == "made\n"
