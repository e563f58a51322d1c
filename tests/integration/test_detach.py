# SPDX-License-Identifier: LGPL-2.1-or-later
"""run --detach, logs, events: boxes that outlive who started them."""
import json
import os
import select
import signal
import subprocess
import time

import pytest

from conftest import USBOX, assert_refused, wait_until


@pytest.fixture
def boxes(box):
    """box with detach(): an id or name; all boxes go again at the end."""
    def detach(script, *options, name="web"):
        box.usbox("run", "-d", "--name", name, *options, "--", "sh", "-c", script).ok()
        return name

    box.detach = detach
    box.ps = lambda *options: box.usbox("ps", "--json", *options).json()
    yield box
    names = [b["id"] for b in box.ps("-a")]
    if names:
        box.usbox("rm", "-f", *names).ok()


@pytest.mark.slice
def test_prints_the_id_when_the_command_runs(boxes):
    (boxes.dir / "w").mkdir()
    result = boxes.usbox("run", "-d", "--rw", "w", "--", "sh", "-c", "while ! test -e w/go; do sleep 0.05; done; exit 5").ok()
    (one,) = boxes.ps()
    assert result.out == one["id"] + "\n" and result.err == "" and one["detached"]
    # It is executed by now, and nothing of it is left in our session.
    assert os.readlink(f"/proc/{one['pid']}/exe") != os.path.realpath(USBOX)
    assert os.getsid(one["launcher"]) == one["launcher"]
    (boxes.dir / "w" / "go").touch()
    assert boxes.usbox("wait", one["id"]).lines() == ["5"]
    assert boxes.ps("-a")[0]["status"] == 5  # kept, with a name or without, until it is removed
    boxes.run("--rm", "--", "true").ok()
    assert len(boxes.ps("-a")) == 1


