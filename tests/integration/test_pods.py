# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pods: what their boxes share, what not, how pods end, what a box of a pod may not do to another one or to the pod."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import urllib.request

import pytest

from conftest import USBOX, assert_refused, has_subids, own_processes, wait_until

SERVER = r"""
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the server\n")
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
open("up", "w").close()
server.serve_forever()
"""

# SysV shared memory and a POSIX message queue, by the C library itself: argv is put or get.
IPC = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
put = sys.argv[1] == "put"
shm = libc.shmget(4711, 4096, 0o1600 if put else 0)
mq = libc.mq_open(b"/usbox-test", (os.O_RDWR | os.O_CREAT) if put else os.O_RDONLY | os.O_NONBLOCK, 0o600, None)
if shm < 0 or mq < 0:
    print("none", shm, mq)
    sys.exit(0)
at = libc.shmat(shm, None, 0)
if put:
    ctypes.memmove(at, b"by shm\0", 7)
    assert libc.mq_send(mq, b"by mq", 5, 0) == 0
else:
    buffer = ctypes.create_string_buffer(65536)
    n = libc.mq_receive(mq, buffer, 65536, None)
    print(ctypes.string_at(at).decode(), buffer.raw[:n].decode(), *os.listdir("/dev/mqueue"))
"""


@pytest.fixture
def pods(box):
    """box with pod(); pods, and boxes that are held, go at the end."""
    def pod(name, *options):
        return box.usbox("pod", "create", *options, name).ok().out.strip()

    def server(pod_name, name):
        box.usbox("run", "-d", "--name", name, "--pod", pod_name, "--", "/usr/bin/python3", "-c", SERVER).ok()
        assert wait_until(lambda: box.usbox("exec", name, "--", "test", "-e", "up").rc == 0, 20)

    box.pod, box.server = pod, server
    box.pods = lambda: {p["name"]: p for p in box.usbox("pod", "ps", "--json").json()}
    box.ps = lambda: {b["name"]: b for b in box.usbox("ps", "-a", "--json").json()}
    yield box
    for name in box.pods():
        box.usbox("pod", "rm", "-f", name).ok()
    for one in box.usbox("ps", "-a", "--json").json():
        if one["name"] or one.get("detached"):
            box.usbox("rm", "-f", one["id"]).ok()


def end_of(box, name):
    """How the box ended, once it has."""
    return wait_until(lambda: (b := box.ps().get(name)) and b["state"] == "exited" and b, 20)


def test_boxes_of_a_pod_meet_on_localhost(pods):
    pod_id = pods.pod("web", "-p", "127.0.0.1:0:8000")
    pods.server("web", "srv")
    out = pods.run("--rm", "--pod", "web", "--", "curl", "-sS", "http://localhost:8000/").ok().out
    assert out == "hello from the server\n"
    # A box that is not in it has a localhost of its own.
    assert pods.run("--rm", "--", "curl", "-s", "http://localhost:8000/").rc == 7
    # The port is the pod's, and leads to whichever box listens.
    (port,) = pods.usbox("port", "--json", "web").json()
    with urllib.request.urlopen(f"http://127.0.0.1:{port['host_port']}/", timeout=20) as answer:
        assert answer.read() == b"hello from the server\n"
    pods.usbox("net", "web", "publish", "127.0.0.1:0:8000").ok()
    assert len(pods.usbox("port", "web").lines()) == 2
    for verb in ("port", "net"):
        assert_refused(pods.usbox(verb, "srv"), "box srv has no network of its own", "hint: usbox %s web" % verb)

    facts = pods.ps()["srv"]
    assert (facts["pod"], facts["pod_id"], facts["network"]) == ("web", pod_id, "pod")
    assert set(pods.ps()) == {"srv"} | ({None} & set(pods.ps())), "a pod is not among the boxes"
    table = pods.usbox("ps").lines()
    assert "POD" in table[0].split() and "web" in table[1].split()
    assert (pods.pods()["web"]["boxes"], pods.pods()["web"]["state"]) == (1, "running")
    (inspected,) = pods.usbox("pod", "inspect", "web").json()
    assert inspected["boxes"] == [facts["id"]] and inspected["spec"]["network"]["publish"] == ["127.0.0.1:0:8000"]
    assert inspected == pods.usbox("inspect", "web").json()[0]
    starts = [json.loads(line) for line in pods.usbox("events", "--past", "--json").lines()]
    assert [e.get("kind") for e in starts if e["event"] == "start"][:2] == ["pod", None]


def test_ipc_and_host_name_are_shared(pods):
    pods.pod("p", "--hostname", "shared.example", "--sysctl", "kernel.shmmni=17", "--add-host", "db:127.0.0.1")
    pods.usbox("run", "-d", "--name", "holder", "--pod", "p", "--", "sleep", "1000").ok()
    assert pods.usbox("exec", "holder", "--", "/usr/bin/python3", "-c", IPC, "put").ok().out == ""
    assert pods.python(IPC.replace("sys.argv[1]", "'get'"), "--pod", "p").ok().out.split() == ["by", "shm", "by", "mq", "usbox-test"]
    assert pods.python(IPC.replace("sys.argv[1]", "'get'")).ok().out.startswith("none -1 -1")
    out = pods.sh("hostname; cat /etc/hostname; cat /proc/sys/kernel/shmmni; getent hosts db; readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts",
                  "--pod", "p").lines()
    assert out[:3] == ["shared.example", "shared.example", "17"] and out[3].split() == ["127.0.0.1", "db"]
    assert pods.usbox("exec", "holder", "--", "readlink", *[f"/proc/self/ns/{ns}" for ns in ("net", "ipc", "uts")]).lines() == out[4:]


def test_all_else_is_each_boxs_own(pods):
    pods.pod("p")
    for name in ("one", "two"):
        pods.usbox("run", "-d", "--name", name, "--pod", "p", "--", "sh", "-c", f"echo {name} >file; echo {name} >/tmp/file; exec sleep 1000").ok()
        assert wait_until(lambda: pods.usbox("exec", name, "--", "cat", "/tmp/file").out == f"{name}\n", 20)
        assert pods.usbox("exec", name, "--", "cat", "file").out == f"{name}\n"
    def links(name):
        return pods.usbox("exec", name, "--", "readlink", *[f"/proc/self/ns/{ns}" for ns in ("user", "mnt", "pid", "time", "cgroup")]).lines()
    assert not set(links("one")) & set(links("two"))
    seen = pods.usbox("exec", "two", "--", "sh", "-c", "cat /proc/[0-9]*/comm").lines()
    assert seen.count("sleep") == 1 and "usbox-pause" not in seen and seen.count("usbox-init") == 1


def test_each_box_has_its_own_ids_and_rights(pods, subids):
    uid, gid = os.getuid(), os.getgid()
    first = next(int(line.split(":")[1]) for line in open("/etc/subuid", encoding="utf-8") if line.split(":")[0] in (pods.env["USER"], str(uid)))
    pods.pod("p")
    script = "id -u; id -g; cat /proc/self/uid_map; stat -c %u /etc/passwd; touch x && stat -c %u x; grep CapEff /proc/self/status"

    def ids(*options):
        return [line.split() for line in pods.sh(script, "--pod", "p", *options).lines()]
    other = ["-u", "33", "-w", "/tmp"]  # to whom the working directory is closed
    assert ids("-u", "root")[:2] == [["0"], ["0"]]
    assert ids(*other)[:2] == [["33"], ["33"]]
    assert ids("--userns", "self", "--overlay", "kernel")[2] == [str(uid), str(uid), "1"]
    maps = ids("--uidmap", f"0:{first}:100", "--uidmap", f"1000:{uid}:1", "--gidmap", f"0:{first}:100", "--gidmap", f"1000:{gid}:1", "-u", "1000:1000")
    assert maps[:2] == [["1000"], ["1000"]] and maps[2:4] == [["0", "0", "100"], ["1000", "1000", "1"]]
    # In nobody's box is a capability, but for what root's has within its own user namespace.
    assert ids(*other)[-1] == ["CapEff:", "0" * 16]


ATTACKS = r"""
ip link set lo down; ip link set tap0 down; ip addr add 1.2.3.4/32 dev lo; ip route add 5.6.7.0/24 dev lo; ip route del default
ip link add d0 type dummy; hostname mine; echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/kernel/shmmni
mount -t sysfs none /mnt; mount -t mqueue none /mnt; mount -o remount,rw /sys; nsenter -t 1 -n true; kill -9 -1
"""


@pytest.mark.slice
@pytest.mark.parametrize("user", ["self", "root"])
def test_a_box_does_nothing_to_the_pod_or_its_boxes(pods, user):
    if user == "root" and not has_subids():
        user = "self"
    pods.pod("p", "--hostname", "whole")
    pods.server("p", "srv")

    def look():  # not at the addresses that the kernel makes of its own accord, a moment later
        return pods.usbox("exec", "srv", "--", "sh", "-c", "ip link; ip addr show permanent; ip route; hostname; "
                          "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni").ok().out

    assert wait_until(lambda: "tentative" not in look(), 20)
    before = look()
    caps = ["--cap-add", "ALL", "--seccomp", "off"] if user == "root" else []
    attack = pods.run("--rm", "--pod", "p", "-u", user, *caps, "--", "sh", "-c", ATTACKS + "echo done")
    assert attack.rc in (0, 137), attack
    packet = "import socket\nfor args in [(socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW, 1)]:\n" \
             "    try:\n        socket.socket(*args)\n        print('open')\n    except OSError as e:\n        print(e.errno)"
    assert set(pods.python(packet, "--pod", "p", "-u", user, *caps).lines()) <= {"1", "97"}  # of the kernel, and of the filter
    assert look() == before
    assert pods.run("--rm", "--pod", "p", "--", "curl", "-sS", "http://localhost:8000/").ok().out == "hello from the server\n"


def test_the_pods_processes_are_out_of_reach(pods):
    """With the host's pids in sight: the same user's, and yet nothing of another box or of what holds the pod may be looked into or traced."""
    pods.pod("p")
    pods.usbox("run", "-d", "--name", "other", "--pod", "p", "--", "sleep", "1000").ok()
    targets = [pods.pods()["p"]["pid"], pods.usbox("inspect", "p").json()[0]["init"], pods.ps()["other"]["pid"]]
    for pid in targets[:2]:  # what holds the pod has no right to anything itself
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
        rights = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")]
        assert rights == ["0" * 16] * 5 + ["1", "2"], (pid, rights)
    targets = [str(pid) for pid in targets]
    script = "import os, sys\nfor pid in sys.argv[1:]:\n    for name in ('root', 'cwd', 'exe', 'fd/0', 'mem', 'environ', 'ns/net'):\n        path = f'/proc/{pid}/{name}'\n" \
             "        try:\n            open(path, 'rb').read(1) if name in ('mem', 'environ') else os.readlink(path)\n" \
             "            print('reached', path)\n        except OSError as e:\n            assert e.errno in (1, 13), (path, e)\nprint('all closed')"
    out = pods.run("--rm", "--pod", "p", "--pid", "host", "--", "/usr/bin/python3", "-c", script, *targets).lines()
    assert out == ["all closed"]


def test_policy_is_the_pods(pods):
    pods.pod("closed", "--allow", "192.0.2.7:80")
    script = "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), 20)\nexcept OSError as e:\n    print(e.errno)"
    assert int(pods.python(script, "--pod", "closed").lines()[0]) in (13, 101, 111, 113)
    flows = pods.usbox("net", "closed", "--json").json()
    assert [f for f in flows["ended"] if "192.0.2.1" in f["to"] and f["denied"] > 0], flows
    pods.usbox("net", "closed", "deny", "a.example").ok()
    # The host's loopback is closed as it is to a box by itself.
    with socket.create_server(("127.0.0.1", 0)) as host:
        knock = f"import socket\ntry:\n    socket.create_connection(('10.0.2.2', {host.getsockname()[1]}), 20)\n    print('in')\nexcept OSError:\n    print('closed')"
        assert pods.python(knock, "--pod", "closed").lines() == ["closed"]


def test_stats_of_a_box_have_the_pods_network(pods):
    pods.pod("web", "-p", "127.0.0.1:0:8000")
    pods.server("web", "srv")
    (port,) = pods.usbox("port", "--json", "web").json()
    assert urllib.request.urlopen(f"http://127.0.0.1:{port['host_port']}/", timeout=20).read() == b"hello from the server\n"
    (stats,) = pods.usbox("stats", "--json", "srv").json()
    assert stats["net_received"] > 50 and stats["net_sent"] > 50 and stats["net_flows"] is not None, stats


def test_a_pod_without_network(pods):
    pods.pod("quiet", "--network", "none")
    pods.server("quiet", "srv")
    assert pods.run("--rm", "--pod", "quiet", "--", "curl", "-sS", "http://127.0.0.1:8000/").ok().out == "hello from the server\n"
    assert pods.sh("ls /sys/class/net", "--pod", "quiet").lines() == ["lo"]
    assert_refused(pods.usbox("net", "quiet", "deny", "any"), "no network", "--network user")


def test_without_limits_there_is_nothing_to_change(pods):
    pods.pod("p", "--network", "none")
    for verb in (["update", "--memory", "64M"], ["stats"]):
        assert_refused(pods.usbox(*verb, "p"), "pod", "has no cgroup of its own", "created with a limit")


def test_stop_ends_the_boxes_kindly_first(pods):
    pods.pod("p")
    pods.usbox("run", "-d", "--name", "kind", "--pod", "p", "--", "sh", "-c", "trap 'echo bye >bye; exit 3' TERM; echo >up; while :; do sleep 0.05; done").ok()
    assert wait_until(lambda: pods.usbox("exec", "kind", "--", "test", "-e", "up").rc == 0, 20)
    assert_refused(pods.usbox("pod", "rm", "p"), "pod p has 1 box that runs", "usbox pod stop p")
    pods.usbox("pod", "stop", "p").ok()
    assert pods.pods() == {}
    ended = end_of(pods, "kind")
    assert ended["status"] == 3 and (pathlib.Path(ended["directory"]) / "upper").is_dir()
    assert_refused(pods.run("--pod", "p", "--", "true"), "no pod 'p'", "usbox pod create")


def test_stop_kills_what_does_not_end(pods):
    pods.pod("p")
    pods.usbox("run", "-d", "--name", "deaf", "--pod", "p", "--", "sh", "-c", "trap '' TERM; echo >up; while :; do sleep 0.05; done").ok()
    assert wait_until(lambda: pods.usbox("exec", "deaf", "--", "test", "-e", "up").rc == 0, 20)
    pods.usbox("pod", "stop", "-t", "0", "p").ok()
    assert end_of(pods, "deaf")["status"] == 137


def test_stop_tells_all_of_them_first(pods):
    """The first one's box ends when the second's has heard of it, and would be killed if that came after it."""
    shared = pods.dir / "shared"
    shared.mkdir()
    for name, script in (("one", "trap 'while [ ! -e told ]; do sleep 0.05; done; exit 3' TERM"), ("two", "trap '>told; exit 4' TERM")):
        pods.pod(name, "--network=none")
        pods.usbox("run", "-d", "--name", f"in-{name}", "--pod", name, "--rw", shared, "-w", shared, "--", "sh", "-c",
                   f"{script}; >up-{name}; while :; do sleep 0.05; done").ok()
        assert wait_until((shared / f"up-{name}").exists, 60)
    pods.usbox("pod", "stop", "-t", "60", "one", "two", timeout=300).ok()
    assert pods.pods() == {}
    assert [end_of(pods, f"in-{name}")["status"] for name in ("one", "two")] == [3, 4]


@pytest.mark.parametrize("verb", [["stop", "-t", "0"], ["rm"], ["rm", "-f"]], ids=" ".join)
def test_verbs_go_on_behind_a_pod_that_is_not_there(pods, verb):
    for name in ("one", "two"):
        pods.pod(name, "--network=none")
    result = pods.usbox("pod", *verb, "one", "nobody", "two", "nothing")
    assert result.rc == 125 and "no pod 'nobody'" in result.err and "no pod 'nothing'" in result.err, result
    assert pods.pods() == {}


def test_rm_by_force_and_of_an_empty_one(pods):
    pods.pod("p")
    pods.usbox("pod", "rm", "p").ok()
    assert pods.pods() == {}
    pods.pod("p")
    foreground = pods.popen("run", "--rm", "--pod", "p", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert foreground.stdout.readline() == b"up\n"
    pods.usbox("pod", "rm", "-f", "p").ok()
    foreground.communicate(timeout=60)
    assert foreground.returncode in (137, 143) and pods.pods() == {}  # by KILL, or by the TERM before it


def test_a_name_as_other_tools_give_it(pods):
    pods.usbox("pod", "create", "--name", "p", "--network=none").ok()
    assert pods.pods()["p"]["state"] == "running"
    assert_refused(pods.usbox("pod", "create", "--name", "q", "r"), "one word too many")
    assert_refused(pods.usbox("pod", "ps", "--name", "p"), "--name is not for it")


def test_a_pod_may_end_with_its_last_box(pods):
    pods.pod("p", "--rm")
    assert pods.pods()["p"]["boxes"] == 0
    first = pods.popen("run", "--rm", "--pod", "p", "--", "sh", "-c", "echo up; read line", stdin=subprocess.PIPE)
    assert first.stdout.readline() == b"up\n"
    pods.run("--rm", "--pod", "p", "--", "true").ok()
    assert "p" in pods.pods()
    first.communicate(b"\n", timeout=60)
    assert wait_until(lambda: pods.pods() == {}, 20)
    # One whose launcher was killed has left, too.
    pods.pod("q", "--rm")
    second = pods.popen("run", "--rm", "--pod", "q", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert second.stdout.readline() == b"up\n"
    assert wait_until(lambda: pods.pods()["q"]["boxes"] == 1, 20)
    second.kill()
    second.communicate()
    assert wait_until(lambda: pods.pods() == {}, 20)


def test_a_killed_pod_is_dead_and_its_boxes_end(pods):
    pods.pod("p")
    pods.usbox("run", "-d", "--name", "orphan", "--pod", "p", "--", "sleep", "1000").ok()
    os.kill(pods.pods()["p"]["launcher"], signal.SIGKILL)
    ended = end_of(pods, "orphan")
    assert ended["status"] == 125 and "the pod has ended" in ended["error"]
    assert wait_until(lambda: pods.pods()["p"]["state"] == "dead", 20)
    assert_refused(pods.run("--pod", "p", "--", "true"), "pod p is dead", "usbox pod rm p")
    assert_refused(pods.usbox("pod", "create", "p"), "which is dead", "usbox pod rm p")
    assert_refused(pods.run("--name", "p", "--", "true"), "dead pod", "usbox pod rm")
    pods.usbox("pod", "rm", "p").ok()
    pods.pod("p")


def test_a_killed_pause_process_ends_the_pod(pods):
    pods.pod("p")
    pods.usbox("run", "-d", "--name", "left", "--pod", "p", "--", "sleep", "1000").ok()
    os.kill(pods.pods()["p"]["pid"], signal.SIGKILL)
    assert end_of(pods, "left")["status"] == 125
    assert wait_until(lambda: pods.pods() == {}, 20)


# Who runs in the pod, by name, as one of its boxes sees it; and what of a process may be looked into.
WHO = r"""
import json, os
found = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[:-1]
    except OSError:
        continue
    if line and not line[0].startswith(b"usbox-") and int(pid) != os.getpid():
        found[b" ".join(line).decode()] = pid
