# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are hidden, on a file system that finds them by another case, too."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import assert_refused, cannot, has_subids

READ = """
import os
for name in ('.ssh/key', '.SSH/key', '.Ssh/KEY', '.sSh/key'):
    try:
        print(name, open(name).read())
    except OSError as e:
        print(name, e.strerror)
print(os.path.exists('Makefile'), sorted(os.listdir()))
"""


@pytest.fixture
def caseless(no_kept):
    if not shutil.which("fusermount3") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        cannot("mount by FUSE as an ordinary user")
    where = no_kept.dir / "caseless"
    where.mkdir()
    server = pathlib.Path(__file__).with_name("caseless.py")
    with subprocess.Popen([sys.executable, server, where, "USBOX-SECRET"], stdout=subprocess.PIPE) as proc:
        try:
            assert proc.stdout.readline() == b"mounted\n"
            yield where
        finally:
            subprocess.run(["fusermount3", "-u", "-z", where], check=True)
            proc.wait(30)


def lines(found):
    return [f"{name} {found}" for name in (".ssh/key", ".SSH/key", ".Ssh/KEY", ".sSh/key")]


def test_without_a_box_it_is_found_by_every_case(caseless):
    out = subprocess.run([sys.executable, "-c", READ], cwd=caseless, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out == [*lines("USBOX-SECRET"), "True ['.ssh', 'Makefile']"]


@pytest.mark.slice
@pytest.mark.parametrize("kind", ["", "--user=root", "--nested", "--network=host"])
@pytest.mark.parametrize("what", ["**/.ssh", "caseless/.ssh"])
def test_a_hidden_name_is_hidden_in_every_case(no_kept, caseless, what, kind):
    if kind == "--user=root" and not has_subids():
        cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")
    out = no_kept.python("import os; os.chdir('caseless')" + READ, "--rm", "--hide", what, *kind.split()).lines()
    assert out == [*lines("No such file or directory"), "True ['Makefile']"]


@pytest.mark.parametrize("what", ["caseless/.ssh", "caseless/.ssh/key"])
@pytest.mark.parametrize("overlay", ["kernel", "none"])
def test_what_the_kernels_overlay_cannot_hide_so_stops_the_run(no_kept, caseless, what, overlay):
    """A whiteout is of one spelling."""
    result = no_kept.run("--rm", f"--overlay={overlay}", "--hide", what, "--", "true")
    assert_refused(result, "found by other spellings", "--overlay=fuse")
    no_kept.run("--rm", f"--overlay={overlay}", "--hide", what, "--best-effort=hide", "--", "true").ok()


def test_a_hard_link_is_no_other_spelling(no_kept):
    no_kept.write("secret", "x")
    os.link(no_kept.dir / "secret", no_kept.dir / "Secret")
    assert no_kept.sh("ls", "--rm", "--overlay=kernel", "--hide", "secret").ok().out == "Secret\n"


def test_what_is_not_hidden_is_there_by_its_name(no_kept, caseless):
    out = no_kept.python("import os; os.chdir('caseless')" + READ, "--rm").lines()
    assert out[0] == ".ssh/key USBOX-SECRET" and out[-1] == "True ['.ssh', 'Makefile']"
