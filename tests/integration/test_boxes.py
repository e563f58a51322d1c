# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boxes as other usbox processes see them: names, ids, ps, inspect, wait, kill, stop, port, rm, the control socket, dead boxes."""
import errno
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import USBOX, Env, assert_refused, cannot, wait_until
from no_launcher import no_launcher  # tests/lib
from ports import free_port  # tests/lib
from test_doctor import FILTER

# Says that it runs, and sleeps until it is ended.
READY = "echo ready; exec sleep 1000"


class Running:
    """A box that runs in the foreground of a process of ours."""

    def __init__(self, box, *options, script=READY, **kw):
        self.box = box
        self.proc = box.popen("run", *options, "--", "sh", "-c", script, **kw)
        assert self.proc.stdout.readline() == b"ready\n", self.proc.stderr.read()
        # It is shown beside the command's exec.
        self.id = wait_until(self.find)
        assert self.id

    def find(self):
        return next((b["id"] for b in self.box.ps() if b.get("launcher") == self.proc.pid), None)

    def end(self):
        out, err = self.proc.communicate(timeout=60)
        return self.proc.returncode, out.decode(), err.decode()


@pytest.fixture
def boxes(box):
    """box with ps() and start(); what was started and what has a name goes again at the end."""
    started = []

    def start(*options, **kw):
        started.append(Running(box, *options, **kw))
        return started[-1]

    box.ps = lambda *options: box.usbox("ps", "--json", *options).json()
    box.start = start
    yield box
    for one in started:
        if one.proc.poll() is None:
            one.proc.kill()
        one.proc.communicate()
    wait_until(lambda: not [b for b in box.ps("-a") if b["state"] == "running"])
    names = [b["id"] for b in box.ps("-a")]
    if names:
        box.usbox("rm", *names).ok()


def test_ps_shows_what_runs_and_what_ended(boxes):
    one = boxes.start("--name", "web")
    found = boxes.ps()
    assert [(b["name"], b["state"], b["command"]) for b in found] == [("web", "running", ["sh", "-c", READY])]
    assert wait_until(lambda: os.readlink(f"/proc/{found[0]['pid']}/exe").endswith("sleep"))  # its shell executes that a moment later
    table = boxes.usbox("ps").lines()
    assert len(table) == 2 and one.id in table[1] and "web" in table[1] and "running" in table[1]
    assert boxes.usbox("ps", "-q").lines() == ["web"]
    boxes.usbox("kill", "-s", "TERM", "web").ok()
    assert one.end()[0] == 128 + signal.SIGTERM
    assert boxes.ps() == []
    (ended,) = boxes.ps("-a")
    assert (ended["state"], ended["status"], ended["signal"]) == ("exited", 143, 15) and "pid" not in ended
    assert ended["disk"] >= 4096
    head, line = boxes.usbox("ps", "-a").lines()
    assert "exited (143)" in line and "DISK" in head and "KiB" in line


def test_columns_are_as_wide_as_names(boxes):
    ones = [boxes.start("--name", name, "--network=none") for name in ("a", "n" * 64)]
    head, *rows = boxes.usbox("ps").lines()
    assert len(rows) == len(ones) and {row.index("running") for row in rows} == {head.index("STATE")}, rows


def test_long_command(boxes):
    """As long as the kernel takes one, with characters that JSON writes as six."""
    words = ["\x01" * 100000] * 8
    boxes.usbox("run", "-d", "--name=x", "--network=none", "--", "sh", "-c", READY, *words).ok()
    (found,) = boxes.ps()
    assert found["command"][3:] == words and found["pid"]
    assert len(boxes.usbox("top", "x").lines()) > 1
    boxes.usbox("stop", "-t", "0", "x").ok()
    assert boxes.usbox("wait", "x").rc == 0 and boxes.ps("-a")[0]["status"] == 137
    event = [json.loads(line) for line in boxes.usbox("events", "--past", "--json").lines() if "start" in line][-1]
    assert event["command"][3:] == words