print(json.dumps(found))
"""
TRACE = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for pid in map(int, sys.argv[1:]):
    for name in ("root", "cwd", "exe", "fd/0", "mem", "environ", "ns/net", "maps"):
        try:
            open(f"/proc/{pid}/{name}", "rb").read(1)
            print("reached", name)
        except OSError as e:
            assert e.errno in (1, 13), (name, e)
    assert libc.ptrace(16, pid, None, None) == -1 and ctypes.get_errno() == 1, "ptrace"
print("closed")
"""


def who(pods, pod_name="p"):
    """Processes of the pod beside those that hold it and the one that looks: name → pid."""
    return pods.python(WHO, "--pod", pod_name).json()


def test_shared_processes(pods):
    pods.pod("p", "--share", "pid")
    pods.usbox("run", "-d", "--name", "a", "--pod", "p", "--", "sleep", "1111").ok()
    pods.usbox("run", "-d", "--name", "b", "--pod", "p", "--", "sleep", "2222").ok()
    seen = who(pods)
    assert set(seen) == {"sleep 1111", "sleep 2222"}
    pods.usbox("exec", "-d", "a", "sleep", "3333").ok()
    assert sorted(p["command"] for p in pods.usbox("top", "--json", "a").json()) == ["sleep 1111", "sleep 3333"]
    pods.usbox("exec", "a", "pkill", "-xf", "sleep 3333").ok()
    assert wait_until(lambda: len(who(pods)) == 2)
    # The same processes with the same numbers, from everywhere in the pod; and the same user's, so a signal may be sent.
    out = pods.usbox("exec", "a", "--", "cat", f"/proc/{seen['sleep 2222']}/cmdline").ok().out
    assert out == "sleep\0" + "2222\0"
    # More than that is not shared: nothing of another box may be looked into, nor of what holds the pod.
    for user in ("self", "root") if has_subids() else ("self",):
        caps = ["--cap-add", "ALL", "--seccomp", "off", "-u", user] if user == "root" else []
        assert pods.run("--rm", "--pod", "p", *caps, "--", "/usr/bin/python3", "-c", TRACE, "1", "2", *seen.values()).lines() == ["closed"]
    pods.usbox("exec", "a", "--", "kill", "-TERM", seen["sleep 2222"]).ok()
    assert end_of(pods, "b")["status"] == 143
    assert set(who(pods)) == {"sleep 1111"}
    assert pods.usbox("pod", "inspect", "p").json()[0]["spec"]["box"]["share_pid"] is True


