# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program as core_pattern, which the kernel starts as root of the host for whoever crashes: for no box, nor for a helper. In the machine of tests/vm
alone, whose core_pattern is ours to set (tests/vm/guest/run)."""
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import cannot, own_processes

pytestmark = pytest.mark.limits
CORES = pathlib.Path("/run/usbox-cores")
CRASH = ["sh", "-c", "kill -SEGV $$"]


def cores():
    """What it was started for so far: lines of name, user, size."""
    return CORES.read_text(encoding="utf-8").splitlines() if CORES.exists() else []


@pytest.fixture(autouse=True)
def handler():
    """It is there, and is started for a crash outside; the kernel waits for its end."""
    if "tests/vm/guest/core" not in pathlib.Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii"):
        cannot("start a program for who dumps core: tests/vm can")
    before = len(cores())
    assert subprocess.run(CRASH, check=False).returncode == -signal.SIGSEGV
    name, user, size = cores()[before].split()
    assert (name, int(user)) == ("sh", os.getuid()) and int(size) > 4096, cores()


@pytest.mark.parametrize("options", [[], ["--user=root"], ["--nested"], ["--overlay=kernel"], ["--network=host", "--pid=host"], ["--memory=100M"]], ids=" ".join)
def test_not_for_a_command(box, options):
    before = cores()
    assert box.run("--rm", *options, "--", *CRASH).rc == 128 + signal.SIGSEGV
    assert cores() == before


def test_not_for_what_exec_runs(box):
    before = cores()
    box.run("-d", "--name=x", "--", "sleep", "1000").ok()
    assert box.usbox("exec", "x", "--", *CRASH).rc == 128 + signal.SIGSEGV
    box.usbox("rm", "-f", "x").ok()
    assert cores() == before


def test_for_who_asks_for_dumps(box):
    """As docs/security.md says; so it is not that the kernel would start nothing for a box."""
    before = len(cores())
    assert box.run("--rm", "--ulimit=core=0", "--", *CRASH).rc == 128 + signal.SIGSEGV
    assert [line.split()[0] for line in cores()[before:]] == ["sh"]


@pytest.mark.parametrize("helper", ["usbox-net", "usbox-fs"])
def test_not_for_a_helper(box, helper):
    before = cores()
    run = box.popen("run", "--rm", "--", "sh", "-c", "echo up; sleep 1000")
    assert run.stdout.readline() == b"up\n"
    pids = [pid for pid, what in own_processes().items() if what.startswith(helper + " ")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSEGV)
    _, err = run.communicate(timeout=240)
    assert run.returncode == 125 and helper in err.decode(), err
    assert cores() == before
