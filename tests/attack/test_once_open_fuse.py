# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was once possible in a root by FUSE, and must not be."""
import os
import shutil
import subprocess

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
def opened(name, flags):
    for _ in range(1000):
        try:
            return os.open(name, flags | os.O_RDWR)
        except OSError:  # no room for a name yet
            time.sleep(.05)
def until_free(name):
    written = 0
    for _ in range(1000):
        fd = opened(name, os.O_CREAT)
        written = fill(fd)
        os.close(fd)
        os.unlink(name)
        if written >= 15 << 20:
            return written
        time.sleep(.05)
    return written
held = []
for i in range(4):
    held.append(opened('a', os.O_CREAT))
    os.unlink('a')
print(15 << 20 <= sum(map(fill, held)) <= 17 << 20)
for fd in held:
    os.truncate(fd, 0)
    os.close(fd)
print(15 << 20 <= until_free('b') <= 17 << 20)
for _ in range(3):
    fd = opened('.', os.O_TMPFILE)
    fill(fd)
    os.close(fd)
print(15 << 20 <= until_free('c') <= 17 << 20)
"""


# What glibc would load to convert text from the C locale's character set, whatever program it is in; it writes down what it has come into.
MODULE = r"""
#include <fcntl.h>
#include <unistd.h>
int gconv(void) { return 1; }
int gconv_init(void *step) { (void) step; return 1; }
__attribute__((constructor)) static void loaded(void) {
        char text[4096];
        int from = open("/proc/self/status", O_RDONLY), to = open("/tmp/loaded", O_WRONLY | O_CREAT | O_APPEND, 0666);
        for (ssize_t n; (n = read(from, text, sizeof text)) > 0;)
                n = write(to, text, (size_t) n);
}
"""
TRAP = r"""
set -e
dir=$(dirname "$(ls /usr/lib/*/gconv/gconv-modules /usr/lib64/gconv/gconv-modules 2>/dev/null | head -n 1)")
rm -rf "$dir"/gconv-modules.cache "$dir"/gconv-modules.d
cp module.so "$dir/MODULE.so"
printf 'module %s %s MODULE 1\n' ANSI_X3.4-1968// INTERNAL INTERNAL ANSI_X3.4-1968// >"$dir/gconv-modules"
echo text | iconv -f ANSI_X3.4-1968 -t UTF-8 >/dev/null 2>&1 || true
grep -q ^Name:.iconv /tmp/loaded && rm /tmp/loaded /dev/ptmx && echo set
exec sleep 1000
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


@pytest.mark.slice
@pytest.mark.usefixtures("subids")
def test_acl_of_files_of_other_ids_of_the_box(no_kept):
    """Such a file's ACL is set by the agent, who is in the box's user namespace and so takes the box's numbers."""
    if not shutil.which("setfacl"):
        cannot("set an ACL")
    script = ("cd /opt && touch f && chown 5:6 f && setfacl -m u:7:r f && getfacl -cn f && "
              "mkdir -m 0 d && chown 9 d && setfacl -m u:8:rx d && getfacl -cn d")
    lines = no_kept.sh(script, "--rm", "--user=root", "--userns=auto").lines()
    assert [line for line in lines if line.startswith("user:") and "::" not in line] == ["user:7:r--", "user:8:r-x"], lines


@pytest.mark.slice
@pytest.mark.usefixtures("subids")
def test_no_code_of_the_box_on_the_way_in(no_kept):
    """What enters a box tells what failed there, with all rights still and no filter: glibc's words for it came by a module of the box's."""
    if not shutil.which("cc"):
        cannot("compile")
    no_kept.write("module.c", MODULE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "module.so", "module.c"], cwd=no_kept.dir, check=True, timeout=60)
    proc = no_kept.popen("run", "--rm", "--user=root", "--network=none", "--", "sh", "-c", TRAP)
    try:
        assert proc.stdout.readline() == b"set\n"
        result = no_kept.usbox("exec", "--tty", "last", "--", "true")
        assert result.rc == 125 and "/dev/ptmx of the box: No such file or directory" in result.err, result
        result = no_kept.usbox("exec", "last", "--", "/no/such/program")
        assert result.rc == 127, result
        assert no_kept.usbox("exec", "last", "--", "cat", "/tmp/loaded").err == "cat: /tmp/loaded: No such file or directory\n"
    finally:
        no_kept.usbox("kill", "last")
        proc.wait(60)
