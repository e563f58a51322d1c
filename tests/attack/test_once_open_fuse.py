# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was once possible in a root by FUSE, and must not be."""
import os
import shutil

import pytest

from conftest import cannot

LISTED = """
import os
def text(name, mode='r', value=None):
    with open(name, mode) as f:
        return f.write(value) if value else f.read()
listing = os.scandir('many')
seen = {next(listing).name for _ in range(5)}
for name in (f'{i:04}' for i in range(3000)):
    if name not in seen:
        text('many/' + name, 'r+', 'box.')
for entry in listing:
    entry.stat(follow_symlinks=False)
print(sum(text(f'many/{i:04}') != 'box.' for i in range(3000) if f'{i:04}' not in seen))
"""

FILLED = """
import os, time
def fill(fd):
    written = 0
    try:
        while written < 64 << 20:
            written += os.write(fd, bytes(1 << 18))
    except OSError:
        pass
    return written
def until_free(name):
    for _ in range(100):
        fd = os.open(name, os.O_CREAT | os.O_RDWR)
        written = fill(fd)
        os.close(fd)
        os.unlink(name)
        if written >= 15 << 20:
            return written
        time.sleep(.05)
    return written
held, total = [], 0
for i in range(4):
    held.append(os.open('a', os.O_CREAT | os.O_RDWR))
    total += fill(held[-1])
    os.unlink('a')
print(total <= 17 << 20)
for fd in held:
    os.truncate(fd, 0)
    os.close(fd)
print(15 << 20 <= until_free('b') <= 17 << 20)
for _ in range(3):
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR)
    fill(fd)
    os.close(fd)
print(15 << 20 <= until_free('c') <= 17 << 20)
"""


@pytest.fixture(autouse=True)
def fuse(box):
    box.options = ["--overlay=fuse"]


def test_what_is_written_while_it_is_listed_stays(no_kept):
    """A listing knows in which layer a name is, which a copy-up changes: it once brought the host's file back."""
    for i in range(3000):
        no_kept.write(f"many/{i:04}", "host")
    assert no_kept.python(LISTED, "--rm").lines() == ["0"]


def test_unlinked_files_count_for_the_disk_limit(no_kept):
    """They once did not, and to truncate one made room for what was not there."""
    assert no_kept.python(FILLED, "--rm", "--disk=16M").lines() == ["True"] * 3


def test_no_mode_of_a_host_file_through_a_symlink(no_kept):
    """Before Linux 6.6 the kernel has no objection to chmod(2) of a symlink's own descriptor."""
    no_kept.write("victim", "host\n", mode=0o640)
    script = f"""
import os
os.symlink({str(no_kept.dir / 'victim')!r}, 'link')
fd = os.open('link', os.O_PATH | os.O_NOFOLLOW)
try:
    os.chmod(f'/proc/self/fd/{{fd}}', 0o666)
    print('done')
except OSError as e:
    print(e.strerror)
"""
    assert no_kept.python(script, "--rm").lines() == [os.strerror(95)]
    assert (no_kept.dir / "victim").stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("subids")
def test_acl_of_files_of_other_ids_of_the_box(no_kept):
    """Such a file's ACL is set by the agent, who is in the box's user namespace and so takes the box's numbers."""
    if not shutil.which("setfacl"):
        cannot("set an ACL")
    script = ("cd /opt && touch f && chown 5:6 f && setfacl -m u:7:r f && getfacl -cn f && "
              "mkdir -m 0 d && chown 9 d && setfacl -m u:8:rx d && getfacl -cn d")
    lines = no_kept.sh(script, "--rm", "--user=root", "--userns=auto").lines()
    assert [line for line in lines if line.startswith("user:") and "::" not in line] == ["user:7:r--", "user:8:r-x"], lines
