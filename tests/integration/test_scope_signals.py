# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL, SIGTERM and SIGSTOP to usbox-scope at steps of a limited box's start, run and end, as tests/faults does to all others: nothing stays, the status
is the command's or 125 with its name. Where test_limits.py runs. With USBOX_FAULT_STEPS=50 each at the first and last call of each name."""
import itertools
import os
import sys

import pytest

from conftest import BUILD, TOP, USBOX, cannot, wait_until
from test_limits import no_scope_left, scopes  # pylint: disable=unused-import

sys.path.insert(0, os.fspath(TOP / "tests" / "faults"))
import faults  # noqa: E402
import test_signals  # noqa: E402

pytestmark = pytest.mark.limits

INJECT = BUILD / "tests" / "faults" / "inject"
SIGNALS = ("SIGKILL", "SIGTERM", "SIGSTOP", "SIGSTOP, launcher killed")
# When it has asked systemd for nothing yet, when it makes leaves, when it is in one, and when the box's processes are.
STEPS = (("connect", 0), ("mkdirat", 0), ("write", 0), ("write", -1))


def faults_of(judge):
    """Calls, and what is sent then."""
    calls = [c for c in judge.calls() if c.role == "usbox-scope"]
    by_name = {name: [c for c in calls if c.name == name] for name in {c.name for c in calls}}
    if test_signals.STEPS > test_signals.FEW:
        return itertools.product(sorted({of[which] for of in by_name.values() for which in (0, -1)}, key=calls.index), SIGNALS)
    return zip([by_name[name][which] for name, which in STEPS], SIGNALS)


def one(judge, call, what):
    """Whether it came to that, and what is wrong."""
    judge.bench.clean()
    signal, _, killed = what.partition(", ")
    then, statuses = [], {125, 0}
    if killed:
        then, statuses = ["--then", "300:SIGKILL:usbox"], {137, 0}
    elif signal == "SIGSTOP":  # which only makes the box late
        then, statuses = ["--then", "300:SIGCONT:usbox-scope"], {0}
    run = judge.bench.run(judge.command, "--fault", f"{call}:{signal}", *then)
    if not run.lines["fault"]:
        return False, []
    wrong = test_signals.look(judge, run, f"{call} {what}", statuses)
    if run.rc == 125 and "usbox-scope" not in run.err:
        wrong.append(f"{call} {what}: {run.err}")
    if not wait_until(lambda: not scopes(), 10):
        wrong.append(f"{call} {what}: {scopes()}")
    return True, wrong


def test_usbox_scope(box):
    if not INJECT.exists():
        cannot("run tests/faults/inject, which writes registers of x86-64")
    judge, wrong, reached = faults.Judge(faults.Bench(box, USBOX, INJECT, INJECT.with_name("portrait")), "limited"), [], 0
    calls = judge.calls()
    asked = calls.index(faults.Call("usbox-scope", "recvmsg", 1))  # before that its libraries are loaded, and it has had no time to prepare for anything
    for call, what in faults_of(judge):
        if "killed" in what and calls.index(call) < asked:
            continue
        came, found = one(judge, call, what)
        reached += came
        wrong += found
    print(f"{reached} signals")
    assert not wrong, "\n".join(wrong)
    assert reached >= len(STEPS) - 1  # how often it writes depends on how many processes there are at that moment