READER = r"""
import os
seen = set()
open('/tmp/reading', 'w').close()
while not os.path.exists('/tmp/stop'):
    for p in filter(str.isdigit, os.listdir('/proc')):
        try:
            if p != str(os.getpid()):
                seen.add(open(f'/proc/{p}/cmdline', 'rb').read())
        except OSError:
            pass
    if any(b'/true' in x for x in seen):
        open('/tmp/seen', 'w').close()
print(any(b'TOKEN' in x for x in seen))
"""


def test_another_boxs_options_are_not_seen_while_it_starts(pods):
    pods.pod("p", "--share", "pid")
    pods.usbox("run", "-d", "--name", "a", "--pod", "p", "--", "/usr/bin/python3", "-c", READER).ok()
    assert wait_until(lambda: pods.usbox("exec", "a", "--", "test", "-e", "/tmp/reading").rc == 0, 30)
    for _ in range(12):
        pods.run("--rm", "--pod", "p", "-e", "TOKEN=s3cr3t", "--", "/usr/bin/true").ok()
    # They may have been too short to be seen at all; this one is there until it has been.
    last = pods.popen("run", "--rm", "--pod", "p", "-e", "TOKEN=s3cr3t", "--", "sh", "-c", "read line", "/true", stdin=subprocess.PIPE)
    assert wait_until(lambda: pods.usbox("exec", "a", "--", "test", "-e", "/tmp/seen").rc == 0)
    last.communicate(b"\n", timeout=60)
    pods.usbox("exec", "a", "touch", "/tmp/stop").ok()
    pods.usbox("wait", "a").ok()
    assert pods.usbox("logs", "a").ok().lines() == ["False"]


