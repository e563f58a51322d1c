# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine's clock is set ahead and back by a day while boxes run. In the machine of tests/vm alone, whose clock is ours to set."""
import pathlib
import time

import pytest

from conftest import cannot, wait_until

pytestmark = pytest.mark.limits
CLOCK = pathlib.Path("/run/usbox-clock")  # which takes by how many seconds (tests/vm/guest/run)
DAY = 24 * 3600


def offset():
    """Of the clock to the one that nobody sets."""
    return time.time() - time.monotonic()


def move_clock(seconds):
    before = offset()
    CLOCK.write_text(f"{seconds}\n", encoding="ascii")
    assert wait_until(lambda: abs(offset() - before - seconds) < 60, 60)


@pytest.fixture(autouse=True)
def clock():
    """It is right again afterwards."""
    if not CLOCK.exists():
        cannot("have its clock set: tests/vm can")
    right = offset()
    yield
    move_clock(round(right - offset()))


# A line for each of its fifos: with one for all, a writer that had not closed it yet would be taken for the next.
STEPS = "mkfifo f1 f2 f3; echo 0; for n in 1 2 3; do read line <f$n; echo $n; done; exit 5"


def test_running_box(box):
    """It does not meet its time limit, its log has all lines in their order, and what is said to be recent is."""
    box.run("-d", "--name=x", "--network=none", "--timeout=4h", "--", "sh", "-c", STEPS).ok()

    def said(*options):
        return box.usbox("logs", *options, "x").ok().lines()

    def step(n):
        box.usbox("exec", "x", "--", "sh", "-c", f"echo >f{n}").ok()
        assert wait_until(lambda: len(said()) > n, 20), said()
    assert wait_until(lambda: said() == ["0"], 20), said()
    move_clock(DAY)
    step(1)
    assert said("--since=1h") == ["1"]
    move_clock(-2 * DAY)
    step(2)
    assert said("--since=1h")[-1] == "2"
    assert box.usbox("ps", "--quiet").lines() == ["x"]
    box.usbox("exec", "x", "--", "sh", "-c", "echo >f3")  # which the box's end may overtake
    assert box.usbox("wait", "x").lines() == ["5"]
    assert said() == ["0", "1", "2", "3"]
    box.usbox("rm", "x").ok()


def test_time_limit(box):
    """It is met as if nobody had set the clock."""
    proc = box.popen("run", "--rm", "--network=none", "--timeout=6s", "--", "sh", "-c", "echo runs; exec sleep 1000")
    assert proc.stdout.readline() == b"runs\n"
    begin = time.monotonic()
    move_clock(-DAY)
    proc.communicate(timeout=120)
    assert proc.returncode == 124
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("move", (DAY, -DAY))
def test_commit(box, move):
    """What the host changes after the clock was set is a conflict; what it did not change is none."""
    for name in ("changed", "untouched"):
        box.write(name, "host\n")
    box.run("--network=none", "--", "sh", "-c", "echo box >changed; echo box >untouched").ok()
    move_clock(move)
    box.write("changed", "host again\n")
    result = box.usbox("commit", "last")
    assert result.rc == 1 and "changed" in result.err, result
    assert (box.dir / "changed").read_text(encoding="ascii") == "host again\n"
    # Set back, a file's time says less: then more may be taken for changed, and nothing is lost.
    assert move < 0 or "untouched" not in result.err, result
    box.usbox("drop", "last").ok()
