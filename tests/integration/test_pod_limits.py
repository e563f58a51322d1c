# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits of a pod as a whole, and of its boxes within it. Where test_limits.py runs."""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from conftest import BUILD, assert_refused, wait_until
from test_limits import FORKS, SLICE, no_scope_left, number, without_systemd  # pylint: disable=unused-import

pytestmark = pytest.mark.limits

BARE = ("--overlay=none",)
HOG = "/usr/bin/python3 -c 'b = bytearray(%d << 20); print(len(b), flush=True); import time; time.sleep(%d)'"


@pytest.fixture
def pods(box):
    """box with pod(), which gives the pod's cgroup; pods, and boxes that are held, go at the end."""
    def pod(name, *options):
        box.usbox("pod", "create", "--network", "none", *options, name).ok()
        return pathlib.Path(box.usbox("inspect", name).json()[0]["cgroup"])

    def sleeper(name, *options):
        box.usbox("run", "-d", "--name", name, *BARE, "--pod", "p", *options, "--", "sleep", "1000").ok()

    box.pod, box.sleeper = pod, sleeper
    yield box
    for p in box.usbox("pod", "ps", "--json").json():
        box.usbox("pod", "rm", "-f", p["name"], timeout=120).ok()
    for b in box.usbox("ps", "-a", "--json").json():
        if b["name"]:
            box.usbox("rm", "-f", b["id"]).ok()


def boxes_of(cgroup):
    return sorted(d.name for d in (cgroup / "boxes").iterdir() if d.is_dir())


def test_boxes_share_the_pods_memory(pods):
    """Two that have enough each alone, but not together; and one that has less of its own."""
    cgroup = pods.pod("p", "--memory", "96M")
    assert cgroup.parent == SLICE and number(cgroup / "memory.max") == 96 << 20
    first = pods.popen("run", "--rm", *BARE, "--pod", "p", "--", "sh", "-c", f"exec {HOG % (56, 1000)}")
    assert first.stdout.readline() == b"%d\n" % (56 << 20)
    second = pods.sh(f"exec {HOG % (64, 0)}", *BARE, "--pod", "p", timeout=240)
    if second.rc == 137:  # which of them is for the kernel to choose
        told = second.err
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=60)
    else:
        told = first.communicate(timeout=60)[1].decode()
        assert first.returncode == 137, second
    assert re.search(r"^usbox: out of memory: the pod's 96 MiB limit, peak \d+(\.\d)? MiB, \d+ kills?$", told, re.M), told
    own = pods.sh(f"cat /sys/fs/cgroup/memory.max; exec {HOG % (64, 0)}", *BARE, "--pod", "p", "--memory", "32M", timeout=240)
    assert own.rc == 137 and own.out.split() == [str(32 << 20)] and "usbox: out of memory: 32 MiB limit" in own.err, own
    assert wait_until(lambda: boxes_of(cgroup) == [], 20)


FILE = "dd if=/dev/zero of=%s bs=1M count=20 conv=fsync status=none; echo there; exec sleep 1000"


def of_files(cgroup):
    """Of a box's memory in MiB what is of files."""
    return int(re.search(r"^file (\d+)$", (cgroup / "memory.stat").read_text(encoding="ascii"), re.M)[1]) >> 20


@pytest.mark.parametrize("within", ["pod", "slice"])
def test_memory_that_is_protected(pods, within):
    """Three boxes have as much of files in memory, and a fourth wants so much that most of what one has must go, because of the limit that all of them are under:
    it is not that of those who are protected."""
    if within == "pod":
        cgroup, options = pods.pod("p", "--memory", "96M") / "boxes", ("--pod", "p")
    else:
        cgroup, options = SLICE, ("--network", "none", "--pids-limit", "unlimited")
    boxes, held = [], {}

    def start(name, script, *more):
        boxes.append(pods.popen("run", "--rm", *BARE, *options, *more, "--rw", pods.dir, "--", "sh", "-c", script))
        assert boxes[-1].stdout.readline(), boxes[-1].communicate()
        held[name], = [d for d in cgroup.iterdir() if d.is_dir() and d not in held.values()]
    try:
        start("bare", FILE % "bare")
        start("low", FILE % "low", "--memory-low", "24M")
        start("min", FILE % "min", "--memory-min", "24M")
        before = {name: of_files(of) for name, of in held.items()}
        if within == "slice":
            (cgroup / "memory.swap.max").write_text("0", encoding="ascii")
            (cgroup / "memory.max").write_text(str(96 << 20), encoding="ascii")
        start("fourth", f"exec {HOG % (42, 1000)}")
        left = {name: of_files(of) for name, of in held.items()}
    finally:
        for b in boxes:
            b.send_signal(signal.SIGTERM)
            b.communicate(timeout=60)
    assert min(before.values()) >= 20 and min(left["low"], left["min"]) >= 19 and left["bare"] <= 12, (before, left)
    if within == "pod":  # and it is not what others have afterwards
        assert wait_until(lambda: (number(cgroup / "memory.low"), number(cgroup / "memory.min")) == (0, 0), 20)


