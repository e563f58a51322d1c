# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox as a job of the caller's own shell: background, foreground, stop and continue."""
import os

import pytest

from conftest import USBOX
from pty_driver import Pty

RUN = f"{USBOX} run --rm --network=none --"
# A box whose command waits until the test lets it go on.
SAYS = "read x <w/go; echo from-the-box"
WAITS = f"{USBOX} run --rm --network=none --rw w -- sh -c '{SAYS}'"


@pytest.fixture
def shell(box):
    with Pty(["bash", "--norc", "-i"], env={**box.env, "TERM": "dumb"}, cwd=box.dir) as t:
        t.send("PS1='%% '; bind 'set enable-bracketed-paste off' 2>/dev/null\n")
        t.expect("%% $")
        yield t
        t.send("exit 0\n")
        t.wait()


def typed(t, line, program):
    """Type a line at the prompt and wait until the box's program that it starts, or makes the foreground, is there to read what follows."""
    t.send(line + "\n")
    t.expect("\r\n")
    t.await_front(program)
    t.await_raw()


@pytest.fixture
def go_on(box):
    """Lets the command of WAITS go on."""
    (box.dir / "w").mkdir()
    os.mkfifo(box.dir / "w" / "go")

    def go():
        with open(box.dir / "w" / "go", "w", encoding="ascii") as f:
            f.write("\n")
    return go


def test_background_job_leaves_the_terminal_alone(shell, go_on):
    shell.send(f"{WAITS} &\n")
    shell.expect("%% $")
    shell.send("echo al''ive\n")  # the shell's line editor, not the box, gets this
    shell.expect("alive\r\n")
    go_on()
    shell.expect("from-the-box\r+\n")
    shell.send("wait; echo sta''tus $?\n")
    shell.expect("status 0\r\n")
    shell.expect("%% $")


def test_background_job_made_foreground_takes_over(shell):
    shell.send(f"{RUN} cat &\n")
    shell.expect("%% $")
    shell.await_front("cat")  # of the box's terminal
    typed(shell, "fg", "cat")
    shell.send("into the box\n")
    shell.expect("into the box\r\ninto the box\r\n")
    shell.send(b"\x04")
    shell.expect("%% $")


def test_stop_and_continue(shell):
    typed(shell, f"{RUN} cat", "cat")
    shell.send("one\n")
    shell.expect("one\r\none\r\n")
    shell.send(b"\x1a")
    shell.expect("Stopped.*%% $")
    shell.send("echo al''ive\n")
    shell.expect("alive\r\n.*%% $")
    typed(shell, "fg", "cat")
    shell.send("two\n")
    shell.expect("two\r\ntwo\r\n")
    shell.send(b"\x04")
    shell.expect("%% $")
    shell.send("stty -a\n")
    shell.expect(r"\sisig icanon .*\secho ")
    shell.expect("%% $")


def test_stopped_from_outside_and_continued_in_background(shell, go_on):
    typed(shell, WAITS, f"sh -c {SAYS}")
    shell.send(b"\x1a")
    shell.expect("Stopped.*%% $")
    shell.send("bg\n")
    shell.expect("%% ")
    shell.send("echo al''ive\n")
    shell.expect("alive\r\n")
    go_on()
    shell.expect("from-the-box\r+\n")
    shell.send("wait; echo sta''tus $?\n")
    shell.expect("status 0\r\n")


@pytest.mark.slice
def test_reader_of_a_forced_terminal_goes_away(box):
    proc = box.popen("run", "--rm", "--network=none", "-t", "--", "yes")
    assert proc.stdout.read(3) == b"y\r\n"
    proc.stdout.close()
    assert proc.wait(timeout=60) == 129  # SIGHUP
    proc.stderr.close()