STOPPER = r"""
import os
print("ready", flush=True)
while True:
    try:
        os.kill(os.getpid() + 1, 19)
        break
    except ProcessLookupError:
        pass
"""


def test_a_box_that_stops_what_starts_another_does_not_hold_its_launcher(pods):
    """The next pid is known; its process is stopped as soon as it is there: the one that mounts the pod's proc, or else init."""
    pods.pod("p", "--share", "pid")
    for _ in range(6):
        pods.usbox("run", "-d", "--name", "a", "--pod", "p", "--", "/usr/bin/python3", "-c", STOPPER).ok()
        assert wait_until(lambda: pods.usbox("logs", "a").out == "ready\n", 30)
        with subprocess.Popen([USBOX, "run", "--rm", "--pod", "p", "--", "true"], env=pods.env, cwd=pods.dir, stderr=subprocess.PIPE, text=True) as run:
            try:
                err = run.communicate(timeout=2)[1]
                assert run.returncode == 0 or "another process of the pod has stopped" in err, err
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGINT)
                run.communicate(timeout=60)
            finally:
                run.kill()
        pods.usbox("rm", "-f", "a").ok()


KILLER = r"""
import os
print("ready", flush=True)
next_pid = os.getpid() + 1
while True:
    for pid in range(next_pid, next_pid + 40):
        try:
            os.kill(pid, 9)
            next_pid = pid
        except ProcessLookupError:
            pass
"""


