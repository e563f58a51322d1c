# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits by cgroup, each shown to bite: by what the kernel counts and by what the command feels. As dev, in the machine of tests/vm (or on any with
cgroup v2 and a systemd for the user: USBOX_TEST_LIMITS=1)."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from conftest import assert_refused, cannot, wait_until
from ports import free_port  # tests/lib

pytestmark = pytest.mark.limits

# Neither root nor network cost time where a limit is what is looked at.
BARE = ("--overlay=none", "--network=none")
CGROUP = pathlib.Path("/sys/fs/cgroup")
USER = CGROUP / f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service"
SLICE = USER / "usbox.slice"


def systemctl(*argv):
    env = {**os.environ, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    return subprocess.run(["systemctl", "--user", *argv], env=env, check=True, capture_output=True, text=True).stdout


def scopes():
    return sorted(p.name for p in SLICE.glob("usbox-*.scope")) if SLICE.is_dir() else []


def nothing_left():
    """No scope, no slice, neither as units nor as directories."""
    return not SLICE.exists() and "usbox" not in systemctl("list-units", "--all", "--plain", "--no-legend", "*.scope", "usbox.slice")


@pytest.fixture(autouse=True)
def no_scope_left(box):
    yield
    assert wait_until(nothing_left, 10), (scopes(), systemctl("list-units", "--all", "--plain", "--no-legend", "usbox*"))


def number(path):
    return int(pathlib.Path(path).read_text(encoding="ascii"))


HOG = "head -c 600M /dev/zero | tail"  # tail keeps what has no line end


def test_memory(box):
    """Killed at the limit and not above, though the machine has swap for all of it; said in a line and on the status descriptor."""
    assert "Swap" in open("/proc/meminfo", encoding="ascii").read()
    assert not re.search(r"SwapTotal:\s+0 kB", open("/proc/meminfo", encoding="ascii").read())
    read, write = os.pipe()
    result = box.run("--rm", *BARE, "--memory", "48M", "--status-fd", str(write), "--", "sh", "-c",
                     f"cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.swap.max; {HOG}; echo survived", pass_fds=[write], timeout=240)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as events:
        last = json.loads(events.read().splitlines()[-1])
    assert result.rc == 137 and result.out.split() == [str(48 << 20), "0"], result
    assert re.search(r"^usbox: out of memory: 48 MiB limit, peak 4[0-8](\.\d)? MiB, \d+ kills?$", result.err, re.M), result
    assert last["event"] == "exited" and last["oom"] is True and last["status"] == 137, last
    assert (40 << 20) < last["limits"]["memory_peak"] <= (48 << 20), last
    assert [json.loads(line)["event"] for line in box.usbox("events", "--past", "--json").lines()] == ["start", "oom", "exit"]


def test_memory_is_taken_from_the_command(box):
    """With helpers that hold the root and the network: they are not what the kernel kills, and so the box ends as its command does."""
    result = box.run("--rm", "--memory", "64M", "--", "sh", "-c", f"{HOG}; echo survived", timeout=240)
    assert result.rc == 137 and "usbox: out of memory: 64 MiB limit" in result.err and "helper" not in result.err, result


def test_memory_files(box):
    result = box.sh("cd /sys/fs/cgroup; cat memory.high memory.low memory.min memory.swap.max", *BARE, "--memory", "256M", "--memory-high", "200M",
                    "--memory-low", "32M", "--memory-min", "16M", "--memory-swap", "300M")
    assert result.lines() == [str(n << 20) for n in (200, 32, 16, 44)]
    result = box.sh("cd /sys/fs/cgroup; cat memory.high pids.max", *BARE, "--property", "MemoryHigh=1.5G", "--property", "TasksMax=77")
    assert result.lines() == [str(3 << 29), "77"]


def test_memory_high(box):
    """Not an end but a brake: what files it has in memory goes rather than that it has more."""
    result = box.sh("dd if=/dev/zero of=f bs=1M count=96 2>/dev/null; cat /sys/fs/cgroup/memory.peak; sed -n 's/^high //p' /sys/fs/cgroup/memory.events",
                    *BARE, "--rw", box.dir, "--memory-high", "32M", timeout=120)
    peak, often = map(int, result.ok().out.split())
    assert peak < (40 << 20) and often > 0, result


SWAPPED = """
b = bytearray(%d << 20)
for i in range(0, len(b), 4096):
    b[i] = 1
print(int(open('/sys/fs/cgroup/memory.swap.current').read()))
"""


def test_swap(box):
    """With memory and swap together it is the sum that counts."""
    limits = (*BARE, "--memory", "32M", "--memory-swap", "64M")
    result = box.python(SWAPPED % 44, *limits, timeout=120)
    assert (12 << 20) <= int(result.ok().out) <= (32 << 20), result
    over = box.python(SWAPPED % 80, *limits, timeout=120)
    assert over.rc == 137 and "usbox: out of memory: 32 MiB limit" in over.err, over


BUSY = """
import os, time
def used():
    return int(open('/sys/fs/cgroup/cpu.stat').readline().split()[1]) / 1e6
t, u = time.monotonic(), used()
while time.monotonic() - t < %d:
    for _ in range(10000): pass
print((used() - u) / (time.monotonic() - t))
"""


def test_cpus(box):
    for _ in range(4):  # a machine whose processors are taken away from it for a while measures that
        result = box.python(BUSY % 5, *BARE, "--cpus", "0.5")
        if 0.45 < float(result.ok().out) < 0.55:
            break
    assert 0.45 < float(result.out) < 0.55, result
    assert re.search(r"^usbox: throttled: limit 0.5 CPUs, in \d+ of \d+ periods, waited \d+\.\d s$", result.err, re.M), result


def test_cpus_are_the_commands(box):
    """What usbox itself does until the command begins is not slowed down by the limit, which is there from the command's first instruction on: looked at while
    the launcher waits for a helper, which begins when it is told to."""
    go = box.dir / "go"
    os.mkfifo(go)
    helper = box.libexec / "usbox-net-stack"
    real = helper.resolve()
    helper.unlink()
    helper.write_text(f'#!/bin/sh\nread go <"{go}"\nexec "{real}" "$@"\n', encoding="utf-8")
    helper.chmod(0o755)
    with open(go, "r+b", buffering=0) as told:
        run = box.popen("run", "--rm", "--overlay=none", "--cpus", "0.5", "--", "cat", "/sys/fs/cgroup/cpu.max")
        joined = wait_until(lambda: run.poll() is not None or any(p.read_bytes() for p in SLICE.glob("*/payload/cgroup.procs")), 30)
        held = [p.read_text(encoding="ascii") for p in SLICE.glob("*/cpu.max")]
        told.write(b"\n")
        out, err = run.communicate(timeout=360)
    assert joined and held == ["max 100000\n"] and out == b"50000 100000\n" and run.returncode == 0, (joined, held, out, err)


def usage(scope):
    return int((scope / "cpu.stat").read_text(encoding="ascii").split()[1])


def test_cpu_weight(box):
    """Two on one processor, three to one: both looked at over the same time."""
    boxes = [box.popen("run", "--rm", *BARE, "--cpu-weight", w, "--cpuset-cpus", "1", "--", "sh", "-c", "while :; do :; done") for w in ("100", "300")]
    assert wait_until(lambda: len(scopes()) == 2 and all(usage(SLICE / s) > 200000 for s in scopes()), 30)
    weights = {int((SLICE / s / "cpu.weight").read_text(encoding="ascii")): SLICE / s for s in scopes()}
    for _ in range(4):  # a machine whose processors are taken away from it for a while measures that
        before = {w: usage(s) for w, s in weights.items()}
        time.sleep(5)
        used = {w: usage(s) - before[w] for w, s in weights.items()}
        if fair := 3 * 0.85 < used[300] / used[100] < 3 * 1.15:
            break
    for b in boxes:
        b.send_signal(signal.SIGTERM)
        b.communicate(timeout=60)
    assert fair, used


def test_cpuset(box):
    result = box.python("import os; print(sorted(os.sched_getaffinity(0))); print(open('/sys/fs/cgroup/cpuset.mems.effective').read().strip())",
                        *BARE, "--cpuset-cpus", "1", "--cpuset-mems", "0")
    assert result.lines() == ["[1]", "0"]


FORKS = """
import os, time, sys
n = 0
try:
    while n < 500:
        if os.fork() == 0:
            os.close(1); os.close(2); time.sleep(60); os._exit(0)
        n += 1
except BlockingIOError:
    pass
print(n); sys.stdout.flush(); os._exit(3)
"""


def test_pids(box):
    """The command's own number, whatever the helpers have; others go on."""
    bomb = box.popen("run", "--rm", "--pids-limit", "40", "--", "sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 60")
    assert wait_until(lambda: any(number(p) == 40 for p in SLICE.glob("*/payload/pids.current")), 30)
    assert subprocess.run(["true"], check=True).returncode == 0
    bomb.send_signal(signal.SIGKILL)
    bomb.communicate()
    result = box.python(FORKS, "--pids-limit", "40")
    assert result.rc == 3 and int(result.out) == 39, result
    assert "usbox: out of processes: limit 40, refused 1 time\n" in result.err, result


def test_io(box):
    """Bytes a second, of the disk that a directory lies on."""
    data = box.dir / "data"
    data.mkdir()
    script = "dd if=/dev/zero of=data/f bs=256k count=40 oflag=direct 2>&1"
    for _ in range(4):  # a machine whose processors or disk are taken away from it for a while measures that
        start = time.monotonic()
        box.sh(script, *BARE, "--rw", data).ok()
        free = time.monotonic() - start
        result = box.python("import subprocess, time; t = time.monotonic(); subprocess.run(['sh', '-c', %r], check=True); print(time.monotonic() - t)" % script,
                            *BARE, "--rw", data, "--io-max", f"{data}:wbps=2M", "--io-weight", "50")
        took = float(result.lines()[-1])
        if within := free < 4 and 5 * 0.8 < took < 5 * 1.2:
            break
    assert within, (free, took, result)


def test_io_reads_and_operations(box):
    """The other three numbers of io.max, each measured by who waits for it."""
    data = box.dir / "data"
    data.mkdir()
    (data / "f").write_bytes(bytes(4 << 20))
    os.sync()

    def seconds(limits, *commands):
        script = "; ".join(f"LC_ALL=C dd {c} 2>&1 | sed -n 's/.*copied, \\(.*\\) s, .*/\\1/p'" for c in commands)
        return [float(n) for n in box.sh(script, *BARE, "--rw", data, "--io-max", f"{data}:{limits}", timeout=120).lines()]
    reads, writes = seconds("rbps=2M,wiops=20", "if=data/f of=/dev/null bs=256k iflag=direct", "if=/dev/zero of=data/g bs=4k count=40 oflag=direct")
    operations, = seconds("riops=20", "if=data/f of=/dev/null bs=4k count=40 iflag=direct")
    # Not sooner than the limit allows; how much later is the machine's to say, too.
    assert all(2 * 0.8 < s < 2 * 2 for s in (reads, writes, operations)), (reads, writes, operations)


# Its arguments: a disk, and where to say how much it got of it so far. Four at once, so that it always wants something.
READS = """
import mmap, os, sys, threading
disk, said, got = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), os.open(sys.argv[2], os.O_WRONLY), [0] * 4
def read(i):
    buffer, at = mmap.mmap(-1, 64 << 10), 0
    while True:
        got[i] += os.preadv(disk, [buffer], (i << 24) + at)
        at = (at + len(buffer)) % (1 << 24)
        os.pwrite(said, b'%020d' % sum(got), 0)
for i in range(4): threading.Thread(target=read, args=(i,)).start()
"""


# See tests/vm/guest/run: the one shares by the scheduler, the other by what each request costs.
@pytest.mark.parametrize("disk", ["/dev/vdc", "/dev/vdd"], ids=["bfq", "iocost"])
def test_io_weight(box, disk):
    """Two that read from one slow disk, three to one: both looked at over the same time."""
    weights, boxes = ("100", "300"), []

    def got():
        return [int((box.dir / w).read_bytes() or 0) for w in weights]
    try:
        for w in weights:
            (box.dir / w).touch()
            boxes.append(box.popen("run", "--rm", *BARE, "--io-weight", w, "--device", disk, "--rw", box.dir, "--", "/usr/bin/python3", "-c", READS, disk, w))
        assert wait_until(lambda: min(got()) > 0, 30)
        for _ in range(4):  # a machine whose processors are taken away from it for a while measures that
            before = got()
            time.sleep(3)
            few, many = (now - then for now, then in zip(got(), before))
            if fair := 3 * 0.75 * few < many < 3 * 1.25 * few:
                break
    finally:
        for b in boxes:
            b.send_signal(signal.SIGTERM)
            b.communicate(timeout=60)
    assert fair, (few, many)


def test_io_weight_stays(box):
    """To each that shares by weight it is what was asked for, whatever systemd would make of it and whenever it does; its own property is its own."""
    box.usbox("run", "-d", "--name", "held", *BARE, "--io-weight", "300", "--", "sleep", "1000").ok()
    scope, = SLICE.glob("usbox-*.scope")

    def weights():
        return [(scope / f).read_text(encoding="ascii") for f in ("io.weight", "io.bfq.weight")]
    assert weights() == ["default 300\n"] * 2
    for change in (lambda: systemctl("daemon-reload"), lambda: systemctl("set-property", "--runtime", scope.name, "IOWeight=200"),
                   lambda: box.usbox("update", "held", "--cpus", "1").ok()):
        (scope / "io.bfq.weight").write_text("299", encoding="ascii")
        change()
        assert wait_until(lambda: weights()[1] == "default 300\n", 20), weights()
    box.usbox("update", "held", "--io-weight", "2000").ok()
    assert weights() == ["default 2000\n", "default 1000\n"]
    box.usbox("update", "held", "--property", "IOWeight=300").ok()
    time.sleep(0.5)
    assert weights() == ["default 300\n", "default 118\n"]
    box.usbox("rm", "-f", "held").ok()


def test_helpers_are_counted(box):
    """What usbox-fs and usbox-net do for the command is in the box's numbers: files, and a flood."""
    script = r"""
import os, socket, time
def used(leaf): return int(open('/sys/fs/cgroup/%scpu.stat' % leaf).readline().split()[1])
before = used('helpers/')
for _ in range(3):
    for d, _, names in os.walk('/usr/lib/python3'):
        for n in names:
            try: open(os.path.join(d, n), 'rb').read()
            except OSError: pass
files = used('helpers/') - before
before = used('helpers/')
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
t = time.monotonic()
while time.monotonic() - t < 3:
    try: s.sendto(b'x' * 1000, ('192.0.2.1', 9))
    except OSError: pass
time.sleep(0.5)
print(files, used('helpers/') - before, used(''), used('payload/') + used('helpers/'))
"""
    files, flood, whole, parts = map(int, box.python(script, "--pids-limit", "100", timeout=120).ok().out.split())
    assert files > 10000 and flood > 100000 and abs(whole - parts) < whole / 4, (files, flood, whole, parts)


WRITES = r"""
import os
ok = []
for top, dirs, names in os.walk('/sys/fs/cgroup'):
    for n in names:
        for text in ('max', '1', '0', '+memory'):
            try:
                with open(os.path.join(top, n), 'w') as f: f.write(text)
                ok.append(os.path.join(top, n))
            except OSError: pass
    try: os.mkdir(os.path.join(top, 'mine')); ok.append(top + '/mine')
    except OSError: pass
print(open('/proc/self/cgroup').read().strip(), open('/sys/fs/cgroup/memory.max').read().strip(), len(ok), ok[:5])
"""


@pytest.mark.parametrize("options", [(), ("--user", "root"), ("--nested",)], ids=["plain", "root", "nested"])
def test_not_to_be_raised(box, options):
    """The command sees its own cgroup as the root, and can write nothing of it."""
    assert box.python(WRITES, *BARE, "--memory", "100M", *options).lines() == [f"0::/ {100 << 20} 0 []"]


def test_not_to_be_raised_by_a_mount(box):
    """With namespaces of its own the command can mount cgroup2 anew: of its own part, where the limit and what is above are not."""
    script = r"""
set -u
mkdir -p /tmp/c && mount -t cgroup2 none /tmp/c || { echo no mount; exit 0; }
for f in /tmp/c/memory.max /tmp/c/pids.max /tmp/c/memory.oom.group /tmp/c/cgroup.freeze; do
    echo max >$f 2>/dev/null && echo wrote $f
done
ls /tmp/c | grep -x -e helpers -e payload
cat /tmp/c/pids.max
python3 -c "$FORKS"
"""
    result = box.run("--rm", *BARE, "--nested", "--memory", "100M", "--pids-limit", "30", "--env", f"FORKS={FORKS}", "--", "unshare", "-Urm", "-C",
                     "sh", "-c", script)
    lines = result.out.splitlines()
    assert lines == ["no mount"] or (lines[0] == "30" and len(lines) == 2 and int(lines[1]) < 30), result


def test_ends_with_the_launcher(box):
    """Killed, it leaves no process, no scope and no file; also without a pid namespace whose end would be theirs."""
    for options in ((), ("--pid=host",)):
        mark = f"3{os.getpid()}"
        run = box.popen("run", "--rm", *BARE, *options, "--memory", "200M", "--", "sh", "-c", f"setsid sleep {mark} & sleep {mark}")
        assert wait_until(lambda: len(find(f"sleep {mark}")) >= 2, 20)
        run.kill()
        run.communicate()
        assert wait_until(lambda: not find(f"sleep {mark}") and nothing_left(), 20), (find(f"sleep {mark}"), scopes())
        assert wait_until(lambda: not runtime_files(box), 20), runtime_files(box)


def runtime_files(box):
    """Of boxes; none may have been made yet."""
    return sorted(p.name for p in (box.runtime / "usbox").glob("*") if p.name not in ("last", "events"))


def find(line):
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if line in p.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(int(p.parent.name))
        except OSError:
            pass
    return found


def test_timeout_ends_all(box):
    mark = f"4{os.getpid()}"
    result = box.sh(f"setsid sleep {mark} & sleep {mark}", *BARE, "--memory", "200M", "--timeout", "2s")
    assert result.rc == 124 and not find(f"sleep {mark}"), result


def test_survives_systemd(box):
    """systemd starts itself anew: boxes go on, with their limits."""
    run = box.popen("run", "--rm", *BARE, "--memory", "100M", "--", "sh", "-c", "read line; cat /sys/fs/cgroup/memory.max", stdin=subprocess.PIPE)
    assert wait_until(lambda: len(scopes()) == 1, 20)
    systemctl("daemon-reexec")
    systemctl("daemon-reload")
    out, err = run.communicate(b"go\n", timeout=60)
    assert run.returncode == 0 and out.split() == [str(100 << 20).encode()], (out, err)


def test_without_limits_no_scope(box):
    assert box.sh("sleep 0.5; cat /proc/self/cgroup", *BARE).ok() and not SLICE.exists()


def test_terminal(box):
    with box.pty("run", "--rm", *BARE, "--memory", "100M", "--", "sh", "-c", "cat /proc/self/cgroup; tty") as pty:
        assert pty.wait(120) == 0, pty.seen
        assert pty.seen.split()[:2] == [b"0::/", b"/dev/pts/0"], pty.seen


def test_not_delegated(box):
    """Named, with what is there."""
    for option, value in (("hugetlb", "2M=64M"), ("misc", "sev=1"), ("rdma", "mlx5_0:hca_handle=2,hca_object=unlimited")):
        result = box.run("--rm", *BARE, f"--{option}", value, "--", "true")
        assert_refused(result, "limits", f"the controller {option} is not delegated", "memory, pids")
    latency = box.run("--rm", *BARE, "--property", f"IODeviceLatencyTargetSec={box.dir} 25ms", "--", "true")
    if (USER / "io.latency").exists():
        latency.ok()
    else:
        assert_refused(latency, "this machine's kernel has no io.latency")
    result = box.run("--rm", *BARE, "--hugetlb", "2M=64M", "--best-effort=limits", "--", "echo", "on")
    assert result.rc == 0 and result.out == "on\n" and "usbox: without limits: " in result.err, result


def without_systemd(*argv):
    """A command that sees no runtime directory: as where no systemd runs for the user."""
    if not shutil.which("bwrap"):
        pytest.fail("bwrap is to be in the machine")
    return ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run/user", "--", *argv]


def test_no_systemd(box):
    argv = without_systemd(os.environ["USBOX"], "run", "--rm", *BARE, "--memory", "100M")
    def run(*more):
        return subprocess.run([*argv, *more], env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=120)
    result = run("--", "true")
    assert result.returncode == 125 and "no systemd runs for this user" in result.stderr and "hint: " in result.stderr, result
    result = run("--best-effort=limits", "--", "echo", "on")
    assert result.returncode == 0 and result.stdout == "on\n" and "usbox: without limits: " in result.stderr, result


def test_processes_that_cannot_be_moved(box):
    """The scope is there, but the machine's message bus, by which a login session's processes are moved, is not: nothing runs, or all of it without."""
    if f"user@{os.getuid()}.service" in open("/proc/self/cgroup", encoding="ascii").read():
        cannot("this is no login session")
    argv = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run/dbus", "--", os.environ["USBOX"], "run", "--rm", "--memory", "100M"]

    def run(*more):
        return subprocess.run([*argv, *more], env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=120, check=False)
    for options in (BARE, ()):
        result = run(*options, "--", "echo", "on")
        assert result.returncode == 125 and not result.stdout and "this login's session" in result.stderr and "systemctl status dbus" in result.stderr, result
        result = run(*options, "--best-effort=limits", "--", "sh", "-c", "sleep 1; echo on")
        assert result.returncode == 0 and result.stdout == "on\n" and "usbox: without limits: " in result.stderr, result


def test_cgroup_of_ones_own(box):
    """No systemd to be asked, but a cgroup that was handed over, as in a container."""
    usbox = " ".join(without_systemd(os.environ["USBOX"], "run", "--rm", *BARE, "--memory", "100M", "--pids-limit", "50"))
    script = f"""
set -e
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
{usbox} -- true 2>&1 | grep -q 'is writable, but has processes of its own'
mkdir $own/main && echo $$ >$own/main/cgroup.procs
{usbox} -- sh -c 'cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/payload/pids.max'
{usbox} -- sh -c '{HOG}' || echo $?
ls -d $own/*/
"""
    env = {**box.env, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    result = subprocess.run(["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "sh", "-c", script], env=env, cwd=box.dir,
                            capture_output=True, text=True, timeout=300)
    lines = result.stdout.splitlines()
    assert lines[:4] == ["0::/", str(100 << 20), "50", "137"] and len(lines) == 5 and lines[4].endswith("/main/"), result
    assert "out of memory: 100 MiB limit" in result.stderr, result


HANDED_OVER = pathlib.Path("/run/usbox-own")  # who says his pid there is moved to a cgroup that is dev's (tests/vm/guest/run)


HUGE = """
import mmap
m = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)  # MAP_HUGETLB
for i in range(4):
    m[i << 21] = 1
    print("page", flush=True)
"""


def test_controllers_that_systemd_delegates_to_nobody(box):
    """Huge pages are had up to the limit; of what the machine has none, that is said."""
    if not HANDED_OVER.exists():
        cannot("no cgroup with the controllers hugetlb, misc and rdma was handed over: tests/vm has one")
    usbox = " ".join(without_systemd(os.environ["USBOX"], "run", "--rm", *BARE))
    own = CGROUP / "usbox-own"
    script = f"""
echo $$ >{HANDED_OVER}
until grep -qx 0::/usbox-own /proc/self/cgroup; do sleep 0.1; done
mkdir {own}/main && echo $$ >{own}/main/cgroup.procs
{usbox} --hugetlb 2M=64M --pids-limit 20 -- cat /sys/fs/cgroup/hugetlb.2MB.max /sys/fs/cgroup/payload/pids.max
{usbox} --hugetlb 2M=4M -- python3 -c '{HUGE}' || echo $?
{usbox} --hugetlb 2M=8M -- python3 -c '{HUGE}'
{usbox} --io-weight 2000 -- cat /sys/fs/cgroup/io.weight /sys/fs/cgroup/io.bfq.weight
{usbox} --hugetlb 8K=8M -- true
{usbox} --misc none=1 -- true
{usbox} --rdma none:hca_handle=2,hca_object=unlimited -- true
ls {own} | grep -c scope
"""
    result = subprocess.run(["sh", "-c", script], env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.split() == [str(64 << 20), "20", "page", "page", "135", *["page"] * 4, "default", "2000", "default", "1000", "0"], result  # 135: SIGBUS
    for said in ("hint: ls /sys/kernel/mm/hugepages shows which sizes", "write 'none 1' to /usbox-own/usbox-", "hint: cat /sys/fs/cgroup/misc.capacity shows which",
                 "write 'none hca_handle=2 hca_object=max' to", "hint: ls /sys/class/infiniband shows which"):
        assert said in result.stderr, (said, result)


def test_many_at_a_time(box):
    """Started and ended, many at a time: no scope, no slice, no directory is left (no_scope_left looks)."""
    running, ended = [], 0
    for _ in range(64):
        running.append(box.popen("run", "--rm", *BARE, "--memory", "64M", "--", "true"))
        if len(running) == 8:
            running, ended = await_all(running, ended)
    running, ended = await_all(running, ended)
    assert ended == 64


def await_all(running, ended):
    for run in running:
        out, err = run.communicate(timeout=180)
        assert run.returncode == 0, (out, err)
    return [], ended + len(running)


@pytest.fixture
def running(box):
    """A box that is limited and waits for a line."""
    run = box.popen("run", "--name", "limited", "--rw", box.dir, "--pids-limit", "60", "--memory", "200M", "--", "/usr/bin/python3", "-u", "-c", TICKS)
    up = wait_until(lambda: run.poll() is not None or (box.usbox("ps", "-q").out == "limited\n" and (box.dir / "ticks").exists()), 30)
    assert up and run.poll() is None, (up, run.poll(), box.usbox("ps", "-a"), os.listdir(box.dir), run.poll() is None or run.communicate())
    yield run
    box.usbox("kill", "-s", "KILL", "limited")
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "limited")


TICKS = """
import os, subprocess, threading, time
child = subprocess.Popen(['sleep', '1000'])
n = 0
while True:
    n += 1
    with open('ticks', 'w') as f: f.write(str(n))
    time.sleep(0.02)
"""


def one(box, *argv):
    return json.loads(box.usbox(*argv, "--json").ok().out)[0]


def test_stats(box, running):
    scope = SLICE / scopes()[0]
    stats = one(box, "stats", "limited")
    assert stats["name"] == "limited" and stats["memory_max"] == 200 << 20 and stats["pids_max"] == 60 and stats["pids"] == 2, stats
    assert 0 < stats["memory"] <= stats["memory_peak"] <= 200 << 20 and stats["cpu_us"] <= usage(scope) and not stats["paused"], stats
    assert stats["pressure"]["cpu"]["some"] >= 0 and stats["net_sent"] >= 0 and stats["swap"] == 0 and stats["oom_kills"] == 0, stats
    assert one(box, "stats")["id"] == stats["id"]
    # Where its processes were on their way.
    on_their_way = (USER / "init.scope/cgroup.procs").read_text(encoding="ascii").split()
    assert {pathlib.Path(f"/proc/{p}/comm").read_text(encoding="utf-8").strip() for p in on_their_way} <= {"systemd", "(sd-pam)"}
    assert stats["net_flows"] == 0 and stats["source"] == "cgroup" and stats["pressure"]["io"]["full"] >= 0, stats
    table = box.usbox("stats", "limited").lines()
    assert table[0].split() == ["BOX", "CPU", "WAITED", "MEMORY", "PEAK", "LIMIT", "SWAP", "READ", "WRITTEN", "R/W-OPS", "NET-IN", "NET-OUT", "FLOWS",
                                "PIDS", "PSI-CPU", "PSI-MEM", "PSI-IO"], table
    assert table[1].startswith("limited ") and "200 MiB" in table[1], table
    with subprocess.Popen([os.environ["USBOX"], "stats", "--watch", "--json", "limited"], env=box.env, stdout=subprocess.PIPE, text=True) as watch:
        assert [json.loads(watch.stdout.readline())[0]["name"] for _ in range(2)] == ["limited"] * 2
        box.usbox("kill", "-s", "KILL", "limited").ok()
        watch.stdout.read()  # to its end, which is the box's
    assert watch.returncode == 0


def test_top(box, running):
    scope = SLICE / scopes()[0]
    top = json.loads(box.usbox("top", "limited", "--json").ok().out)
    assert {p["pid"] for p in top} == {int(p) for p in (scope / "payload/cgroup.procs").read_text(encoding="ascii").split()}
    sleeper = [p for p in top if p["command"] == "sleep 1000"][0]
    assert 1 < sleeper["box_pid"] < 100 and sleeper["uid"] == sleeper["box_uid"] == os.getuid() and sleeper["memory"] > 0, sleeper
    assert "sleep 1000" in box.usbox("top", "limited").ok().out


def test_pause(box, running):
    """All of it stops at once, and goes on."""
    def ticks():
        return (box.dir / "ticks").read_text(encoding="ascii")
    start = time.monotonic()
    box.usbox("pause", "limited").ok()
    took = time.monotonic() - start
    seen = ticks()
    time.sleep(0.5)
    assert ticks() == seen and one(box, "stats", "limited")["paused"], took
    assert one(box, "ps")["paused"] and "  paused  " in box.usbox("ps").out
    assert_refused(box.usbox("exec", "limited", "true"), "the box is paused", "usbox unpause limited")
    box.usbox("unpause", "limited").ok()
    box.usbox("exec", "limited", "true").ok()
    assert wait_until(lambda: ticks() != seen, 10) and not one(box, "stats", "limited")["paused"] and not one(box, "ps")["paused"]


ECHO = """
import socket
s, out = socket.create_server(('0.0.0.0', 7000)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    c, _ = s.accept()
    while data := c.recv(100):
        out.sendto(data, ('192.0.2.1', 9))
        c.sendall(data)
"""


def test_pause_keeps_connections(box):
    """What is sent to a box that is paused is answered when it goes on: no connection is lost, and none is refused."""
    port = free_port()
    run = box.popen("run", "--name", "echo", "--pids-limit", "20", "-p", f"127.0.0.1:{port}:7000", "--", "/usr/bin/python3", "-c", ECHO)

    def connect():
        try:
            c = socket.create_connection(("127.0.0.1", port), timeout=30)
            c.sendall(b"one")
            return c if c.recv(3) == b"one" else None
        except OSError:
            return None
    assert wait_until(lambda: box.usbox("ps", "-q").out == "echo\n", 30)
    connections = []
    assert wait_until(lambda: connections.append(connect()) or connections[-1], 60)
    connection = connections[-1]
    assert one(box, "stats", "echo")["net_flows"] >= 1
    box.usbox("pause", "echo").ok()
    connection.sendall(b"two")
    connection.settimeout(1)
    with pytest.raises(TimeoutError):
        connection.recv(3)
    box.usbox("unpause", "echo").ok()
    connection.settimeout(60)
    assert connection.recv(3) == b"two"
    connection.close()
    box.usbox("kill", "-s", "KILL", "echo").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "echo")


def test_pause_is_quick(box):
    """All of many busy processes, within a tenth of a second from the word that `usbox pause` says to the kernel."""
    run = box.popen("run", "--name", "busy", *BARE, "--pids-limit", "40", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait")
    assert wait_until(lambda: any(number(p) == 9 for p in SLICE.glob("*/payload/pids.current")), 30)
    leaf = next(SLICE.glob("*/payload"))
    took = []
    while len(took) < 5 and min(took, default=1) >= 0.1:  # a machine whose processors are taken away from it for a while measures that
        start = time.monotonic()
        (leaf / "cgroup.freeze").write_text("1", encoding="ascii")
        while "frozen 1" not in (leaf / "cgroup.events").read_text(encoding="ascii"):
            pass
        took.append(time.monotonic() - start)
        (leaf / "cgroup.freeze").write_text("0", encoding="ascii")
    assert min(took) < 0.1, took
    box.usbox("kill", "-s", "KILL", "busy").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "busy")


def test_update(box, running):
    scope = SLICE / scopes()[0]
    box.usbox("update", "limited", "--memory", "300M", "--cpus", "1.5", "--pids-limit", "70").ok()
    assert number(scope / "memory.max") == 300 << 20 and number(scope / "payload/pids.max") == 70
    assert (scope / "cpu.max").read_text(encoding="ascii") == "150000 100000\n"
    box.usbox("update", "limited", "--cpuset-cpus", "1").ok()  # a controller that the box has not had so far
    assert (scope / "cpuset.cpus").read_text(encoding="ascii") == "1\n"
    assert_refused(box.usbox("update", "limited", "--hugetlb", "2M=2M"), "hugetlb", "not delegated")
    assert_refused(box.usbox("update", "limited"), "no limit is given")
    assert number(scope / "memory.max") == 300 << 20


def test_verbs_without_a_cgroup(box):
    """What can be had of processes is told."""
    run = box.popen("run", "--name", "free", *BARE, "--", "sh", "-c", "sleep 1000 & while :; do :; done")
    assert wait_until(lambda: box.usbox("ps", "-q").out == "free\n", 30)
    assert wait_until(lambda: one(box, "stats", "free")["cpu_percent"] > 10, 30)
    stats = one(box, "stats")
    assert stats["name"] == "free" and stats["source"] == "processes" and stats["pids"] == 2 and stats["memory"] > 0, stats
    assert stats["memory_max"] is None and stats["pressure"]["cpu"] is None and stats["net_flows"] is None, stats
    top = json.loads(box.usbox("top", "free", "--json").ok().out)
    assert [(p["box_pid"], p["command"]) for p in top] == [(2, "sh -c sleep 1000 & while :; do :; done"), (3, "sleep 1000")], top
    box.usbox("unpause", "free").ok()  # nobody has paused it
    assert not scopes()
    box.usbox("kill", "-s", "KILL", "free").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "free")


# An orphan, a thread's child, and one after the other that comes and goes.
BUSY_FORKS = """
import os, subprocess, threading, time
subprocess.run(['sh', '-c', 'setsid sleep 1000 & exit'])
threading.Thread(target=lambda: (subprocess.Popen(['sleep', '1001']), time.sleep(1000)), daemon=True).start()
n = 0
while True:
    n += 1
    with open('ticks.new', 'w') as f: f.write(str(n))
    os.rename('ticks.new', 'ticks')
    try:
        if os.fork() == 0:
            time.sleep(0.03)
            os._exit(0)
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except (BlockingIOError, ChildProcessError): pass
"""


@pytest.mark.parametrize("options", [BARE, (), ("--user", "root", "--overlay=none")], ids=["bare", "all", "root"])
def test_a_cgroup_that_comes_late(box, options):
    """Who pauses or limits a box that was started without a limit finds all of its processes: those of exec, orphans, and what is forked meanwhile."""
    run = box.popen("run", "--name", "late", *options, "--rw", box.dir, "--", "/usr/bin/python3", "-c", BUSY_FORKS)
    ticks = box.dir / "ticks"
    assert wait_until(lambda: box.usbox("ps", "-q").out == "late\n" and ticks.exists(), 60)
    box.usbox("exec", "-d", "late", "--", "sleep", "1002").ok()
    assert wait_until(lambda: sum(p["command"].startswith("sleep 100") for p in json.loads(box.usbox("top", "late", "--json").ok().out)) == 3, 60)
    assert not scopes()
    box.usbox("pause", "late").ok()
    payload = SLICE / scopes()[0] / "payload"
    seen = ticks.read_text(encoding="ascii")
    inside = (payload / "cgroup.procs").read_text(encoding="ascii").split()
    names = [pathlib.Path(f"/proc/{p}/cmdline").read_bytes() for p in inside]
    assert min(number(f"/proc/{p}/oom_score_adj") for p in inside) >= number("/proc/self/oom_score_adj") + 500
    assert all(f"sleep\0{n}\0".encode() in names for n in (1000, 1001, 1002)), names
    time.sleep(0.5)
    stats = one(box, "stats", "late")
    assert ticks.read_text(encoding="ascii") == seen and stats["paused"] and stats["memory"] > (4 << 20) and stats["memory_peak"] is None, stats
    assert_refused(box.usbox("exec", "late", "true"), "the box is paused", "usbox unpause late")
    box.usbox("unpause", "late").ok()
    assert wait_until(lambda: ticks.read_text(encoding="ascii") != seen, 30)
    result = box.usbox("update", "late", "--pids-limit", "60", "--memory", "300M").ok()
    assert "what memory it had when it got its first is not counted" in result.err, result
    assert number(payload / "pids.max") == 60 and number(payload.parent / "memory.max") == 300 << 20 and one(box, "stats", "late")["pids_max"] == 60
    forks = box.usbox("exec", "late", "--", "/usr/bin/python3", "-c", FORKS)
    assert forks.rc == 3 and 0 < int(forks.out) < 60, forks
    # Now that it is limited it is as any other: it does not outlive who holds it to that.
    helpers = (payload.parent / "helpers/cgroup.procs").read_text(encoding="ascii").split()
    scope, = [int(p) for p in helpers if pathlib.Path(f"/proc/{p}/comm").read_text(encoding="ascii") == "usbox-scope\n"]
    os.kill(scope, signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 125 and b"usbox-scope ended" in err and b"had no limits any more" in err, err
    box.usbox("rm", "-f", "late")


OF_ANOTHER = "setpriv --reuid 1 --clear-groups sleep 1000 & sleep 1001"


def test_processes_of_subordinate_ids(box):
    """From a login's session, out of which systemd moves those alone that are its user's: what has begun in its cgroup is there, and what has not cannot come."""
    run = box.popen("run", "--name", "ids", *BARE, "--user", "root", "--pids-limit", "unlimited", "--", "sh", "-c", OF_ANOTHER)
    leaf = lambda: next(iter(SLICE.glob("*/payload")), None)
    assert wait_until(lambda: leaf() and len(uids(leaf())) >= 2 and uids(leaf())[-1] >= 100000, 60)
    assert box.usbox("exec", "-u", "2", "ids", "--", "sh", "-c", "id -u; cat /proc/self/cgroup").lines() == ["2", "0::/"]
    box.usbox("pause", "ids").ok()
    box.usbox("unpause", "ids").ok()
    box.usbox("kill", "-s", "KILL", "ids").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "ids")

    run = box.popen("run", "--name", "ids", *BARE, "--user", "root", "--", "sh", "-c", OF_ANOTHER)
    assert wait_until(lambda: {p["box_uid"] for p in json.loads(box.usbox("top", "ids", "--json").out or "[]")} == {0, 1}, 60)
    result = box.usbox("pause", "ids")
    if f"user@{os.getuid()}.service" in open("/proc/self/cgroup", encoding="ascii").read():  # no login session
        result.ok()
        box.usbox("unpause", "ids").ok()
    else:
        assert_refused(result, "not owned by client's uid", "--pids-limit unlimited")
    box.usbox("exec", "ids", "true").ok()
    box.usbox("kill", "-s", "KILL", "ids").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "ids")


