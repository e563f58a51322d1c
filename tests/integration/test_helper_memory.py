# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers of a box get no more memory from the kernel, which kills them (memory.max): the box ends, the error names who it was, nothing stays, and what
the command had written is whole. Where test_limits.py runs."""
import json
import pathlib

import pytest

from conftest import wait_until
from test_limits import SLICE, no_scope_left, scopes  # pylint: disable=unused-import

pytestmark = pytest.mark.limits

# Each round has a file for usbox-fs, names that it has not met, and flows for usbox-net.
WORK = """
import os, socket
names = (os.path.join(top, name) for top, _, files in os.walk("/usr") for name in files)
n = 0
while True:
    n += 1
    with open("new", "w") as f:
        f.write(str(n) * 10000)
    os.rename("new", f"f{n}")
    for _ in range(50):
        os.stat(next(names, "/"), follow_symlinks=False)
    for port in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.sendto(b"x" * 500, ("192.0.2.1", 1000 + (n * 20 + port) % 60000))
            except OSError:
                pass
    print(n, flush=True)
"""


@pytest.fixture
def at_work(box):
    """A box that is limited, and its cgroup."""
    run = box.popen("run", "--name=x", "--memory=400M", "--", "/usr/bin/python3", "-c", WORK)
    assert run.stdout.readline() == b"1\n"
    assert wait_until(lambda: len(scopes()) == 1, 20)
    yield run, SLICE / scopes()[0]
    run.kill()
    run.communicate()
    box.usbox("rm", "-f", "x").ok()


def named(leaf, name):
    """Its process of that name, which is no agent of it."""
    pids = (leaf / "cgroup.procs").read_text(encoding="ascii").split()
    found = [pid for pid in pids if pathlib.Path("/proc", pid, "comm").read_text(encoding="utf-8") == f"{name}\n"]
    assert len(found) == 1, (name, found, pids)
    return found[0]


def is_whole(box, out):
    """Each file that has its name, and those of which the command has told are all there."""
    told = {f"f{n}" for n in out.decode().split()}
    (upper,) = box.boxes.glob("*/upper")
    texts = {p.name: p.read_text(encoding="ascii") for p in upper.rglob("f*") if p.is_file()}
    assert told <= set(texts), told - set(texts)
    assert all(text == name[1:] * 10000 for name, text in texts.items())


@pytest.mark.parametrize("who", ("usbox-net", "usbox-fs", "usbox-scope"))
def test_one_of_them(box, at_work, who):
    """It alone is where nothing is left; the kernel kills it for what it asks for next."""
    run, scope = at_work
    short = scope / "short"
    short.mkdir()
    (short / "memory.max").write_text("0", encoding="ascii")
    (short / "cgroup.procs").write_text(named(scope / "helpers", who), encoding="ascii")
    if who == "usbox-scope":
        box.usbox("update", "x", "--memory=300M")  # which it is told of; without, it only waits
    out, err = run.communicate(timeout=240)
    assert run.returncode == 125, (out[-100:], err)
    errors = [line for line in err.decode().splitlines() if "ended" in line]
    assert len(errors) == 1 and f"the helper {who} ended: killed by signal 9" in errors[0], err
    is_whole(box, b"1\n" + out)
    known = json.loads(box.usbox("inspect", "x").ok().out)[0]
    assert who in known["error"], known


def test_all_of_them(box, at_work):
    """At once, with the init of the box."""
    run, scope = at_work
    (scope / "helpers" / "memory.max").write_text("0", encoding="ascii")
    out, err = run.communicate(timeout=240)
    errors = [line for line in err.decode().splitlines() if "ended" in line or "killed" in line]
    assert run.returncode == 125 and any("usbox-" in line or "init" in line for line in errors), (out[-100:], err)
    is_whole(box, b"1\n" + out)