def test_a_box_that_kills_what_starts_another(pods):
    """At whatever moment that is: whoever is left says what has happened."""
    pods.pod("p", "--share", "pid", "--network", "none")
    pods.usbox("run", "-d", "--name", "a", "--pod", "p", "--", "/usr/bin/python3", "-c", KILLER).ok()
    assert wait_until(lambda: pods.usbox("logs", "a").out == "ready\n", 30)
    for _ in range(24):
        run = pods.run("--rm", "--overlay", "none", "--pod", "p", "--", "true")
        assert run.rc in (0, 137) or (run.rc == 125 and run.err.startswith("usbox: ") and "the maker of" not in run.err), run
    pods.usbox("rm", "-f", "a").ok()


LEAVE = "setsid sleep 3001 & (sleep 3002 &) ; "


@pytest.mark.parametrize("end", ["by itself", "stop", "stopped init", "killed init", "killed launcher", "exec"])
def test_no_process_of_a_box_is_left_in_the_pod(pods, end):
    pods.pod("p", "--share", "pid")
    script = {"by itself": "sleep 1; exit 7", "stopped init": "kill -STOP $PPID; exec sleep 3000"}.get(end, "exec sleep 3000")
    pods.usbox("run", "-d", "--name", "a", "--pod", "p", "--", "sh", "-c", LEAVE + script).ok()
    if end == "exec":
        pods.usbox("exec", "a", "--", "sh", "-c", "setsid sleep 3003 >/dev/null 2>&1 &").ok()
        assert wait_until(lambda: "sleep 3003" in who(pods), 20)
    if end != "by itself":
        assert wait_until(lambda: {"sleep 3000", "sleep 3001", "sleep 3002"} <= set(who(pods)), 20)
    if end in ("stop", "stopped init", "exec"):
        pods.usbox("stop", "-t", "1", "a").ok()
    elif end == "killed init":
        pods.python(f"import os; os.kill({pods.usbox('exec', 'a', '--', 'sh', '-c', 'grep PPid /proc/$(pgrep -f ^sleep.3000)/status').ok().out.split()[1]}, 9)",
                    "--pod", "p").ok()
    elif end == "killed launcher":
        os.kill(pods.ps()["a"]["launcher"], signal.SIGKILL)
        assert wait_until(lambda: pods.ps()["a"]["state"] == "dead", 20)
    assert wait_until(lambda: pods.ps()["a"]["state"] in ("exited", "dead"), 40)
    assert wait_until(lambda: who(pods) == {}, 20), who(pods)
    if end == "killed init":
        assert pods.ps()["a"]["status"] == 125 and "init was killed" in pods.ps()["a"]["error"]
    assert pods.pods()["p"]["state"] == "running"