def test_processes_processors_and_update(pods):
    cgroup = pods.pod("p", "--pids-limit", "60", "--cpus", "1.5")
    assert number(cgroup / "boxes/pids.max") == 60 and (cgroup / "cpu.max").read_text(encoding="ascii").split() == ["150000", "100000"]
    bomb = pods.python(FORKS, *BARE, "--pod", "p")
    assert bomb.rc == 3 and int(bomb.out) < 60 and re.search(r"^usbox: out of processes: the pod's limit 60, refused 1 time$", bomb.err, re.M), bomb
    own = pods.python(FORKS, *BARE, "--pod", "p", "--pids-limit", "20")
    assert (own.rc, int(own.out)) == (3, 19) and "limit 20 or the pod's limit 60" in own.err, own
    assert_refused(pods.run(*BARE, "--pod", "p", "--property", "MemoryHigh=1G", "--", "true"), "--property is for systemd", "usbox pod create")

    pods.sleeper("a", "--cpu-weight", "300")
    (box,) = boxes_of(cgroup)
    assert number(cgroup / "boxes" / box / "cpu.weight") == 300

    def look():
        return {s["name"]: s for s in pods.usbox("stats", "--json").json()}
    assert {n: s["kind"] for n, s in look().items()} == {"a": "box", "p": "pod"}
    # One is read after the other, and until the box sleeps its memory grows meanwhile.
    assert wait_until(lambda: (s := look())["p"]["memory"] > s["a"]["memory"] > 0, 20), look()
    stats = look()
    assert stats["p"]["pids_max"] == 60 and stats["p"]["pids"] > stats["a"]["pids"] >= 1, stats
    pods.usbox("update", "--memory", "256M", "--pids-limit", "70", "p", "a").ok()
    assert number(cgroup / "memory.max") == 256 << 20 and number(cgroup / "boxes/pids.max") == 70
    assert number(cgroup / "boxes" / box / "payload/pids.max") == 70

    pods.usbox("pause", "p").ok()
    assert "frozen 1" in (cgroup / "boxes" / box / "payload/cgroup.events").read_text(encoding="ascii")
    pods.usbox("unpause", "p").ok()
    assert pods.usbox("exec", "a", "--", "cat", "/sys/fs/cgroup/memory.max").ok().out == f"{256 << 20}\n"


def test_whoever_is_killed_nothing_is_left(pods):
    """no_scope_left looks, too."""
    cgroup = pods.pod("p", "--memory", "200M", "--share", "pid")
    for name in ("a", "b"):
        pods.sleeper(name)
    boxes = {b["name"]: b for b in pods.usbox("ps", "--json").json()}
    assert boxes_of(cgroup) == sorted(b["id"] for b in boxes.values())
    os.kill(boxes["a"]["launcher"], signal.SIGKILL)
    assert wait_until(lambda: boxes_of(cgroup) == [boxes["b"]["id"]], 20), boxes_of(cgroup)
    (scope,) = [int(p) for p in (cgroup / "boxes" / boxes["b"]["id"] / "helpers/cgroup.procs").read_text(encoding="ascii").split()
                if pathlib.Path(f"/proc/{p}/comm").read_text(encoding="ascii") == "usbox-scope\n"]
    os.kill(scope, signal.SIGKILL)
    assert wait_until(lambda: {b["name"]: b["state"] for b in pods.usbox("ps", "-a", "--json").json()}["b"] == "exited", 20)
    os.kill(pods.usbox("pod", "ps", "--json").json()[0]["launcher"], signal.SIGKILL)
    assert wait_until(lambda: not cgroup.exists(), 20), boxes_of(cgroup)


def test_in_a_cgroup_of_ones_own(pods):
    """Without systemd, and nothing of it is left."""
    usbox = os.environ["USBOX"]
    enter = 'mkdir $own/main && echo $$ >$own/main/cgroup.procs && exec "$@"'
    script = f"""
set -e
{usbox} pod create --network none --memory 90M p >/dev/null
{usbox} run --rm --overlay none --pod p --memory 40M --cpu-weight 50 -- sh -c 'cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.weight'
{usbox} run -d --name held --overlay none --pod p -- sleep 1000 >/dev/null
{usbox} update --memory 100M p
cat $own/usbox-*.scope/memory.max
{usbox} pod rm -f p
{usbox} rm -f held
ls -d $own/*/
"""
    env = {**pods.env, "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    result = subprocess.run(["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "sh", "-c",
                             f"own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); export own; {enter}", "sh", *without_systemd("sh", "-c", script)],
                            env=env, cwd=pods.dir, capture_output=True, text=True, timeout=300, check=False)
    lines = result.stdout.splitlines()
    assert lines[:4] == ["0::/", str(40 << 20), "50", str(100 << 20)] and len(lines) == 5 and lines[4].endswith("/main/"), result


# Of tests/attack. Into the pod's cgroup itself nobody comes, not even its owner: there are cgroups in it.
CHANGES = ("cgroup_make", "cgroup_limit", "cgroup_kill", "cgroup_delegate")
ESCAPES = ("cgroup_join", *CHANGES)


def test_no_box_reaches_its_cgroup(pods):
    """What its owner may do from outside, which proves the probes, is refused within: in a box alone, in the pod, to its root, to what is executed there later."""
    cgroup = pods.pod("p", "--memory", "128M")
    outside = subprocess.run([BUILD / "tests" / "attack" / "probe", "--with", f"cgroup={cgroup}", *CHANGES], capture_output=True, text=True, check=True)
    assert [line.split()[:2] for line in outside.stdout.splitlines()] == [[name, "ok"] for name in CHANGES]
    attack, said = ("--with", "cgroup=/sys/fs/cgroup", *ESCAPES), {}
    for user in ("self", "root"):
        limits = (*BARE, "--memory=64M", "--pids-limit=50", f"--user={user}")
        said[user] = pods.probe(*attack, options=(*limits, "--network=none"))
        said[user, "pod"] = pods.probe(*attack, options=(*limits, "--pod=p"))
    pods.sleeper("x", "--memory=64M")
    said["exec"] = dict(line.split(" ", 1) for line in pods.usbox("exec", "x", pods.probe_path, *attack).lines())
    assert all(set(of) == set(ESCAPES) for of in said.values()), said
    assert [(where, name) for where, of in said.items() for name, what in of.items() if what.startswith("ok")] == []