def test_box_by_name_id_prefix_and_last(boxes):
    first, second = boxes.start("--name", "first"), boxes.start("--rm")
    for name in ("first", first.id, first.id[:6]):
        assert boxes.usbox("inspect", name).json()[0]["id"] == first.id
    assert boxes.usbox("inspect", "last").json()[0]["id"] == second.id
    os.kill(second.proc.pid, signal.SIGTERM)
    second.end()
    assert_refused(boxes.usbox("inspect", "last"), "box", "left nothing", second.id)
    assert_refused(boxes.usbox("inspect", "nonsense"), "no box 'nonsense'", "usbox ps -a")
    assert_refused(boxes.usbox("inspect", ""), "no box")
    assert_refused(boxes.usbox("kill", "\x1b[2J"), "no box '\\x1b[2J'")


def test_an_ambiguous_prefix(boxes):
    for i in range(2):
        (boxes.boxes / f"abcdef00000{i}" / "upper").mkdir(parents=True, mode=0o700)
        (boxes.boxes / f"abcdef00000{i}" / "held").touch()
    os.chmod(boxes.boxes, 0o700)
    assert_refused(boxes.usbox("inspect", "abcdef"), "ambiguous", "abcdef000000", "abcdef000001")
    assert boxes.usbox("inspect", "abcdef000001").json()[0]["state"] == "dead"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", ".hidden", "last", "a b", "\x1b[31m", "é", "0123456789ab", "x" * 65, "a\nb"])
def test_names_that_are_refused(no_kept, name):
    result = no_kept.run("--name", name, "--", "true")
    assert_refused(result, "--name", hint=False)
    assert "\x1b" not in result.err
    assert not no_kept.boxes.exists()


def test_a_name_is_taken_while_its_box_runs_and_continued_after(boxes):
    one = boxes.start("--name", "web", script="echo one >file; " + READY)
    assert_refused(boxes.run("--name", "web", "--", "true"), "web", one.id, "is running", "usbox exec web")
    boxes.usbox("stop", "web").ok()
    one.end()
    again = boxes.run("--name", "web", "--", "sh", "-c", "cat file; mkdir -p d; mv file d/moved; echo $USBOX_BOX").ok()
    assert again.out == f"one\n{one.id}\n"
    assert boxes.run("--name", "web", "--", "cat", "d/moved").ok().out == "one\n"
    assert not (boxes.dir / "d").exists()
    # Neither another unnamed run nor a failed one takes it away.
    boxes.run("--", "touch", "x").ok()
    assert boxes.run("--name", "web", "--", "/no/such").rc == 127
    assert boxes.run("--name", "web", "--", "cat", "d/moved").ok().out == "one\n"
    boxes.usbox("rm", "web").ok()
    assert_refused(boxes.usbox("inspect", "web"), "no box")
    assert boxes.run("--name", "web", "--rm", "--", "cat", "file").rc == 1


def test_a_launcher_that_was_killed_half_way_is_no_obstacle(boxes):
    """What it left before its box could be seen: the next run of that name, and rm, take it away at once."""
    box_id = boxes.run("--name", "web", "--", "sh", "-c", "echo $USBOX_BOX").ok().out.strip()
    half_made = boxes.runtime / "usbox" / f".{box_id}"
    half_made.mkdir(mode=0o700)
    assert boxes.run("--name", "web", "--", "sh", "-c", "echo $USBOX_BOX").ok().out.strip() == box_id
    half_made.mkdir(mode=0o700)
    boxes.usbox("rm", "web").ok()
    assert not half_made.exists()


def test_a_named_run_that_never_started_leaves_nothing(no_kept):
    assert no_kept.run("--name", "web", "--", "/no/such").rc == 127
    assert no_kept.usbox("ps", "-a", "--json").json() == []


def test_one_name_for_eight_at_once(boxes):
    procs = [boxes.popen("run", "--name", "race", "--network=none", "--", "sh", "-c", "echo in; read x", stdin=-1) for _ in range(8)]
    # All but one fail; that one waits for its input.
    assert wait_until(lambda: sum(p.poll() is not None for p in procs) == 7, 60)
    (winner,) = [p for p in procs if p.poll() is None]
    for p in procs:
        if p is not winner:
            assert p.returncode == 125 and b"race" in p.communicate()[1]
    assert len([b for b in boxes.ps("-a") if b["name"] == "race"]) == 1
    assert winner.communicate(b"\n", timeout=60)[0] == b"in\n"


def test_overlay_none_with_a_name(boxes):
    boxes.run("--name", "plain", "--overlay=none", "--read-only", "--", "true").ok()
    assert [(b["name"], b["state"], b["status"]) for b in boxes.ps("-a")] == [("plain", "exited", 0)]


@pytest.mark.slice
def test_inspect(boxes):
    one = boxes.start("--name", "web", "--hostname", "h")
    (shown,) = boxes.usbox("inspect", "web").json()
    assert shown["id"] == one.id and shown["state"] == "running" and shown["cwd"] == str(boxes.dir)
    assert shown["spec"]["box"]["command"] == ["sh", "-c", READY] and shown["ports"] == [] and shown["disk"] > 0
    assert os.path.isdir(shown["directory"] + "/upper")


def test_wait_several(boxes):
    (boxes.dir / "w").mkdir()
    script = "echo ready; while ! test -e w/$0; do sleep 0.05; done; exit $0"
    three, five = (boxes.start("--name", f"n{n}", "--rw", "w", script=script.replace("$0", str(n))) for n in (3, 5))
    waiting = boxes.popen("wait", "n3", "n5")
    for n in (5, 3):
        assert waiting.poll() is None
        (boxes.dir / "w" / str(n)).touch()
    assert waiting.communicate(timeout=60)[0] == b"3\n5\n"
    assert (three.end()[0], five.end()[0]) == (3, 5)
    # And when they have ended already.
    assert boxes.usbox("wait", "--json", "n5").json() == [{"id": five.id, "status": 5}]


def test_stop_is_kind_first_and_then_is_not(boxes):
    kind = boxes.start("--name", "kind", script="trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    deaf = boxes.start("--name", "deaf", script="trap '' TERM; echo ready; while :; do sleep 0.05; done")
    boxes.usbox("stop", "-t", "0", "deaf").ok()
    boxes.usbox("stop", "kind").ok()
    assert kind.end()[:2] == (7, "bye\n") and deaf.end()[0] == 137
    boxes.usbox("stop", "kind", "deaf").ok()  # they have ended already: that is what was wanted
    assert_refused(boxes.usbox("kill", "kind"), "not running", "usbox run --name kind")


def test_verbs_go_on_behind_a_box_that_is_not_there(boxes):
    ones = [boxes.start("--name", name, "--network=none") for name in ("web", "db")]
    for verb in ["kill", "-s", "CONT"], ["stop", "-t", "0"]:
        result = boxes.usbox(*verb, "web", "nobody", "db", "nothing")
        assert result.rc == 125 and "no box 'nobody'" in result.err and "no box 'nothing'" in result.err, result
    assert {one.end()[0] for one in ones} <= {128 + signal.SIGTERM, 128 + signal.SIGKILL}


def test_the_last_box_is_the_one_whose_changes_are_kept(boxes):
    """Not one that began later and whose changes went with its end."""
    long = boxes.start("--network=none", script="echo 1 >long; echo ready; read x", stdin=subprocess.PIPE)
    boxes.run("--network=none", "--", "sh", "-c", "echo 2 >short").ok()
    assert boxes.usbox("diff", "last").lines() == [f"A  {boxes.dir}/short"]
    status, _, err = long.end()
    assert status == 1 and "usbox diff last shows it" in err
    assert boxes.usbox("diff", "last").lines() == [f"A  {boxes.dir}/long"]
    assert [b["id"] for b in boxes.ps("-a")] == [long.id]


@pytest.mark.parametrize("how", ["closed", "full"])
def test_where_last_cannot_be_noted_it_is_no_other_box(boxes, how):
    """The message must not send anyone to the changes of another one."""
    boxes.run("--name", "other", "--network=none", "--", "sh", "-c", "echo 1 >other").ok()
    top = boxes.runtime / "usbox"
    assert os.readlink(top / "last") in [b["id"] for b in boxes.ps("-a")]
    script = "echo 2 >mine"
    if how == "closed":
        top.chmod(0o500)
    else:  # nothing can take the place of a directory
        (top / "last").unlink()
        (top / "last").mkdir()
        (top / "last" / "x").mkdir()
    try:
        result = boxes.run("--network=none", "--", "sh", "-c", script).ok()
        (mine,) = [b["id"] for b in boxes.ps("-a") if not b["name"]]
    finally:
        top.chmod(0o700)
        if how == "full":
            (top / "last" / "x").rmdir()
            (top / "last").rmdir()
    assert f"usbox diff {mine} shows it, usbox commit {mine} takes it" in result.err, result
    assert boxes.usbox("diff", mine).lines() == [f"A  {boxes.dir}/mine"]
    boxes.usbox("drop", mine).ok()


def test_a_limit_on_the_size_of_files_is_named(no_kept):
    """usbox's own files are more than a few bytes, too."""
    result = no_kept.run("--network=none", "--", "true", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    assert_refused(result, "File too large", "ulimit -f", "--ulimit fsize=BYTES")


def test_rm_wants_force_for_what_runs(boxes):
    one = boxes.start("--name", "web")
    assert_refused(boxes.usbox("rm", "web"), "is running", "usbox rm -f web")
    boxes.usbox("rm", "-f", "web").ok()
    assert one.end()[0] in (137, 143) and boxes.ps("-a") == []


def test_rm_goes_on_behind_one_that_cannot_be_removed(boxes):
    for name in ("one", "two"):
        boxes.run("--name", name, "--network=none", "--", "touch", name).ok()
    result = boxes.usbox("rm", "nobody", "one", "neither", "two")
    assert result.rc == 125 and [line for line in result.err.splitlines() if "'nobody'" in line or "'neither'" in line] == [
        "usbox: box: no box 'nobody'", "usbox: box: no box 'neither'"], result
    assert boxes.usbox("ps", "-a", "-q").ok().out == ""


def test_rm_of_deep_trees_of_other_ids(boxes, subids):
    """The first attempt, which the caller's rights are not enough for, has moved what lies deep; the second meets that."""
    deep = "; for i in $(seq 120); do mkdir d; cd d; done) &&"
    boxes.run("--name", "web", "--network=none", "--user=root", "--", "sh", "-c",
              f"mkdir a b && (cd a{deep} (cd b{deep} chown -R 5:5 b && chmod 700 b").ok()
    boxes.usbox("rm", "web").ok()
    assert os.listdir(boxes.boxes) == []


def test_two_rm_at_once(boxes):
    boxes.run("--name", "web", "--", "sh", "-c", "mkdir d; cd d; seq 500 | xargs touch").ok()
    procs = [boxes.popen("rm", "web") for _ in range(2)]
    results = [(p.communicate(timeout=60)[1], p.returncode) for p in procs]
    # The second may come when there is nothing any more; it says so, and nothing else is said.
    assert sorted(r for _, r in results) in ([0, 0], [0, 125]), results
    assert all(not err or b"no box 'web'" in err for err, _ in results), results
    assert boxes.ps("-a") == []


def test_port(boxes):
    port = free_port()
    boxes.start("--name", "web", "-p", f"127.0.0.1:{port}:80")
    assert boxes.usbox("port", "web").lines() == [f"80/tcp -> 127.0.0.1:{port}"]
    assert boxes.usbox("port", "--json", "web").json()[0]["host_port"] == port


SERVER = "import socket; s = socket.create_server(('', 80)); open('ready', 'w'); c = s.accept()[0]\nwhile c.recv(65536): pass\nc.sendall(bytes(70000)); s.accept()"


@pytest.mark.parametrize("path", ["--fast-path", "--no-fast-path"])
def test_bytes_of_flows_are_in_stats(boxes, path):
    """Those that go by sockets on both sides, which no interface counts, as those of frames; while they flow and afterwards."""
    port = free_port()
    options = ["--name", "web", "-p", f"127.0.0.1:{port}:80", *(["--no-fast-path"] if path == "--no-fast-path" else [])]
    proc = boxes.popen("run", *options, "--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--", "python3", "-c", SERVER)
    stats = lambda: boxes.usbox("stats", "--json", "web").json()[0]
    try:
        assert wait_until(lambda: boxes.ps() and boxes.usbox("exec", "web", "ls", "ready").rc == 0, 20)
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(bytes(3 << 20))
            assert wait_until(lambda: stats()["net_received"] >= 3 << 20), stats()
            assert stats()["net_flows"] == 1
            s.shutdown(socket.SHUT_WR)
            assert len(s.makefile("rb").read(70000)) == 70000
        seen = stats()
        assert 3 << 20 <= seen["net_received"] < 4 << 20 and 70000 <= seen["net_sent"] < 1 << 20, seen
    finally:
        boxes.usbox("kill", "web")
        proc.communicate(timeout=60)


def test_bytes_of_the_hosts_network_are_not_a_boxs(boxes):
    boxes.start("--name", "own")
    boxes.start("--name", "hosts", "--network", "host")
    own, hosts = (boxes.usbox("stats", "--json", name).json()[0] for name in ("own", "hosts"))
    assert own["net_received"] is not None and own["net_flows"] == 0, own
    assert hosts["net_received"] is None and hosts["net_sent"] is None and hosts["net_flows"] is None, hosts


def test_a_killed_launcher_leaves_a_dead_box_only_with_a_name(boxes):
    named, unnamed = boxes.start("--name", "web", script="echo x >file; " + READY), boxes.start()
    for one in (named, unnamed):
        one.proc.kill()
        one.end()
    (dead,) = wait_until(lambda: len(boxes.ps("-a")) == 1 and boxes.ps("-a"))
    assert (dead["name"], dead["state"]) == ("web", "dead")
    assert_refused(boxes.usbox("kill", "web"), "is dead", "usbox run --name web")
    assert_refused(boxes.usbox("wait", "web"), "not known", hint=False)
    # Its part in the runtime directory goes by the next run, its files stay.
    boxes.run("--rm", "--", "true").ok()
    assert not (boxes.runtime / "usbox" / named.id).exists()
    assert boxes.run("--name", "web", "--", "cat", "file").ok().out == "x\n"


def test_a_box_that_is_about_to_begin_or_to_go_is_not_shown(boxes):
    boxes.run("--name", "web", "--", "touch", "file").ok()
    # Between mkdir and lock; after a minute its launcher was killed there.
    new = boxes.boxes / "abcdef000002"
    new.mkdir(mode=0o700)
    assert [b["name"] for b in boxes.ps("-a")] == ["web"]
    for then in (0, time.time() + 3600):  # of the future where the clock was set back since
        os.utime(new, (then, then))
        assert [(b["name"], b["state"]) for b in boxes.ps("-a")] == [("web", "exited"), (None, "dead")]
    new.rmdir()
    # And while somebody removes it, who holds its lock.
    (kept,) = boxes.boxes.glob("*/state.json")
    fd = os.open(kept.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert boxes.ps("-a") == []
    os.close(fd)
    assert [b["name"] for b in boxes.ps("-a")] == ["web"]


def test_a_dead_box_without_a_janitor(boxes):
    one = boxes.start("--overlay=none", "--read-only")
    one.proc.kill()
    one.end()
    assert [(b["id"], b["state"]) for b in boxes.ps("-a")] == [(one.id, "dead")]
    boxes.run("--rm", "--", "true").ok()
    assert boxes.ps("-a") == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"created": 5, "command": "x", "status": "y"}', "\0" * 100, '{"a":1,"a":2}'])
def test_state_json_cut_short(boxes, text):
    boxes.run("--name", "web", "--", "touch", "file").ok()
    (path,) = boxes.boxes.glob("*/state.json")
    path.write_text(text, encoding="utf-8")
    (one,) = boxes.ps("-a")
    assert one["name"] == "web" and one["state"] == "dead"
    boxes.usbox("ps", "-a").ok()
    boxes.usbox("inspect", "web").ok()
    assert boxes.run("--name", "web", "--", "ls").ok().out == "file\n"


def test_a_directory_of_somebody_else_is_not_used(boxes):
    (boxes.runtime / "usbox").mkdir(mode=0o700)
    os.chmod(boxes.runtime / "usbox", 0o755)
    assert_refused(boxes.usbox("ps"), "open to others", "chmod 700")
    assert_refused(boxes.run("--name", "web", "--", "true"), "open to others", "chmod 700")
    # A run that nobody needs to find goes on, and says so.
    result = boxes.run("--rm", "--", "echo", "x").ok()
    assert result.out == "x\n" and "other usbox verbs cannot reach this box" in result.err
    os.chmod(boxes.runtime / "usbox", 0o700)


def test_no_space_for_the_state(boxes):
    """As on a full disk: a run that was to be found later fails before its command is executed, and leaves nothing."""
    result = boxes.run("--name", "web", "--overlay=none", "--read-only", "--network=none", "--", "echo", "x",
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert result.rc == 125 and "File too large" in result.err and result.out == "", result
    assert boxes.ps("-a") == [] and os.listdir(boxes.boxes) == []


def connect(boxes, box_id, kind=socket.SOCK_SEQPACKET):
    s = socket.socket(socket.AF_UNIX, kind)
    fd = os.open(boxes.runtime / "usbox" / box_id, os.O_PATH)
    try:
        s.connect(f"/proc/self/fd/{fd}/control")
    finally:
        os.close(fd)
    s.settimeout(30)
    return s


def test_garbage_on_the_control_socket(boxes):
    one = boxes.start("--name", "web")
    for garbage in (b"x", b"\0\0\0\0", b"\xff" * 4, struct.pack("<I", 1), b"\1\0\0\0" * 1000, os.urandom(60000), *(struct.pack("<I", t) for t in range(48))):
        with connect(boxes, one.id) as s:
            try:
                s.send(garbage)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    # Descriptors that nobody asked for are closed.
    before = len(os.listdir(f"/proc/{one.proc.pid}/fd"))
    for _ in range(20):
        with connect(boxes, one.id) as s:
            socket.send_fds(s, [b"\1\0\0\0"], [0, 1, 2])
            s.recv(65536)
    assert wait_until(lambda: len(os.listdir(f"/proc/{one.proc.pid}/fd")) <= before)
    assert boxes.ps()[0]["state"] == "running" and one.proc.poll() is None


@pytest.mark.parametrize("ended", [True, False])
def test_a_launcher_that_does_not_answer_any_more(boxes, ended):
    """It ends while it is asked, or has no place left."""
    with no_launcher(boxes.runtime, "web") as (place, lock, server):
        server.settimeout(60)
        verb = boxes.popen("kill", "web")
        client = server.accept()[0]
        assert client.recv(65536)
        if ended:
            shutil.rmtree(place)
            lock.close()
        client.close()
        err = verb.communicate(timeout=60)[1].decode()
    assert verb.returncode == 125 and "CTL_" not in err, err
    said = "usbox: box: box web has ended just now\n" if ended else "usbox: box: the launcher of box web has ended the connection without an answer\n"
    assert err.startswith(said) and "\nhint: " in err, err


def test_a_running_box_is_not_told_how_to_start_without_limits(boxes):
    boxes.start("--rm", "--name", "web", "--network=none")
    for verb in (["update", "--pids-limit", "100", "web"], ["pause", "web"]):
        result = boxes.usbox(*verb)
        assert "best-effort" not in result.err and (result.rc == 0 or "\nhint: " in result.err), result
    if result.rc == 0:
        boxes.usbox("unpause", "web").ok()


def test_a_stopped_init_stops_nobody_else(boxes):
    """Its wire holds some hundred signals; the launcher does not wait for room on it."""
    one = boxes.start("--rm", "--name", "web")
    init = boxes.usbox("inspect", "web").json()[0]["init"]
    os.kill(init, signal.SIGSTOP)
    try:
        for _ in range(1000):
            result = boxes.usbox("kill", "-s", "WINCH", "web")
            if result.rc != 0:
                break
        assert_refused(result, "the box's init takes no more signals", f"kill -CONT {init}")
        assert boxes.usbox("exec", "web", "--", "echo", "x").ok().out == "x\n"
    finally:
        os.kill(init, signal.SIGCONT)
    assert wait_until(lambda: boxes.usbox("kill", "-s", "WINCH", "web").rc == 0)
    os.kill(init, signal.SIGSTOP)
    boxes.usbox("stop", "-t", "0", "web").ok()
    assert one.proc.wait(60) == 128 + signal.SIGKILL


def test_silent_clients_do_not_shut_others_out(boxes):
    one = boxes.start("--name", "web")
    silent = [connect(boxes, one.id) for _ in range(100)]
    try:
        assert boxes.usbox("inspect", "web").ok()
        assert one.proc.poll() is None
    finally:
        for s in silent:
            s.close()


def test_from_a_directory_that_is_gone(boxes):
    """Who looks at boxes needs none, who starts one does."""
    one = boxes.start("--name", "web")

    def usbox(*argv):
        gone = boxes.top / "gone"
        gone.mkdir()
        return subprocess.run(["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", USBOX, *argv], env=boxes.env, cwd=gone, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False)

    assert usbox("ps", "-q").stdout == "web\n" and usbox("exec", "web", "--", "pwd").stdout == f"{boxes.dir}\n"
    refused = usbox("run", "--", "true")
    assert refused.returncode == 125 and "the working directory" in refused.stderr, refused
    assert usbox("stop", "web").returncode == 0 and one.proc.wait(60) is not None
    assert usbox("rm", "web").returncode == 0 and usbox("pod", "ps", "-q").stdout == ""


def test_a_box_cannot_speak_to_launchers(boxes):
    """Not even one that was given the runtime directory: it has the caller's uid, but is in another user namespace."""
    one = boxes.start("--name", "web")
    script = ("import socket, struct, os\n"
              "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect('control')\n"
              "s.send(struct.pack('<Ii', %d, 9)); print(s.recv(10))" % 1)
    result = boxes.python(script, "-v", f"{boxes.runtime}/usbox/{one.id}:/mnt:ro", "-w", "/mnt", "--userns=self")
    assert result.rc == 1 and ("ConnectionResetError" in result.err or "BrokenPipeError" in result.err), result
    assert one.proc.poll() is None


# argv: where the launcher's files are, and its command. By what process the connection comes that is spoken on at the end:
CONNECTS = {
    "mine": "s.connect(b'control')",
    # One of a user namespace of its own, that ends and leaves the connection and its number to others.
    "gone": """
if (pid := os.fork()) == 0:
    if libc.unshare(0x10000000) == 0:
        s.connect(b"control")
        os._exit(0)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
while os.path.exists(f"/proc/{pid}"): # its number may be in use for a moment longer
    pass
with open("/proc/sys/kernel/ns_last_pid", "w") as f:
    f.write(str(pid - 1))
if (successor := os.fork()) == 0:
    signal.pause()
assert successor == pid
"""}
AS_ANOTHER = r"""
import ctypes, glob, os, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
launcher = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
launcher.stdout.readline()
while not (found := glob.glob(sys.argv[1] + "/*/control")):
    time.sleep(0.01)
os.chdir(os.path.dirname(found[0]))
launcher.send_signal(signal.SIGSTOP)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
CONNECT
launcher.send_signal(signal.SIGCONT)
try:
    s.send(b"garbage")
    print("answered" if s.recv(1000) else "turned away")
except (ConnectionResetError, BrokenPipeError):
    print("turned away")
launcher.terminate()
launcher.wait()
"""


@pytest.mark.parametrize("who", CONNECTS)
def test_a_number_that_is_used_again_makes_nobody_trusted(boxes, who):
    """The box's launcher stands still while somebody connects and goes, so it looks at the number of who did when that is another process's."""
    try:
        os.close(socket.socketpair(socket.AF_UNIX)[0].getsockopt(socket.SOL_SOCKET, 77))
    except OSError:
        cannot("have SO_PEERPIDFD: its Linux is older than 6.5")
    inner = ["unshare", "--user", "--map-current-user", "--keep-caps", "--pid", "--fork", "--kill-child", "--mount-proc"]
    script = AS_ANOTHER.replace("CONNECT", CONNECTS[who])
    box = [USBOX, "run", "--rm", "--overlay=none", "--network=none", "--userns=self", "--", "sh", "-c", "echo up; exec sleep 1000"]
    result = subprocess.run([*inner, "/usr/bin/python3", "-c", script, boxes.runtime / "usbox", *box], env=boxes.env, cwd=boxes.dir, capture_output=True,
                            text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, {"mine": "answered\n", "gone": "turned away\n"}[who]), result


REFUSED = {"pidfd_send_signal": 424, "pidfd_open": 434}  # by their numbers on every machine


@pytest.mark.parametrize("call", REFUSED)
def test_under_a_filter_that_knows_no_pidfds(boxes, call):
    """As old containers have it: a box that needs no helper program is there, and is spoken with; what could not be ended is not begun."""
    def filtered(*argv):
        argv = [sys.executable, "-c", FILTER, str(REFUSED[call]), str(errno.EPERM), USBOX, *argv]
        return subprocess.run(argv, env=boxes.env, cwd=boxes.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    run = filtered("run", "-d", "--name=x", "--overlay=none", "--network=none", "--", "sh", "-c", "trap 'echo told' USR1; while :; do sleep 0.1; done")
    assert run.returncode == 0, run
    for verb in (("exec", "x", "--", "true"), ("pause", "x")):
        result = filtered(*verb)
        assert result.returncode == 125 and f"{call}: Operation not permitted\nhint: a filter" in result.stderr, result
    told = filtered("kill", "-s", "USR1", "x")
    assert told.returncode == 0 and wait_until(lambda: filtered("logs", "x").stdout == "told\n", 20), told
    stop = filtered("stop", "-t", "0", "x")
    assert stop.returncode == 0 and [b["state"] for b in boxes.ps("-a")] == ["exited"], stop


def test_from_another_user_namespace(boxes):
    """The launcher tells a stranger nothing: that is not the box's end."""
    boxes.usbox("run", "-d", "--name=x", "--overlay=none", "--network=none", "--", "sleep", "1000").ok()
    for verb in ("stop x", "wait x", "rm -f x", "kill x", "exec x -- true", "inspect x"):
        argv = ["unshare", "--user", "--map-current-user", USBOX, *verb.split()]
        result = subprocess.run(argv, env=boxes.env, cwd=boxes.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 125 and "the launcher of box x is in another user namespace\nhint: " in result.stderr, (verb, result)
    assert [b["state"] for b in boxes.ps()] == ["running"]
    boxes.usbox("rm", "-f", "x").ok()


def test_a_cgroup_that_cannot_be_had_is_not_the_boxs_end(boxes):
    """Its program cannot be started, or ends at once: who asked for it is told, and the box goes on."""
    broken = boxes.top / "broken"
    broken.mkdir()
    for helper in boxes.libexec.iterdir():
        if helper.name != "usbox-scope":
            (broken / helper.name).symlink_to(helper.resolve())
    boxes.usbox("run", "-d", "--name=x", "--overlay=none", "--network=none", "--", "sleep", "1000", env={"USBOX_LIBEXECDIR": str(broken)}).ok()
    for interpreter in ("/nonesuch", "/bin/false", "/bin/true"):
        boxes.write("usbox-scope", f"#!{interpreter}\n", 0o755, where=broken)
        assert_refused(boxes.usbox("pause", "x"), "usbox-scope", hint=False)
        assert boxes.usbox("exec", "x", "--", "echo", "on").lines() == ["on"]
    assert [b["state"] for b in boxes.ps()] == ["running"]
    boxes.usbox("rm", "-f", "x").ok()


def test_two_runtime_directories_never_meet(boxes, tmp_path_factory):
    one = boxes.start("--name", "web")
    other = Env(boxes.top / "other")
    assert other.usbox("ps", "-a", "--json").json() == []
    assert_refused(other.usbox("kill", one.id), "no box")


def test_verbs_take_what_they_know(boxes):
    for argv in (["ps", "--nonsense"], ["ps", "x"], ["kill"], ["kill", "-s"], ["kill", "-s", "NOSUCH", "x"], ["stop", "-t", "-1", "x"],
                 ["rm"], ["port", "a", "b"], ["wait"], ["ps", "--json=1"]):
        assert boxes.usbox(*argv).rc == 125, argv
        assert "usbox: options: " in boxes.usbox(*argv).err, argv
    for verb in ("ps", "inspect", "port", "wait", "kill", "stop", "rm"):
        assert re.match(rf"usage: usbox {verb} ", boxes.usbox(verb, "--help").ok().out)


def test_a_launcher_that_is_stopped_is_named(boxes):
    one = boxes.start("--name", "web")
    os.kill(one.proc.pid, signal.SIGSTOP)
    try:
        assert_refused(boxes.usbox("inspect", "web"), "does not answer", f"kill -CONT {one.proc.pid}")
        for verb in ["stop"], ["rm", "-f"]:
            assert_refused(boxes.usbox(*verb, "web"), "launcher of box web is stopped", f"kill -CONT {one.proc.pid}")
        assert boxes.ps()[0]["state"] == "running"
    finally:
        os.kill(one.proc.pid, signal.SIGCONT)
    boxes.usbox("inspect", "web").ok()


def test_many_ask_at_once(boxes):
    one = boxes.start("--name", "web")
    results = []
    threads = [threading.Thread(target=lambda: results.append(boxes.usbox("inspect", "web").rc)) for _ in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [0] * 24 and one.proc.poll() is None


def test_events_are_written(boxes):
    boxes.run("--rm", "--", "sh", "-c", "exit 3")
    lines = [json.loads(x) for x in (boxes.runtime / "usbox" / "events").read_text(encoding="utf-8").splitlines()]
    assert [(x["event"], x.get("status")) for x in lines] == [("start", None), ("exit", 3)]