def test_a_pod_ends_where_nobody_reaps_orphans(pods):
    """Here it is this process that adopts what a killed launcher leaves, and it reaps nothing, like the first process of many a container."""
    before = set(own_processes())
    pods.pod("p", "--share", "pid")
    for name in ("a", "b"):
        pods.usbox("run", "-d", "--name", name, "--pod", "p", "--", "sleep", "1000").ok()
        pods.usbox("exec", "-d", name, "sleep", "1000").ok()
    for name in ("a", "b"):
        os.kill(pods.ps()[name]["launcher"], signal.SIGKILL)
    pods.usbox("pod", "rm", "-f", "p").ok()
    assert wait_until(lambda: not set(own_processes()) - before, 20), own_processes()


def test_what_needs_processes_of_its_own(pods):
    pods.pod("p", "--share", "pid")
    for options in (["--nested"], ["--pid", "host"], ["--mount", "type=proc,dst=/p"]):
        assert_refused(pods.run("--pod", "p", *options, "--", "true"), options[0], "share their processes", "without --share pid")
    assert_refused(pods.usbox("pod", "create", "--share", "net", "q"), "--share 'net'", "in any case")


def test_names_are_either_a_boxs_or_a_pods(pods):
    pods.run("--name", "box", "--", "sh", "-c", "echo mine >file").ok()
    assert_refused(pods.usbox("pod", "create", "box"), "box box", "usbox rm box")
    assert pods.usbox("diff", "box").out, "what the box changed is still there"
    pods.pod("p")
    assert_refused(pods.usbox("pod", "create", "p"), "pod p", "usbox pod rm -f p")
    assert_refused(pods.run("--name", "p", "--", "true"), "p", "usbox pod stop p")
    for verb in (["exec", "p", "--", "true"], ["diff", "p"], ["commit", "p"], ["rm", "p"], ["kill", "p"], ["logs", "p"]):
        assert_refused(pods.usbox(*verb), "p is a pod, not a box")
    assert_refused(pods.run("--pod", "box", "--", "true"), "box is a box, not a pod", hint=False)
    # A profile's --network=none is not the pod's, but it can be taken back.
    assert_refused(pods.run("--pod", "p", "--profile", "build", "--", "true"), "--network and --pod", "--network pod behind --profile")
    assert pods.run("--rm", "--pod", "p", "--profile", "build", "--network", "pod", "--", "hostname").ok().out == "p\n"
    assert pods.usbox("pod", "ps", "-q").lines() == ["p"] and pods.usbox("ps", "-aq").lines() == ["box"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "last", "a b", "\x1b[31m", "0123456789ab", "x" * 65, "a\nb"])
