# SPDX-License-Identifier: LGPL-2.1-or-later
"""stdio: a terminal of the box's own where stdin is one, untouched bytes where it is not."""
import hashlib
import os
import pwd
import signal
import subprocess
import termios
import threading

import pytest

from conftest import USBOX, wait_until


@pytest.mark.slice
def test_a_terminal_of_its_own(box):
    with box.pty("run", "--rm", "--", "sh", "-c", "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all") as t:
        outer = os.ttyname(t.slave)
        tty = t.expect(r"(/dev/[^\r\n]+)\r\n").group(1).decode()
        assert tty.startswith("/dev/") and (tty == "/dev/console" or tty.startswith("/dev/pts/"))
        assert t.expect(r"24 80\r\nall\r\n")
        assert t.wait() == 0
        assert outer  # still there


def test_a_terminal_has_the_group_of_terminals(box, subids):
    """sshd changes the owner of one that has not, and fails."""
    with box.pty("run", "--rm", "--network=none", "--", "sh", "-c", "stat -c '%U %g %a' $(tty); script -qc 'stat -c \"%U %g %a\" $(tty)' /dev/null") as t:
        assert t.wait() == 0
        assert t.seen.decode().split("\r\n")[:2] == [f"{pwd.getpwuid(os.getuid()).pw_name} 5 620"] * 2


def test_no_terminal_without_one(box):
    assert box.sh("tty; test -t 0 || echo none").out.splitlines()[-1] == "none"


def test_job_control(box):
    with box.pty("run", "--rm", "--", "bash", "--norc", "-i") as t:
        t.send("PS1='%% '; bind 'set enable-bracketed-paste off' 2>/dev/null\n")
        t.expect("%% $")
        t.send("sleep 300\n")
        t.await_front("sleep 300")
        t.send(b"\x1a")
        t.expect(r"\[1\]\+ +Stopped +sleep 300")
        t.send("bg\n")
        t.expect(r"\[1\]\+ sleep 300 &")
        t.send("jobs\n")
        t.expect(r"\[1\]\+ +Running +sleep 300")
        t.send("fg\n")
        t.expect("sleep 300\r\n")
        t.await_front("sleep 300")
        t.send(b"\x03")
        t.expect("%% $")
        t.send("echo status $?\n")
        t.expect("status 130")
        t.send("cat\n")
        t.expect("cat\r\n")
        t.await_front("cat")  # until then the line is the shell's, with ^D a letter like others
        t.send("first line\n")
        t.expect("first line\r\nfirst line\r\n")
        t.send(b"\x04")
        t.expect("%% $")
        t.send("exit 5\n")
        assert t.wait() == 5
        assert t.settings() == t.before