def uids(leaf):
    """Of a cgroup's processes, in order."""
    found = []
    for pid in (leaf / "cgroup.procs").read_text(encoding="ascii").split():
        try:
            found.append(int(re.search(r"^Uid:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.M)[1]))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sorted(found)


def test_no_cgroup_comes_late_where_processes_cannot_be_told_apart(box):
    run = box.popen("run", "--name", "late", *BARE, "--pid=host", "--", "sleep", "1000")
    assert wait_until(lambda: box.usbox("ps", "-q").out == "late\n", 30)
    for argv in (("pause", "late"), ("update", "late", "--memory", "1G")):
        assert_refused(box.usbox(*argv), "its processes are among others", "--pids-limit unlimited")
    box.usbox("kill", "-s", "KILL", "late").ok()
    run.communicate(timeout=60)
    box.usbox("rm", "-f", "late")


def test_exec(box, running):
    """Another command is under the same limits, and starts in them."""
    result = box.usbox("exec", "limited", "--", "cat", "/proc/self/cgroup", "/sys/fs/cgroup/memory.max", "/proc/self/oom_score_adj")
    cgroup, limit, score = result.lines()
    assert (cgroup, limit) == ("0::/", str(200 << 20)) and int(score) >= 500, result
    forks = box.usbox("exec", "limited", "--", "/usr/bin/python3", "-c", FORKS)
    assert forks.rc == 3 and int(forks.out) == 60 - 2 - 1, forks