def test_hostile_names(no_kept, name):
    for result in (no_kept.usbox("pod", "create", "--", name), no_kept.run("--pod", name, "--", "true"), no_kept.usbox("pod", "rm", "--", name)):
        assert_refused(result, hint=False)
        assert "\x1b" not in result.err
    assert not no_kept.boxes.exists() or not os.listdir(no_kept.boxes)


@pytest.mark.parametrize("options", [
    ["--network", "none"], ["--network", "host"], ["-p", "1:1"], ["--allow", "any"], ["--deny", "host"], ["--dns", "1.1.1.1"], ["--add-host", "a:1.1.1.1"],
    ["--expose-host", "1"], ["--hostname", "x"], ["--sysctl", "kernel.shmmni=1"], ["--net-rate", "1M"], ["--no-ipv6"]])
def test_what_is_the_pods_is_not_its_boxes(box, options):
    result = box.run("--pod", "p", *options, "--", "true")
    assert_refused(result, " and --pod", "usbox pod create")


def test_other_refusals(box):
    assert_refused(box.run("--network", "pod", "--", "true"), "without a pod")
    assert_refused(box.run("--pod", "p", "--ipc", "host", "--", "true"), "--ipc=host and --pod", hint=False)
    assert_refused(box.run("--pod", "p", "--mount", "type=mqueue,dst=/q", "--", "true"), "message queues are the pod's")
    assert_refused(box.usbox("pod", "create", "--network", "host", "p"), "--network=host is not for a pod")
    assert_refused(box.usbox("pod", "create", "p", "q"), "'q' is one word too many")
    assert_refused(box.usbox("pod", "frob"), "'frob'", "usbox help pod")
    assert_refused(box.usbox("pod", "rm", "--publish", "1:1", "p"), "--publish is not for it")
    assert box.usbox("pod", "create", "--help").ok().out == box.usbox("help", "pod").ok().out
    assert box.usbox("help", "pod", "create").ok().out == box.usbox("help", "pod").ok().out
    assert_refused(box.usbox("help", "pod", "create", "x"), "no verb 'x'", "usbox help")
    assert_refused(box.usbox("help", "ps", "pod"), "no verb 'pod'", "usbox help")
    for words in ([], ["create"], ["stop"]):
        assert_refused(box.usbox("pod", *words), "something is missing", "hint: usbox pod create [OPTION...] POD | ")


