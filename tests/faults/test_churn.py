# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boxes by the dozen, of mixed kinds, whose processes are killed at random, for some seconds; 20,000 of them by tests/faults/long --churn."""
import os
import subprocess
import sys

import pytest

import churn
from conftest import integration

SECONDS = float(os.environ.get("USBOX_FAULT_CHURN_SECONDS", "8"))


@pytest.mark.slice
def test_churn(bench):
    bench.clean()
    wrong, boxes, before, after = churn.churn(bench.usbox, bench.world, 100000, SECONDS, seed=os.environ.get("USBOX_FAULT_SEED", "1"))
    churn.forget_half_made(bench.world)
    print(f"{boxes} boxes; before {before}, after {after}")
    assert not wrong, "\n".join(wrong)
    # A sanitizer keeps memory that was freed for a while.
    assert boxes > 0 and [line for line in churn.grown(before, after) if not (integration.SANITIZED and line.startswith("KiB"))] == []


# What a process that should stay as it is does instead: what is then said to have grown, and how.
OF_A_PROCESS = {
    "descriptors": "keep = [os.dup(0) for _ in range(2)]",
    "KiB": "keep = b'x' * (4 << 20)",
    "children": "if os.fork() == 0: os._exit(0)",
    "threads": "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
}
OF_THE_USER = {
    "processes": lambda world: world.usbox("run", "-d", "--name=x", "--network=none", "--overlay=none", "sleep", "1000").ok(),
    "boxes": lambda world: world.usbox("run", "--name=x", "--network=none", "true").ok(),
    "runtime": lambda world: (world.runtime / "usbox" / "0123456789ab").mkdir(parents=True),
    "bytes": lambda world: (world.data / "file").write_text("x" * 70000),
    "names": lambda world: [(world.data / str(i)).mkdir() for i in range(50)],
    "descriptors of the caller": lambda world: os.open("/", os.O_PATH),
}


def of_it(lines):
    """What the user has beside are other tests, too."""
    return [line.split(":")[0] for line in lines if " of it:" in line]


@pytest.mark.parametrize("what", OF_A_PROCESS)
def test_what_a_process_does_not_give_back_is_found(box, what):
    """So the churn's silence says something."""
    script = f"import os, sys, threading, time\nprint(1, flush=True)\nsys.stdin.readline()\n{OF_A_PROCESS[what]}\nprint(2, flush=True)\nsys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proc:
        proc.stdout.readline()
        before = churn.usage(box, {proc.pid: "it"})
        assert of_it(churn.grown(before, churn.usage(box, {proc.pid: "it"}))) == []
        proc.stdin.write("\n")
        proc.stdin.flush()
        proc.stdout.readline()
        assert of_it(churn.grown(before, churn.usage(box, {proc.pid: "it"}))) == [f"{what} of it"]
        proc.stdin.close()
    assert f"descriptors of it: {before['descriptors of it']}, then -1" in churn.grown(before, churn.usage(box, {proc.pid: "it"}))


@pytest.mark.parametrize("what", OF_THE_USER)
def test_what_the_user_does_not_get_back_is_found(box, what):
    before = churn.usage(box)
    assert what == "processes" or what not in [line.split(":")[0] for line in churn.grown(before, churn.usage(box))]
    made = OF_THE_USER[what](box)
    assert what in [line.split(":")[0] for line in churn.grown(before, churn.usage(box))]
    if what == "descriptors of the caller":
        os.close(made)
    elif what in ("processes", "boxes"):
        box.usbox("rm", "-f", "x").ok()
    elif what == "runtime":
        (box.runtime / "usbox" / "0123456789ab").rmdir()