def test_control_c_reaches_the_payload_not_the_launcher(box):
    with box.pty("run", "--rm", "--", "bash", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done") as t:
        t.expect("ready")
        t.send(b"\x03")
        t.expect("caught")
        assert t.wait() == 9


def test_window_size_follows(box):
    with box.pty("run", "--rm", "--", "bash", "-c",
                 "trap 'stty size; exit 0' WINCH; stty size; echo ready; while :; do sleep 0.05; done", rows=30, columns=100) as t:
        t.expect("30 100")
        t.expect("ready")
        t.resize(50, 132)
        os.kill(t.proc.pid, signal.SIGWINCH)
        t.expect("50 132")
        assert t.wait() == 0


@pytest.mark.slice
@pytest.mark.parametrize("script,status", [("stty raw -echo; exit 3", 3), ("stty raw -echo; kill -KILL $$", 137),
                                           ("stty raw -echo; kill -SEGV $$", 139), ("true", 0)])
def test_terminal_is_restored(box, script, status):
    with box.pty("run", "--rm", "--", "sh", "-c", script) as t:
        assert t.wait() == status
        assert t.settings() == t.before


def test_terminal_is_restored_when_it_is_told_to_end(box):
    with box.pty("run", "--rm", "--", "sh", "-c", "stty raw -echo; echo ready; exec sleep 1000") as t:
        t.expect("ready")
        assert t.settings() != t.before  # ours is raw while the box's own does the work
        t.proc.terminate()
        assert t.wait() == 128 + signal.SIGTERM
        assert t.settings() == t.before


def test_terminal_of_a_box_that_had_to_be_killed(box):
    """An interactive shell does not listen to SIGTERM either. Its last words are there, and so is what a second one in that box has."""
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with box.pty("run", "--rm", "--name", "deaf", "--network=none", "--", "sh", "-c", deaf) as t:
        t.expect("ready")
        with box.pty("exec", "deaf", "sh", "-c", deaf) as second:
            second.expect("ready")
            box.usbox("stop", "-t", "0", "deaf").ok()
            assert t.wait() == 128 + signal.SIGKILL
            assert second.wait() == 128 + signal.SIGKILL
            assert t.settings() == t.before and second.settings() == second.before


@pytest.mark.parametrize("script,status", [("echo >w/now; exec yes", 143), ("head -c 20000 /dev/zero; echo >w/now", 0)])
def test_a_box_is_ended_though_nobody_reads_its_terminal(box, script, status):
    """One whose command writes, and one whose command has ended by itself; both would say there that something was changed."""
    (box.dir / "w").mkdir()
    with box.pty("run", "--name", "unread", "--network=none", "--rw", "w", "--", "sh", "-c", f"touch changed; {script}") as t:
        assert wait_until((box.dir / "w" / "now").exists)
        box.usbox("stop", "unread").ok()
        assert t.proc.wait(timeout=60) == status
        box.usbox("rm", "unread").ok()


def test_terminal_is_restored_after_an_error(box):
    with box.pty("run", "--rm", "--", "/no/such/command") as t:
        assert t.wait() == 127
        assert t.settings() == t.before


def test_nothing_can_be_typed_into_the_callers_terminal(box):
    """TIOCSTI and TIOCLINUX, with bits above 32 too, by the filter and without it."""
    for options in ([], ["--seccomp=off"]):
        if not box.probe_path.exists():
            box.probe("clone_plain")
        with box.pty("run", "--rm", *options, "--", str(box.probe_path), "tiocsti", "tiocsti_high_bits", "tioclinux", "tiocsetd",
                     "tioccons") as t:
            assert t.wait() == 0
            if not options:
                assert b"tiocsti EPERM" in t.seen and b"tiocsti_high_bits EPERM" in t.seen and b"tioclinux EPERM" in t.seen
                assert b"tiocsetd EPERM" in t.seen and b"tioccons EPERM" in t.seen, t.seen
            # Had it worked, an "x" would now wait to be read on our side of the terminal.
            settings = termios.tcgetattr(t.slave)
            settings[3] &= ~termios.ICANON
            termios.tcsetattr(t.slave, termios.TCSANOW, settings)
            os.set_blocking(t.slave, False)
            with pytest.raises(BlockingIOError):
                os.read(t.slave, 1)
            os.set_blocking(t.slave, True)


def test_the_callers_terminal_is_not_reachable(box):
    with box.pty("run", "--rm", "--", "sh", "-c", "ls /dev/pts; ls -l /proc/self/fd/0; echo end") as t:
        outer = os.ttyname(t.slave)
        t.expect("end")
        assert t.wait() == 0
        assert os.stat(outer)


def test_large_output_on_a_terminal(box):
    with box.pty("run", "--rm", "--", "sh", "-c", "seq 200000; echo the-end") as t:
        t.expect("the-end", timeout=60)
        assert t.wait() == 0


def test_input_after_eof_of_the_terminal(box):
    with box.pty("run", "--rm", "--", "sh", "-c", "echo ready; cat >/dev/null; echo after") as t:
        t.expect("ready")
        t.send(b"\x04")
        t.expect("after")
        assert t.wait() == 0


def test_forced_terminal(box):
    """-t: a terminal even where stdin is none."""
    assert "/dev/" in box.run("--rm", "-t", "--", "tty").ok().out


@pytest.mark.slice
def test_stdin_a_terminal_stdout_a_pipe(box):
    """`usbox run CMD | less`: what goes to the pipe is bytes, not what a terminal makes of them."""
    with box.pty("run", "--rm", "--", "true") as t:
        t.wait()
        proc = subprocess.Popen([USBOX, "run", "--rm", "--", "printf", "a\\nb\\n"], stdin=t.slave, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=box.env, cwd=box.dir)
        out, err = proc.communicate(timeout=30)
        assert (proc.returncode, out) == (0, b"a\nb\n"), err


@pytest.mark.slice
def test_bytes_pass_untouched(box):
    every = bytes(range(256)) * 16
    result = box.run("--rm", "--", "cat", input=every)
    assert result.rc == 0 and result.stdout == every
    result = box.run("--rm", "--", "sh", "-c", "cat >&2", input=b"\x00\xff\r\n\x03\x04")
    assert result.stderr.startswith(b"\x00\xff\r\n\x03\x04")


def test_hundred_megabytes_both_ways(box):
    block = os.urandom(1 << 20)
    count = 100
    proc = box.popen("run", "--rm", "--", "cat", stdin=subprocess.PIPE)
    sent, received = hashlib.sha256(), hashlib.sha256()

    def feed():
        for i in range(count):
            data = i.to_bytes(4, "big") + block[4:]
            sent.update(data)
            proc.stdin.write(data)
        proc.stdin.close()
    feeder = threading.Thread(target=feed)
    feeder.start()
    total = 0
    while data := proc.stdout.read(1 << 18):
        received.update(data)
        total += len(data)
    feeder.join()
    assert proc.wait(timeout=60) == 0
    proc.stdout.close()
    proc.stderr.close()
    assert total == count << 20 and received.digest() == sent.digest()


def test_closed_reader_is_sigpipe_for_the_payload(box):
    proc = box.popen("run", "--rm", "--", "sh", "-c", "yes; echo $? >&2")
    proc.stdout.read(4096)
    proc.stdout.close()
    err = proc.stderr.read()
    proc.wait(timeout=60)
    proc.stderr.close()
    assert b"141" in err or proc.returncode in (0, 141), err


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_stdio(box, closed):
    """Started with stdio closed, usbox must not take its own descriptors for it."""
    marker = box.dir / "out"
    redirect = {0: "<&-", 1: ">&-", 2: "2>&-"}
    line = f'"$0" run --rm --rw="{box.dir}" -- sh -c "echo ran >{marker}" ' + " ".join(redirect[n] for n in closed)
    proc = subprocess.run(["sh", "-c", line, USBOX], env=box.env, cwd=box.dir, capture_output=True, timeout=60, check=False)
    assert proc.returncode in (0, 125), proc
    if proc.returncode == 0:
        assert marker.read_text(encoding="ascii") == "ran\n"