def start_in_pod(pods, n):
    started = [pods.popen("run", "--rm", "--overlay", "none", "--pod", "p", "--", "sh", "-c", "echo up; exec sleep 1000") for _ in range(n)]
    for one in started:
        assert one.stdout.readline() == b"up\n", one.stderr.read()
    return started


def end_pod(pods, started):
    pods.usbox("pod", "stop", "-t", "0", "p", timeout=120).ok()
    for one in started:
        one.communicate(timeout=60)


@pytest.mark.parametrize("options", ([], ["--share", "pid"]), ids=["", "pid"])
def test_many_boxes_in_a_pod(pods, options):
    """More than the control socket has places for verbs; those are free for verbs all the same."""
    pods.pod("p", "--network", "none", *options)
    started = start_in_pod(pods, 50)
    assert wait_until(lambda: pods.pods()["p"]["boxes"] == 50, 20)  # they are shown beside their commands' exec
    assert len(pods.usbox("pod", "inspect", "p").json()[0]["boxes"]) == 50
    end_pod(pods, started)


def test_a_box_in_a_pod_that_is_full(pods):
    """Its bound is what the pod's launcher may have open."""
    argv = ["prlimit", "--nofile=160", "--", USBOX, "pod", "create", "--network", "none", "p"]
    subprocess.run(argv, env=pods.env, cwd=pods.dir, check=True, stdout=subprocess.DEVNULL)
    started = []
    while (refused := pods.run("--rm", "--overlay", "none", "--pod", "p", "--", "true")).rc == 0 and len(started) < 33:
        started += start_in_pod(pods, 1)
    assert_refused(refused, f"the pod has {len(started)} boxes: Too many open files", "hint: each is an open file of the pod's launcher", "may have 160 ")
    assert started
    end_pod(pods, started)


def test_a_profile_gives_a_pod_what_is_a_pods(box):
    profile = box.dir / "p.conf"
    profile.write_text("[usbox]\nallow=example.org:443;\nmtu=1400\nuser=root\nread-only=true\nrw=/srv;\nhostname=shared\nulimit=core=0;\n", encoding="utf-8")
    profile.chmod(0o600)
    spec = box.usbox("pod", "create", "--dry-run", "--mtu", "1300", "--profile", profile, "p").ok().out
    assert "example.org:443" in spec and "1300" in spec and "shared" in spec and "/srv" not in spec and "read-only" not in spec, spec
    assert_refused(box.usbox("pod", "create", "--profile", "nonesuch", "p"), "nonesuch")
    for argv in (["--profile", profile, "--deny", "example.org"], ["--deny", "example.org", "--profile", profile]):
        rules = box.usbox("pod", "create", "--dry-run", *argv, "p").ok().out
        assert 0 < rules.index("deny example.org") < rules.index("allow example.org:443"), rules  # the command line's come first, as in run


def test_dry_run(box):
    described = box.run("--pod", "p", "--dry-run=json", "--", "true").json()
    assert described["box"]["pod"] == "p" and described["network"]["network"] == "pod"
    assert (described["namespaces"]["ipc"], described["namespaces"]["uts"], described["namespaces"]["pid"]) == ("pod", "pod", "private")
    assert "hostname" not in described["namespaces"]
    assert "p:1" not in box.usbox("pod", "create", "--dry-run", "-p", "0:1", "p").ok().out
