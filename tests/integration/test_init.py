# SPDX-License-Identifier: LGPL-2.1-or-later
"""pid 1 of the box: reaps, forwards, ends when the payload ends, kills the rest."""
import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import Result, assert_refused, own_processes, wait_until


@pytest.mark.slice
def test_payload_is_not_pid_1(box):
    out = box.sh("echo $$; cat /proc/1/comm").lines()
    assert int(out[0]) > 1 and len(out) == 2


@pytest.mark.slice
def test_orphans_are_reaped(box):
    script = """
import os, time
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        os._exit(0)
    os.wait()
def states():
    found = []
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                found.append(open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[0])
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found
end = time.monotonic() + 60
while (len(found := states()) > 3 or "Z" in found) and time.monotonic() < end:
    time.sleep(0.05)
print(len(found), found.count("Z"))
"""
    count, zombies = map(int, box.python(script, timeout=120).ok().out.split())
    assert zombies == 0 and count <= 3


def test_the_rest_is_killed_when_the_payload_ends(box):
    """A daemon that left its session does not outlive the box."""
    start = time.monotonic()
    result = box.sh("setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000' >/dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 & echo started")
    assert result.ok().out == "started\n"
    assert time.monotonic() - start < 20
    assert wait_until(lambda: not [c for c in own_processes().values() if "sleep 1000" in c])


def test_a_pipe_held_by_the_rest_is_let_go(box):
    """What stays behind holds stdout open: the run must end all the same."""
    result = box.sh("sleep 1000 & echo started", timeout=60)
    assert result.ok().out == "started\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
                                    signal.SIGALRM, signal.SIGXCPU])
def test_signals_are_forwarded(box, number):
    name = signal.Signals(number).name[3:]
    proc = box.popen("run", "--rm", "--", "bash", "-c",
                     f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done")
    assert proc.stdout.readline() == b"ready\n"
    proc.send_signal(number)
    out, err = proc.communicate(timeout=60)
    assert (out, proc.returncode) == (f"got {name}\n".encode(), 7), err


def test_death_by_signal_is_128_plus_n(box):
    assert box.sh("kill -TERM $$").rc == 128 + signal.SIGTERM
    assert box.sh("kill -KILL $$").rc == 128 + signal.SIGKILL
    assert box.sh("kill -SEGV $$").rc == 128 + signal.SIGSEGV


def test_term_to_a_payload_that_has_no_handler(box):
    """It has the defaults of an ordinary process, since it is not pid 1."""
    proc = box.popen("run", "--rm", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    proc.terminate()
    proc.communicate(timeout=60)
    assert proc.returncode == 128 + signal.SIGTERM


def test_dispositions_and_mask_are_the_defaults(box):
    proc = box.popen("run", "--rm", "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", preexec_fn=lambda: (
        signal.signal(signal.SIGPIPE, signal.SIG_IGN), signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])))
    out, err = proc.communicate(timeout=60)
    lines = dict(line.split(":\t") for line in out.decode().splitlines())
    assert int(lines["SigBlk"], 16) == 0, (out, err)
    assert int(lines["SigIgn"], 16) & ~(1 << (signal.SIGPIPE - 1)) == 0, out


def test_stop_and_continue_from_outside(box):
    proc = box.popen("run", "--rm", "--", "sh", "-c", "echo ready; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.05; done; echo done")
    assert proc.stdout.readline() == b"ready\n"
    proc.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    proc.send_signal(signal.SIGCONT)
    out, _err = proc.communicate(timeout=30)
    assert (out, proc.returncode) == (b"done\n", 0)


def test_init_is_out_of_reach(box):
    """The payload can neither trace init, nor read its memory or environment, nor kill it."""
    results = box.probe("ptrace_init", "vm_read_init", "open_init_mem", "open_init_environ", options=["--seccomp=off"])
    assert "ok" not in results.values(), results
    out = box.sh("kill -9 1; kill -TERM 1; sleep 0.3; echo alive")
    assert out.ok().out == "alive\n", out


def test_thousand_processes(box):
    script = """
import os
kids = []
for i in range(1000):
    pid = os.fork()
    if pid == 0:
        os.read(os.open("/dev/zero", os.O_RDONLY), 1)
        os._exit(i % 256)
    kids.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(k, 0)[1]) == i % 256 for i, k in enumerate(kids)))
"""
    assert box.python(script, timeout=120).ok().out == "1000\n"