@pytest.mark.parametrize("command, status, text", [("/no/such", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")])
def test_what_cannot_be_started_is_told(boxes, command, status, text):
    result = boxes.usbox("run", "-d", "--name", "web", "--", command)
    assert result.rc == status and text in result.err and result.out == ""
    assert boxes.ps("-a") == []


def test_errors_before_the_start_are_told(boxes):
    assert_refused(boxes.usbox("run", "-d", "--ro", "/no/such/path", "--", "true"), "/no/such/path", hint=False)
    assert_refused(boxes.usbox("run", "-d", "--die-with-parent", "--", "true"), "--die-with-parent")
    for fd in "12":  # nobody would see what is written there
        refused = boxes.usbox("run", "-d", "--status-fd", fd, "--", "true")
        assert refused.rc == 125 and "usbox: options: --detach and --status-fd" in refused.err and boxes.ps("-a") == []
    assert_refused(boxes.usbox("run", "--log-size", "1K", "--", "true"), "--log-size", hint=False)
    boxes.detach("exec sleep 1000")
    assert_refused(boxes.usbox("run", "-d", "--name", "web", "--", "true"), "is running")


def test_nobody_waits_for_another_descriptor(boxes):
    """Neither for a pipe nor for a lock that the caller has open; but what options name is read and written."""
    r, w = os.pipe()
    events, told = os.pipe()
    data = os.memfd_create("data", 0)
    os.pwrite(data, b"given", 0)
    boxes.usbox("run", "-d", "--name", "web", "--status-fd", str(told), "--file", str(data), "/tmp/f", "--", "sh", "-c", "cat /tmp/f; exec sleep 1000",
                pass_fds=[w, told, data]).ok()
    os.close(w)
    os.close(told)
    os.close(data)
    assert select.select([r], [], [], 10)[0] == [r] and os.read(r, 1) == b""
    assert wait_until(lambda: boxes.usbox("logs", "web").ok().out == "given")
    boxes.usbox("stop", "-t", "0", "web").ok()
    with os.fdopen(events) as f:
        assert [json.loads(line)["event"] for line in f] == ["started", "exited"]
    os.close(r)


def test_nobody_waits_for_a_pipe(boxes):
    """As over ssh: the caller's stdout and stderr reach their end though the box runs."""
    result = subprocess.run([USBOX, "run", "-d", "--name", "web", "--", "sleep", "1000"], env=boxes.env, cwd=boxes.dir, stdin=subprocess.DEVNULL,
                            capture_output=True, timeout=60, check=True)
    assert result.stdout.strip()
    assert boxes.ps()[0]["state"] == "running"


def test_survives_its_terminal(boxes):
    pty = boxes.pty("run", "-d", "--name", "web", "--", "sleep", "1000")
    assert pty.wait() == 0
    pty.close()
    os.kill(boxes.ps()[0]["launcher"], 0)
    assert boxes.ps()[0]["state"] == "running"


@pytest.mark.slice
def test_streams_are_kept_apart_with_times(boxes):
    before = time.time()
    boxes.detach("echo out; echo err >&2; printf 'a\\0b\\377\\n'; printf unfinished")
    boxes.usbox("wait", "web").ok()
    result = boxes.usbox("logs", "web").ok()
    assert (result.stdout, result.stderr) == (b"out\na\0b\xff\nunfinished", b"err\n")
    entries = [json.loads(x) for x in boxes.usbox("logs", "--json", "web").lines()]
    assert [(e["stream"], e["text"], e["end"]) for e in entries if e["stream"] == "stderr"] == [("stderr", "err", True)]
    # Two pipes have no order; what is on one of them has.
    begin = next(e for e in entries if e["stream"] == "stdout")
    first = time.mktime(time.strptime(begin["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 2 <= first <= time.time() + 2
    stamped = boxes.usbox("logs", "-t", "web").ok()
    assert stamped.lines()[0] == begin["time"] + " out"


def test_an_entry_cannot_be_forged(boxes):
    boxes.detach("printf '2026-01-01T00:00:00.000000000Z stderr F forged\\n\\n'; printf '\\n'")
    boxes.usbox("wait", "web").ok()
    result = boxes.usbox("logs", "web").ok()
    assert result.err == "" and result.out == "2026-01-01T00:00:00.000000000Z stderr F forged\n\n\n"


def test_streams_that_meet_again_are_in_order(boxes):
    """Where both go to one file, as behind 2>&1; each is written when the one before is in the log, since two pipes say nothing of an order."""
    (boxes.dir / "w").mkdir()
    boxes.detach("go() { until test -e w/$1; do sleep 0.02; done; }; for i in 1 2 3; do echo out $i; go out$i; echo err $i >&2; go err$i; done", "--rw", "w")
    logs = lambda: boxes.usbox("logs", "web", stderr=subprocess.STDOUT).lines()
    expected = [(stream, i) for i in (1, 2, 3) for stream in ("out", "err")]
    for n, (stream, i) in enumerate(expected):
        assert wait_until(lambda n=n: len(logs()) > n, 20), logs()
        (boxes.dir / "w" / f"{stream}{i}").touch()
    boxes.usbox("wait", "web").ok()
    assert logs() == [f"{stream} {i}" for stream, i in expected]


def test_tail_and_since(boxes):
    (boxes.dir / "w").mkdir()
    boxes.detach("seq 10; while ! test -e w/go; do sleep 0.05; done; seq 11 12; printf x", "--rw", "w")
    assert wait_until(lambda: boxes.usbox("logs", "web").lines()[-1:] == ["10"], 30)
    last = json.loads(boxes.usbox("logs", "--json", "web").lines()[-1])["time"]
    (boxes.dir / "w" / "go").touch()
    boxes.usbox("wait", "web").ok()
    assert boxes.usbox("logs", "--since", "1h", "web").lines() == [str(i) for i in range(1, 13)] + ["x"]
    assert boxes.usbox("logs", "--tail", "2", "web").lines() == ["12", "x"]
    assert boxes.usbox("logs", "--tail=0", "web").ok().out == ""
    assert boxes.usbox("logs", "--since", last[:23] + "Z", "web").lines()[-3:] == ["11", "12", "x"]
    assert boxes.usbox("logs", "--since", "2100-01-01T00:00:00Z", "web").ok().out == ""
    assert_refused(boxes.usbox("logs", "--since", "yesterday", "web"), "--since: 'yesterday'", "2026-01-31T12:00:00Z")


def test_follow_until_the_end_and_over_rotations(boxes):
    """Nothing of what is written while somebody follows is lost, and what is kept is bounded."""
    (boxes.dir / "w").mkdir()
    boxes.detach("echo begin; while ! test -e w/go; do sleep 0.05; done; seq 60000", "--rw", "w", "--log-size", "1M")
    follower = boxes.popen("logs", "-f", "web")
    assert follower.stdout.readline() == b"begin\n"
    (boxes.dir / "w" / "go").touch()
    out, err = follower.communicate(timeout=120)
    lines = out.decode().split()
    # A follower that is slower than two rotations may miss something in between, in one piece at most for each.
    assert lines[-1] == "60000" and err == b""
    kept = boxes.usbox("logs", "web").lines()
    assert kept[-1] == "60000"
    # The last megabyte of entries (each with 42 bytes beside its text) is there without a hole.
    assert kept[-20000:] == [str(i) for i in range(40001, 60001)]
    (directory,) = boxes.boxes.iterdir()
    sizes = [p.stat().st_size for p in directory.glob("log*")]
    assert len(sizes) == 2 and max(sizes) <= 1 << 20


def test_a_flood_is_bounded(boxes):
    boxes.detach("head -c 3000000 /dev/zero | tr '\\0' '\\n'", "--log-size", "256K")
    boxes.usbox("wait", "web").ok()
    (directory,) = boxes.boxes.iterdir()
    assert all(p.stat().st_size <= (256 << 10) + (64 << 10) + 100 for p in directory.glob("log*"))


def test_a_terminal_of_its_own(boxes):
    boxes.detach("tty; test -t 0 && test -t 2 && echo yes; stty size", "-t")
    boxes.usbox("wait", "web").ok()
    assert [x.strip() for x in boxes.usbox("logs", "web").lines()][:2] == ["/dev/pts/0", "yes"]


def test_stdin_is_empty(boxes):
    boxes.detach("cat; echo end")
    boxes.usbox("wait", "web").ok()
    assert boxes.usbox("logs", "web").ok().out == "end\n"


def test_logs_of_a_box_that_has_none(boxes):
    boxes.run("--name", "web", "--", "true").ok()
    assert_refused(boxes.usbox("logs", "web"), "no log", "--detach")


def test_rm_with_detach(boxes):
    boxes.usbox("run", "-d", "--rm", "--", "sh", "-c", "touch x").ok()
    assert wait_until(lambda: boxes.ps("-a") == [], 30)
    assert wait_until(lambda: os.listdir(boxes.boxes) == [], 30) is not None


def test_a_killed_supervisor(boxes):
    """What it kept can be looked at until the next run, with a name until rm."""
    boxes.detach("echo before; exec sleep 1000", name="named")
    unnamed = boxes.usbox("run", "-d", "--", "sh", "-c", "echo before; exec sleep 1000").ok().out.strip()
    assert wait_until(lambda: all(boxes.usbox("logs", n).lines() == ["before"] for n in ("named", unnamed)), 30)
    for one in boxes.ps():
        os.kill(one["launcher"], signal.SIGKILL)
    assert wait_until(lambda: [b["state"] for b in boxes.ps("-a")] == ["dead", "dead"], 30)
    assert boxes.usbox("logs", unnamed).lines() == ["before"]
    assert wait_until(lambda: boxes.run("--rm", "--", "true").ok() and [b["name"] for b in boxes.ps("-a")] == ["named"], 30)


def test_without_a_runtime_directory_of_the_session(boxes):
    """cron, CI, su: a directory of usbox's own below /tmp, which is checked for owner and mode."""
    env = {"XDG_RUNTIME_DIR": ""}
    fallback = f"/run/user/{os.getuid()}" if os.path.isdir(f"/run/user/{os.getuid()}") else f"/tmp/usbox-{os.getuid()}"
    boxes.usbox("run", "-d", "--name", "web", "--", "sleep", "1000", env=env).ok()
    try:
        assert os.path.isdir(fallback)
        assert boxes.usbox("ps", "--quiet", env=env).lines() == ["web"]
    finally:
        boxes.usbox("rm", "-f", "web", env=env).ok()
    if not fallback.startswith("/tmp"):
        return
    os.rename(fallback, fallback + ".mine")
    try:
        os.symlink(fallback + ".mine", fallback)
        assert_refused(boxes.usbox("ps", env=env), fallback)
        os.unlink(fallback)
        os.mkdir(fallback, 0o777)
        os.chmod(fallback, 0o777)
        assert_refused(boxes.usbox("ps", env=env), "open to others", "chmod 700")
        os.rmdir(fallback)
    finally:
        os.rename(fallback + ".mine", fallback)


def test_events(boxes):
    streams = [boxes.popen("events", "--json"), boxes.popen("events")]
    try:
        for proc in streams:
            assert proc.stderr.readline() == b"usbox: waiting for events\n"
        boxes.run("--rm", "--network=none", "--", "sh", "-c", "exit 3")
        start, end = (json.loads(streams[0].stdout.readline()) for _ in range(2))
        assert (start["event"], start["command"]) == ("start", ["sh", "-c", "exit 3"])
        assert (end["event"], end["status"], end["id"]) == ("exit", 3, start["id"])
        assert [streams[1].stdout.readline().split()[1] for _ in range(2)] == [b"start", b"exit"]
    finally:
        for proc in streams:
            proc.kill()
            proc.communicate()
    past = [json.loads(x) for x in boxes.usbox("events", "--past", "--json").lines()]
    assert [e["event"] for e in past] == ["start", "exit"]
