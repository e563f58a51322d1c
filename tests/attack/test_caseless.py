# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that are hidden, on a file system that finds them by another case, too."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import cannot

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
@pytest.mark.parametrize("what", ["**/.ssh", "caseless/.ssh"])
def test_a_hidden_name_is_hidden_in_every_case(no_kept, caseless, what):
    out = no_kept.python("import os; os.chdir('caseless')" + READ, "--rm", "--hide", what).lines()
    assert out == [*lines("No such file or directory"), "True ['Makefile']"]


def test_what_is_not_hidden_is_there_by_its_name(no_kept, caseless):
    out = no_kept.python("import os; os.chdir('caseless')" + READ, "--rm").lines()
    assert out[0] == ".ssh/key USBOX-SECRET" and out[-1] == "True ['.ssh', 'Makefile']"