def test_thousand_processes_alive_at_once_end_with_the_box(box):
    script = """
import os, time
for i in range(1000):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
print("all there", len([p for p in os.listdir("/proc") if p.isdigit()]) > 1000)
"""
    assert box.python(script, timeout=120).ok().out == "all there True\n"


def test_box_ends_when_the_launcher_is_killed(box):
    proc = box.popen("run", "--", "sh", "-c", "touch /etc/x 2>/dev/null; echo ready; sleep 1000 & exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    inside = {p for p, c in own_processes().items() if p != proc.pid}
    assert inside
    proc.kill()
    proc.wait()
    assert wait_until(lambda: not (inside & set(own_processes()))), own_processes()


def test_killed_launcher_leaves_no_file(box):
    before = box.state()
    proc = box.popen("run", "--", "sh", "-c", "touch new-file; echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    proc.kill()
    proc.wait()
    files = lambda: {p for p in box.state() - before if os.path.basename(p) not in ("usbox", "boxes", "last", "events")}  # noqa: E731
    assert wait_until(lambda: not files()), files()


def test_next_run_sweeps_what_a_killed_launcher_left(box):
    proc = box.popen("run", "--", "sh", "-c", "touch new-file; echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    proc.kill()
    proc.wait()
    assert wait_until(lambda: not own_processes()), own_processes()
    box.sh("true").ok()
    assert not box.boxes.is_dir() or os.listdir(box.boxes) == []


@pytest.mark.parametrize("helper", ["usbox-net"])
def test_killed_helper_ends_the_box_and_is_named(box, helper):
    proc = box.popen("run", "--rm", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    pids = [p for p, c in own_processes().items() if c.split()[0] == helper]
    assert pids, own_processes()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    _out, err = proc.communicate(timeout=60)
    assert proc.returncode == 125 and helper in err.decode(), err


def test_killed_init_ends_the_box_and_says_who_may_have_done_it(box):
    proc = box.popen("run", "--rm", "--name", "b", "--network=none", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    assert wait_until(lambda: box.usbox("inspect", "b").rc == 0)
    init = box.usbox("inspect", "b").json()[0]["init"]
    os.kill(init, signal.SIGKILL)
    out, err = proc.communicate(timeout=60)
    assert_refused(Result(proc.returncode, out, err), "init was killed by signal 9", f"journalctl -k names process {init}")


def test_die_with_parent(box):
    """--die-with-parent: when who started usbox dies, the box dies too; without it, it lives on."""
    for options, lives in ((["--die-with-parent"], False), ([], True)):
        parent = subprocess.Popen(
            ["sh", "-c", '"$@" & echo $!; wait', "sh", str(__import__("conftest").USBOX), "run", "--rm", *options, "--", "sh", "-c",
             "echo ready; exec sleep 1000"], env=box.env, cwd=box.dir, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        parent.wait()
        if lives:
            time.sleep(0.5)
            assert pid in own_processes()
            os.kill(pid, signal.SIGTERM)
        assert wait_until(lambda: pid not in own_processes())
        parent.stdout.close()



def children(pid):
    """pid → name of what it has forked, or adopted, and not reaped meanwhile."""
    found = {}
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text(encoding="ascii").split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(child)] = pathlib.Path(f"/proc/{child}/comm").read_text(encoding="ascii", errors="replace").strip()
    return found


@pytest.mark.parametrize("who", ["usbox-net", "usbox-fs"])
def test_a_killed_helper_leaves_nobody(box, subids, who):
    """Its agent is the launcher's then, and reaped; not ours, who adopt what launchers leave (tests/lib/reaper.py)."""
    before = set(children(os.getpid()))
    run = box.popen("run", "--rm", "--userns=subids", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert run.stdout.readline() == b"up\n"
    helper = next(pid for pid, name in children(run.pid).items() if name == who)
    assert list(children(helper).values()) == [who + "-agent"]
    os.kill(helper, signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode > 124  # the command may meet the end of its root first, by a SIGBUS
    assert not [name for pid, name in children(os.getpid()).items() if pid not in before and name.endswith("-agent")]
