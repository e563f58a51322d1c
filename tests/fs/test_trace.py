# SPDX-License-Identifier: LGPL-2.1-or-later
"""-o trace=FILE: what is in it is JSON, whatever names are, and nothing that was done is missing."""
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from conftest import OURS, libc, mounted, raises, wait_until

pytestmark = pytest.mark.skipif(not OURS, reason="usbox-fs's own")


def events(path):
    """(event, path in bytes) of each line."""
    with open(path, "rb") as f:
        lines = [json.loads(line) for line in f.read().decode("ascii").splitlines()]
    return [(line["event"], line.get("path", "").encode("utf-8", "surrogateescape")) for line in lines]


def punch(path):
    fd = os.open(path, os.O_WRONLY)
    assert libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1)) == 0, os.strerror(ctypes.get_errno())
    os.close(fd)


def remove_attribute(path):
    os.removexattr(path, "user.old")


CHANGES = {"write": lambda p: p.write_bytes(b"new"), "empty": lambda p: os.truncate(p, 0), "open-empty": lambda p: os.close(os.open(p, os.O_WRONLY | os.O_TRUNC)),
           "truncate": lambda p: os.truncate(p, 1), "punch": punch, "mode": lambda p: p.chmod(0o600), "times": lambda p: os.utime(p, (1, 1)),
           "attribute": lambda p: os.setxattr(p, "user.a", b"x"), "no-attribute": remove_attribute,
           "unlink": os.unlink, "rename": lambda p: os.rename(p, p.with_name("elsewhere"))}


@pytest.mark.slice
@pytest.mark.parametrize("cache", ["fast", "strict"])
def test_each_way_to_change_a_file_is_a_write(fs, cache):
    """Making it empty was none; nor, where the kernel keeps no times, making a hole and giving it attributes."""
    for name in CHANGES:
        os.setxattr(fs.write(name, b"old"), "user.old", b"x")
    fs.mount(f"trace={fs.top}/trace,cache={cache}")
    for name, change in CHANGES.items():
        change(fs.mnt / name)
    fs.umount()
    found = events(fs.top / "trace")
    assert {p for what, p in found if what == "write"} == {b"/" + n.encode() for n in (*CHANGES, "elsewhere")}, found
    assert len(found) == len(set(found))


def test_names_of_any_bytes(fs):
    names = [b"\xff\xfe", b"a\xffb", "grün\U0001f600".encode(), b'quote"back\\slash', b"new\nline\ttab\x01\x7f", "\udc80".encode("utf-8", "surrogatepass"), b"x" * 255]
    for name in names:
        with open(os.fsencode(fs.lower) + b"/" + name, "wb"):
            pass
    fs.mount(f"trace={fs.top}/trace")
    mnt = os.fsencode(fs.mnt) + b"/"
    for name in names:
        os.close(os.open(mnt + name, os.O_RDONLY))  # empty, and closed again: read all the same
        raises(errno.ENOENT, os.stat, mnt + name[1:] + b"-")
    assert sorted(os.listdir(mnt)) == sorted(names)
    fs.umount()
    found = events(fs.top / "trace")
    for name in names:
        assert ("read", b"/" + name) in found and ("absent", b"/" + name[1:] + b"-") in found, (name, found)
    assert found.count(("list", b"/")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_whole_when_a_signal_ends_the_server_at_work(fs, number):
    """Its threads went on with a journal that was freed, and the server died of it."""
    code = ("import os, sys, threading\n"
            "d = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)\n"
            "def ask(n):\n    i = 0\n    while True:\n        i += 1\n        try:\n            os.stat(f'{n}-{i}', dir_fd=d)\n"
            "        except FileNotFoundError:\n            pass\n        except OSError:\n            os._exit(0)\n"
            "for n in range(6):\n    threading.Thread(target=ask, args=(n,)).start()\n")
    for _ in range(4):
        fs.mount(f"trace={fs.top}/trace")
        (fs.mnt / "made").touch()
        with subprocess.Popen([sys.executable, "-c", code, str(fs.mnt)]) as busy:
            assert wait_until(lambda: fs.stats().get("LOOKUP", 0) > 300)
            fs.server.send_signal(number)
            rc = fs.server.wait(60)
            fs.server = None
            busy.wait(60)
        assert rc == 0 and not mounted(fs.mnt), (rc, fs.messages())
        found = events(fs.top / "trace")
        assert ("write", b"/made") in found and sum(what == "absent" for what, _path in found) > 200
        (fs.mnt / "made").unlink(missing_ok=True)
        (fs.upper / "made").unlink()
        (fs.top / "trace").unlink()
