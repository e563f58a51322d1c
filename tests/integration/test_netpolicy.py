# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may leave a box: --allow and --deny by address and by name, the box's resolver, --net-log, the word after the run."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import TOP, USBOX, assert_refused, cannot, wait_until
from no_launcher import no_launcher  # tests/lib

# connect PORT TARGET...: what came of it, and whether it came at once.
CONNECT = """
import socket, sys, time
for target in sys.argv[2:]:
    start = time.monotonic()
    try:
        socket.create_connection((target, int(sys.argv[1])), 10).close()
        result = "open"
    except socket.gaierror:
        result = "unknown"
    except OSError as e:
        result = type(e).__name__
    print(target, result, "late" if time.monotonic() - start > 4 else "")
"""

# ask NAME TYPE [tcp]: the answer's code, whether it is whole, and its addresses; without a resolver library in between.
ASK = """
import socket, struct, sys
name, kind, tcp = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
q = struct.pack("!HHHHHH", 0x1234, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\\0" + struct.pack("!HH", kind, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
s.settimeout(15)
s.connect(("10.0.2.3", 53))
s.sendall(struct.pack("!H", len(q)) + q if tcp else q)
if tcp:
    f = s.makefile("rb")
    a = f.read(struct.unpack("!H", f.read(2))[0])
else:
    a = s.recv(65536)
assert a[:2] == q[:2] and a[12:len(q)] == q[12:], "the question comes back as it was asked"
print(a[3] & 15, "cut" if a[2] & 2 else "whole", struct.unpack("!H", a[6:8])[0], len(a))
"""


def connect(box, port, targets, *options):
    out = box.usbox("run", "--rm", *options, "--", "/usr/bin/python3", "-c", CONNECT, str(port), *targets).lines()
    assert not [line for line in out if line.endswith("late")], out
    return [line.split()[1] for line in out]


def ask(box, name, kind, *more, options=()):
    return box.usbox("run", "--rm", *options, "--", "/usr/bin/python3", "-c", ASK, name, str(kind), *more).ok().out.split()


@pytest.fixture(scope="session")
def dnsmasq(peer6):
    return peer6.rpartition("::")[0] + "::53"


def log_of(box):
    return [json.loads(line) for line in (box.top / "net.log").read_text().splitlines()]


@pytest.mark.parametrize("path", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_rules_by_address(box, peer, peer6, path):
    assert connect(box, 80, [peer, peer6], f"--allow={peer}:80", *path) == ["open", "ConnectionRefusedError"]
    assert connect(box, 80, [peer, peer6], f"--allow=[{peer6}]:80/tcp", *path) == ["ConnectionRefusedError", "open"]
    assert connect(box, 7, [peer, peer6], f"--deny={peer}/32:7", f"--allow={peer}", *path) == ["ConnectionRefusedError"] * 2
    assert connect(box, 7, [peer, peer6], "--deny=[2001:db8::/32]:7", "--allow=any:7", *path) == ["open", "ConnectionRefusedError"]


def test_the_command_lines_rules_come_before_a_profiles(box, peer):
    profile = box.write("p.conf", f"[usbox]\nallow={peer}:80;{peer}:7\n", 0o600)
    assert connect(box, 80, [peer], f"--profile={profile}") == ["open"]
    assert connect(box, 80, [peer], f"--profile={profile}", f"--deny={peer}:80") == ["ConnectionRefusedError"]


@pytest.mark.slice
def test_rules_by_name(box, peer, peer6, dnsmasq):
    """The address is closed until this box's own DNS has given it for the name; the port counts; v4 and v6."""
    options = [f"--dns={dnsmasq}", "--allow=www.named.test:80"]
    assert connect(box, 80, [peer, peer6, "www.named.test", peer, peer6], *options) == ["ConnectionRefusedError"] * 2 + ["open"] * 3
    assert connect(box, 7, ["www.named.test"], *options) == ["ConnectionRefusedError"]
    assert connect(box, 80, ["named.test", "target.test"], *options) == ["unknown"] * 2


def test_names_in_any_spelling(box, dnsmasq):
    options = [f"--dns={dnsmasq}", "--allow=WWW.Named.test.", "--allow=xn--bcher-kva.test"]
    assert connect(box, 80, ["www.named.test", "wWw.nAmEd.TEST", "www.named.test.", "xn--bcher-kva.test"], *options) == ["open"] * 4


def test_wildcards_are_of_what_is_below(box, dnsmasq):
    names = ["www.named.test", "deep.sub.named.test", "named.test", "target.test"]
    assert connect(box, 80, names, f"--dns={dnsmasq}", "--allow=*.named.test") == ["open", "open", "unknown", "unknown"]


def test_aliases(box, peer, dnsmasq):
    """Who asks for an allowed name gets where its aliases lead; who asks for a name that leads to an allowed one does not."""
    assert connect(box, 80, ["alias.test"], f"--dns={dnsmasq}", "--allow=alias.test") == ["open"]
    assert connect(box, 80, ["alias.test", peer], f"--dns={dnsmasq}", "--allow=target.test") == ["unknown", "ConnectionRefusedError"]
    assert connect(box, 80, ["alias.test", "www.named.test"], f"--dns={dnsmasq}", "--deny=target.test")[0] == "ConnectionRefusedError"


@pytest.fixture
def server():
    """On every address of the host."""
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", 0))
    s.listen(64)

    def accept():
        while True:
            try:
                s.accept()[0].close()
            except OSError:
                return
    threading.Thread(target=accept, daemon=True).start()
    yield s.getsockname()[1]
    s.shutdown(socket.SHUT_RDWR)
    s.close()


def test_rebinding_stays_closed(box, server, dnsmasq):
    """Whoever owns an allowed name may not lead the box to the user's own: not to the host, the LAN, the metadata service."""
    names = [f"{x}.rebind.test" for x in ("gateway", "private", "lan", "local", "metadata", "unique", "any", "mapped")]
    results = connect(box, server, names, f"--dns={dnsmasq}", "--allow=*.rebind.test", "--net-log", box.top / "net.log")
    assert "open" not in results, results
    denied = {x["name"] for x in log_of(box) if x["event"] == "denied" and x["reason"] == "rebinding"}
    # 0.0.0.0 and ::ffff:127.0.0.1 are the box's own loopback to the box's kernel: they never come here.
    assert denied == {f"{x}.rebind.test" for x in ("gateway", "private", "lan", "local", "metadata", "unique")}
    assert connect(box, server, ["gateway.rebind.test"], f"--dns={dnsmasq}", "--allow=*.rebind.test", "--allow=host") == ["open"]


def test_the_host_opens_by_its_class_alone(box, server):
    assert connect(box, server, ["10.0.2.2", "host.usbox"]) == ["ConnectionRefusedError"] * 2
    assert connect(box, server, ["host.usbox"], "--allow=any", "--allow=0.0.0.0/0", "--allow=::/0", "--allow=private") == ["ConnectionRefusedError"]
    assert connect(box, server, ["10.0.2.2", "fd00::2", "host.usbox"], f"--allow=host:{server}") == ["open"] * 3
    assert connect(box, server, ["host.usbox"], f"--allow=host:{server - 1}") == ["ConnectionRefusedError"]


def test_expose_host(box, peer, server):
    """One port of the host's loopback; nothing else is closed or opened by it."""
    assert connect(box, server, ["host.usbox"], f"--expose-host={server}") == ["open"]
    assert connect(box, server - 1, ["host.usbox"], f"--expose-host={server}") == ["ConnectionRefusedError"]
    assert connect(box, 80, [peer], f"--expose-host={server}") == ["open"]
    own = [a for a in subprocess.check_output(["hostname", "-I"], text=True).split() if "." in a]
    assert set(connect(box, server, own, f"--expose-host={server}")) <= {"ConnectionRefusedError"}


def test_denied_udp_and_ping_fail_at_once(box, peer, peer6):
    script = """
import socket, sys
for target in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((target, 7))
    s.send(b"x")
    try:
        print(s.recv(10))
    except OSError as e:
        print(type(e).__name__, e.errno)
"""
    out = box.usbox("run", "--rm", f"--deny={peer}/udp", f"--deny=[{peer6}]:7", "--", "/usr/bin/python3", "-c", script, peer, peer6).lines()
    assert len(out) == 2 and not [x for x in out if "Timeout" in x or "b'" in x], out
    result = box.sh(f"ping -c 1 -W 10 {peer}; ping -c 1 -W 10 {peer6}", f"--deny={peer}", f"--deny={peer6}")
    assert result.rc != 0 and "filtered" in result.out.lower() and "prohibited" in result.out.lower(), result
    # A rule with a port or a protocol is not of ICMP.
    low, high = map(int, open("/proc/sys/net/ipv4/ping_group_range", encoding="ascii").read().split())
    if low <= os.getgid() <= high:
        assert box.sh(f"ping -c 1 -W 10 {peer}", f"--deny={peer}/tcp").rc == 0


def test_dns_answers(box, dnsmasq, peer):
    assert ask(box, "alias.test", 1, options=[f"--dns={dnsmasq}"])[:3] == ["0", "whole", "3"]
    assert ask(box, "none.test", 1, options=[f"--dns={dnsmasq}"])[:2] == ["3", "whole"]
    assert ask(box, "fail.usbox.test", 1, options=[f"--dns={peer}"])[:2] == ["2", "whole"]
    assert ask(box, "many.usbox.test", 1, options=[f"--dns={peer}"])[:3] == ["0", "cut", "0"]
    assert ask(box, "many.usbox.test", 1, "tcp", options=[f"--dns={peer}"])[:3] == ["0", "whole", "100"]
    assert ask(box, "WwW.named.TEST", 28, options=[f"--dns={dnsmasq}"])[:3] == ["0", "whole", "1"]
    assert ask(box, "host.usbox", 1)[:3] == ["0", "whole", "1"]
    assert ask(box, "host.usbox", 16)[:3] == ["0", "whole", "0"]
    assert ask(box, "a.given.example", 1, options=["--add-host=a.given.example:192.0.2.9"])[:3] == ["0", "whole", "1"]
    assert ask(box, "anything.test", 1, options=[f"--dns={peer}", "--allow=other.test"])[:2] == ["5", "whole"]
    assert ask(box, "anything.test", 1, "tcp", options=[f"--dns={peer}", "--allow=other.test"])[:2] == ["5", "whole"]


def test_dns_without_a_server_that_answers(box, peer, peer6):
    """A dead server is passed over; with none left the box is told so."""
    out = ask(box, "peer.usbox.test", 1, options=[f"--dns={peer6[:-1]}dead", f"--dns={peer}"])
    assert out[:3] == ["0", "whole", "1"]
    assert ask(box, "peer.usbox.test", 1, options=["--dns=127.9.9.9"])[0] == "2"


def test_dns_cache(box, peer):
    script = ("import socket\nfor name in ['peer.usbox.test', 'PEER.usbox.test', 'peer.usbox.test']:\n"
              "  print(socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0])")
    assert box.python(script, f"--dns={peer}", "--net-log", box.top / "net.log").lines() == [peer] * 3
    assert len([x for x in log_of(box) if x["event"] == "dns"]) == 3


def test_malformed_questions_harm_nobody(box, peer):
    script = """
import os, random, socket
r = random.Random(5)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("10.0.2.3", 53))
for i in range(3000):
    q = bytearray(b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4peer\\5usbox\\4test\\0\\0\\1\\0\\1")
    for _ in range(r.randrange(4)):
        q[r.randrange(len(q))] = r.randrange(256)
    s.send(bytes(q[:r.randrange(len(q) + 1)]))
t = [socket.create_connection(("10.0.2.3", 53)) for _ in range(80)]
for i, c in enumerate(t):
    try: c.sendall(os.urandom(r.randrange(300)))
    except OSError: pass
print(socket.getaddrinfo("peer.usbox.test", 80, socket.AF_INET)[0][4][0])
"""
    assert box.python(script, f"--dns={peer}").lines() == [peer]


@pytest.mark.parametrize("overlay", ["fuse", "kernel", "none"])
def test_search_domains_are_kept(box, overlay):
    """As the host has them, with blanks or with tabs: in the box's resolv.conf beside the box's own resolver. With another file mounted there, since a
    machine's own may have none."""
    here = ["search\ta.usbox.test b.usbox.test", "options ndots:2", "options\ttimeout:3"]
    resolv = box.write("resolv.conf", "\n".join(["nameserver\t127.0.0.9", "searching x", *here]) + "\n")
    argv = ["unshare", "-Urm", "sh", "-c", 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"', "sh", str(resolv), USBOX,
            "run", "--rm", f"--overlay={overlay}", "--userns=self", "--", "cat", "/etc/resolv.conf"]
    proc = subprocess.run(argv, env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert proc.stdout.splitlines() == ["nameserver 10.0.2.3", *here], proc


def test_a_changed_resolv_conf_is_seen(box, peer):
    """Under a running box: with another file mounted there, since the machine's own is not ours to change."""
    resolv = box.write("resolv.conf", "nameserver 127.0.0.9\n")
    script = f"""
import socket, time
end = time.monotonic() + 30
print('up', flush=True)
while time.monotonic() < end:
    try:
        print(socket.getaddrinfo('peer.usbox.test', 80, socket.AF_INET)[0][4][0]); break
    except OSError:
        time.sleep(0.05)
"""
    argv = ["unshare", "-Urm", "sh", "-c", 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"', "sh", str(resolv), USBOX,
            "run", "--rm", "--overlay=none", "--", "/usr/bin/python3", "-c", script]
    try:
        subprocess.run(["unshare", "-Urm", "mount", "--bind", resolv, "/etc/resolv.conf"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        cannot("mount a file in a user namespace")
    proc = subprocess.Popen(argv, env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert proc.stdout.readline() == "up\n", proc.stderr.read()
    resolv.write_text(f"nameserver {peer}\n")
    out, err = proc.communicate(timeout=60)
    assert out == peer + "\n", (out, err)


def test_no_watch_is_left_to_have(box):
    """A short run wants none of the few inotify instances that a user may have; a longer one says that it goes on without."""
    def run(seconds):
        return subprocess.run(["unshare", "-Urm", "sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh", USBOX, "run", "--rm",
                               "--overlay=none", "--", "sleep", seconds], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)
    start = time.monotonic()
    short = run("0")
    took = time.monotonic() - start
    longer = run("3")
    # Short is what takes less than a second.
    assert short.returncode == 0 and ("watch" not in short.stderr or took > 1), (short, took)
    assert longer.returncode == 0 and "watch /etc/resolv.conf" in longer.stderr and "hint: " in longer.stderr, longer


def test_the_word_after_the_run(box, peer, dnsmasq):
    result = box.usbox("run", "--rm", f"--dns={dnsmasq}", "--allow=www.named.test:80", "--", "/usr/bin/python3", "-c", CONNECT, "7", "www.named.test", "other.test",
                       peer)
    lines = [x for x in result.err.splitlines() if "denied by policy" in x]
    assert len(lines) == 1 and "www.named.test:7/tcp" in lines[0] and "other.test" in lines[0], result
    assert "--allow www.named.test:7" in lines[0] and "--allow other.test" in lines[0] and "--allow any" not in lines[0]
    # What it says works; and a box in which nothing was denied has nothing to say.
    assert box.usbox("run", "--rm", f"--dns={dnsmasq}", "--allow=www.named.test:80", "--allow=www.named.test:7", "--", "/usr/bin/python3", "-c", CONNECT, "7",
                     "www.named.test").err == ""
    open_box = box.usbox("run", "--rm", f"--deny={peer}:7", "--", "/usr/bin/python3", "-c", CONNECT, "7", peer, "10.0.2.2")
    assert open_box.err == f"usbox: denied by policy: {peer}:7/tcp (--deny {peer}:7), 10.0.2.2:7/tcp; to allow: --expose-host 7\n"


@pytest.mark.parametrize("count, more", [(5, ""), (63, " and 58 more"), (200, " and at least 59 more")])
def test_many_denials(box, count, more):
    """Five are named, and the others counted as far as they are told."""
    script = "import socket, sys\nfor port in range(int(sys.argv[1])): assert socket.socket().connect_ex(('192.0.2.1', 1 + port)) == 111"
    result = box.usbox("run", "--rm", "--deny=192.0.2.1", "--", "/usr/bin/python3", "-c", script, str(count)).ok()
    assert result.err.count("192.0.2.1:") == 5 and result.err.endswith(f":5/tcp (--deny 192.0.2.1){more}\n"), result.err


def test_net_log(box, peer, dnsmasq):
    log = box.top / "net.log"
    script = f"""
import socket, urllib.request
urllib.request.urlopen("http://www.named.test/hello.txt").read()
keep = socket.create_connection(("{peer}", 7)); keep.sendall(b"x" * 1000)
n = 0
while n < 1000: n += len(keep.recv(1000))
try: socket.create_connection(("{peer}", 9))
except OSError: pass
"""
    box.python(script, f"--dns={dnsmasq}", "--net-log", log, "--allow=www.named.test", "--allow=other.test").ok()
    lines = log_of(box)
    starts = {x["flow"]: x for x in lines if x["event"] == "start"}
    ends = {x["flow"]: x for x in lines if x["event"] == "end"}
    assert len(starts) == 3 and set(starts) == set(ends), lines
    web, echo = [next(x for x in ends.values() if x["to"].endswith(p)) for p in (":80", ":7")]
    assert web["name"] == "www.named.test" and web["rule"] == "allow www.named.test" and web["bytes_in"] > 20 and web["bytes_out"] > 20
    assert (echo["bytes_out"], echo["bytes_in"]) == (1000, 1000) and echo["how"] in ("open", "closed", "reset")
    assert [x for x in lines if x["event"] == "dns" and x["name"] == "www.named.test" and peer in x["addresses"]]
    assert log.stat().st_mode & 0o777 == 0o600
    # It is appended to.
    box.sh("true", "--net-log", log).ok()
    assert log_of(box)[:len(lines)] == lines


def test_what_is_no_rule_is_refused(box):
    for option, value in (("--allow", "github.com:0"), ("--deny", "*"), ("--allow", "http://a.example"), ("--deny", "10.0.0.0/33")):
        assert_refused(box.run(option, value, "true"), f"{option}: '{value}'")
    assert_refused(box.run("--deny", "all", "true"), "--deny: 'all' is no class of addresses", "for everything: any")
    assert_refused(box.run("--allow", "localhost:5432", "true"), "--allow: 'localhost' is no class of addresses", "--expose-host PORT")
    assert_refused(box.run("--expose-host", "0", "true"), "--expose-host", hint=False)
    assert_refused(box.run("--network=none", "--allow=a.example", "true"), "--allow needs --network=user", hint=False)
    assert_refused(box.run("--net-log", "/nonexistent/log", "true"), "--net-log", hint=False)


LIVE = """
import socket, sys, time
peer = sys.argv[1]
keep = socket.create_connection((peer, 7))
keep.sendall(b"x" * 500)
n = 0
while n < 500:
    n += len(keep.recv(500))
print("up", flush=True)
try:
    print("end" if keep.recv(1) == b"" else "data", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
try:
    socket.create_connection((peer, 7)); print("open", flush=True)
except ConnectionRefusedError:
    print("refused", flush=True)
while True:
    try:
        socket.create_connection((peer, 7)); print("open", flush=True); break
    except ConnectionRefusedError:
        time.sleep(0.02)
"""


@pytest.mark.parametrize("options", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_live_rules(box, peer, options):
    """A rule that denies ends the flows that it is of, at once; one that allows counts before it."""
    proc = box.popen("run", "--rm", *options, "--", "/usr/bin/python3", "-c", LIVE, peer)
    assert proc.stdout.readline() == b"up\n", proc.stderr.read()
    assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
    flows = box.usbox("net", "last", "--json").json()["flows"]
    assert [(f["to"], f["bytes_out"], f["bytes_in"], f["protocol"]) for f in flows] == [(f"{peer}:7", 500, 500, "tcp")]
    table = box.usbox("net", "last", "--flows").ok().out
    assert f"{peer}:7" in table and "500" in table
    assert_refused(box.usbox("net", "last", "deny", "a.example", "b.example:0"), "--deny: 'b.example:0'")
    assert box.usbox("net", "last", "deny", f"{peer}:7", "other.example").ok().out == ""
    assert [proc.stdout.readline() for _ in range(2)] == [b"reset\n", b"refused\n"]
    ended = {x["to"]: x for x in box.usbox("net", "last", "--json").json()["ended"]}
    assert ended[peer]["denied"] >= 1 and ended[peer]["bytes_in"] == 500
    box.usbox("net", "last", "allow", f"{peer}:7").ok()
    out, err = proc.communicate(timeout=60)
    assert out == b"open\n" and f"denied by policy: {peer}:7/tcp (--deny {peer}:7)".encode() in err, (out, err)


OWN_HOSTS = """
import socket, sys
def talk(c):
    try:
        c.sendall(b"x")
        return c.recv(1).decode()
    except OSError as e:
        return type(e).__name__
def connect():
    try:
        return socket.create_connection(("intra.corp", 7), 10)
    except OSError as e:
        return type(e).__name__
first = connect()
print("up" if isinstance(first, str) else talk(first), flush=True)
sys.stdin.readline()
second = connect()
print(*[c if isinstance(c, str) else talk(c) for c in (first, second)])
"""


@pytest.mark.parametrize("started, word, before, after", [("--deny=192.0.2.9", "deny", "x", "ConnectionResetError ConnectionRefusedError"),
                                                          ("--allow=example.org", "allow", "up", "ConnectionRefusedError x")])
def test_live_rules_of_names_in_etc_hosts(box, peer, started, word, before, after):
    """Those that no rule was of at the start, too: the box finds them without asking us."""
    hosts = box.write("hosts", f"{peer} intra.corp # ours\n")
    try:
        subprocess.run(["unshare", "-Urm", "mount", "--bind", hosts, "/etc/hosts"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        cannot("mount a file in a user namespace")
    script = f"""
mount --bind "$1" /etc/hosts
mkfifo more
"$2" run --rm --name=x --overlay=none {started} -- /usr/bin/python3 -c "$3" <more >said & exec 3>more
until [ -s said ] && "$2" net x {word} intra.corp 2>/dev/null; do sleep 0.1; [ -d /proc/$! ]; done
echo >&3; wait $!; cat said
"""
    result = subprocess.run(["unshare", "-Urm", "sh", "-ec", script, "sh", str(hosts), str(USBOX), OWN_HOSTS], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines() == [before, after], result


def test_live_rules_are_not_for_boxes_without_a_network(box):
    proc = box.popen("run", "--rm", "--network=none", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert proc.stdout.readline() == b"up\n"
    assert wait_until(lambda: box.usbox("ps", "-q").out.strip(), 20)
    assert_refused(box.usbox("net", "last"), "no network of its own", "--network user")
    assert_refused(box.usbox("net", "last", "deny", "a.example:0"), "usbox: options: --deny: 'a.example:0'", "TARGET is a name")
    assert_refused(box.usbox("net", "last", "permit", "a.example"), "'permit' is neither allow, deny, publish nor unpublish", "usbox help net")
    proc.terminate()
    proc.communicate(timeout=30)


HELLO = """
import socket, ssl, sys
target, *names = sys.argv[1:]
for name in names:
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name) if name not in ("-", "!") else None
    try:
        tls and tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read() if tls else b"GET / HTTP/1.0\\r\\n\\r\\n"
    s = socket.create_connection((target, 443), 20)
    try:
        s.sendall(hello[:100])
        s.sendall(hello[100:])
        got = b""
        while len(got) < len(hello):
            d = s.recv(len(hello))
            if not d:
                break
            got += d
        print("through" if got == hello else "cut")
    except OSError as e:
        print(type(e).__name__)
"""


def test_tls_names(box, dnsmasq):
    """What an --allow by name opens must ask for an allowed name; nothing else is looked at."""
    def hello(target, *names, options=()):
        return box.usbox("run", "--rm", f"--dns={dnsmasq}", *options, "--", "/usr/bin/python3", "-c", HELLO, target, *names).lines()
    rules = ["--allow=www.named.test", "--allow=named.test"]
    names = ["www.named.test", "WWW.named.TEST", "named.test", "other.test", "-"]
    assert hello("www.named.test", *names, options=[*rules, "--tls-names", "--net-log", box.top / "net.log"]) == \
        ["through"] * 3 + ["ConnectionResetError"] * 2
    assert [x.get("name") for x in log_of(box) if x["event"] == "denied"] == ["other.test", None]
    assert hello("www.named.test", "other.test", "-", options=rules) == ["through"] * 2
    # Not even by frames, past the fast path.
    bound = "import socket\ns = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'tap0')\ns.connect(('www.named.test', 443))\nprint('open')"
    assert "ConnectionRefusedError" in box.python(bound, f"--dns={dnsmasq}", *rules, "--tls-names").err
    assert box.python(bound, f"--dns={dnsmasq}", *rules).lines() == ["open"]
    assert hello("www.named.test", "other.test", "-", options=["--allow=any", "--tls-names"]) == ["through"] * 2
    assert_refused(box.run("--tls-names", "--no-fast-path", "true"), "--tls-names and --no-fast-path", hint=False)


WIRE = re.findall(r"^\s+(WIRE_\w+)(?: = 1)?,", (TOP / "src/base/wire.h").read_text(encoding="utf-8"), re.M)


@contextlib.contextmanager
def launcher_that_says(box, answer, body=b"", text=None):
    """It answers one verb after the other, with text beside it or not."""
    with no_launcher(box.runtime, "x") as (place, _, server):
        def serve():
            while True:
                client = server.accept()[0]
                with client:
                    if not client.recv(65536):
                        return
                    fds = []
                    if text is not None:
                        fds.append(os.memfd_create("text"))
                        os.write(fds[0], text)
                        os.lseek(fds[0], 0, os.SEEK_SET)
                    socket.send_fds(client, [struct.pack("I", WIRE.index(answer) + 1) + body], fds)
                    for fd in fds:
                        os.close(fd)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
                last.connect(os.fspath(place / "control"))
            thread.join()


def ask_for_flows(box, times):
    """As many as ask for the flows and go without waiting for the answer."""
    control = os.fspath(next(iter(box.runtime.glob("usbox/*/control"))))
    for _ in range(times):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 30, 0))
            s.connect(control)
            s.send(struct.pack("I", WIRE.index("WIRE_CTL_NET_FLOWS") + 1))


def test_a_stopped_usbox_net_stops_nobody_else(box):
    """Neither those who ask about the network nor the launcher wait for it."""
    proc = box.popen("run", "--rm", "--name", "b", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert proc.stdout.readline() == b"up\n", proc.stderr.read()
    children = pathlib.Path(f"/proc/{proc.pid}/task/{proc.pid}/children").read_text(encoding="ascii").split()
    net = next(int(pid) for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").startswith("usbox-net"))
    assert wait_until(lambda: box.usbox("net", "b").rc == 0)
    os.kill(net, signal.SIGSTOP)
    try:
        ask_for_flows(box, 400)  # the wire holds fewer
        for change in ([], ["deny", "a.example"], ["publish", "0:1"]):
            assert_refused(box.usbox("net", "b", *change), "usbox-net of the box is stopped", f"kill -CONT {net}")
    finally:
        os.kill(net, signal.SIGCONT)
    assert "PROTO" in box.usbox("net", "b").ok().out
    os.kill(net, signal.SIGSTOP)
    box.usbox("stop", "b").ok()
    assert proc.wait(60) == 128 + signal.SIGTERM


# usbox-net that reads no more once it is ready.
DEAF = """
import socket, struct, sys, time
wire = socket.socket(fileno=3)
for _ in ("NET_CONFIG", "NET_TAP"):
    wire.recv(1 << 16)
wire.send(struct.pack("=I", int(sys.argv[1])))
time.sleep(1000)
"""


def test_usbox_net_that_does_not_answer(box):
    script = box.write("deaf.py", DEAF, where=box.top)
    (box.libexec / "usbox-net-stack").unlink()
    box.write("usbox-net-stack", f"#!/bin/sh\nexec /usr/bin/python3 {script} {WIRE.index('WIRE_NET_READY') + 1}\n", 0o755, where=box.libexec)
    proc = box.popen("run", "--rm", "--name", "b", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert proc.stdout.readline() == b"up\n", proc.stderr.read()
    assert wait_until(lambda: box.usbox("inspect", "b").rc == 0)
    ask_for_flows(box, 400)
    assert_refused(box.usbox("net", "b", "deny", "a.example"), "usbox-net of the box has not answered the last 64 requests", "kill -CONT")
    proc.terminate()
    assert proc.wait(60) == 128 + signal.SIGTERM


HOSTILE = "\x1b]0;owned\x07\x9b31m\r\n\u202eevil"


def assert_quiet(result, *words):
    """Nothing of what came moves a terminal's cursor, names its window or turns its line around; but words are there."""
    shown = result.out + result.err
    assert not [c for c in shown if c not in "\n\xa0" and not c.isprintable()], result  # a size has a space that does not break
    for word in words:
        assert word in shown, (word, result)


def test_what_the_network_says_is_quoted(box):
    """usbox-net reads frames of the box, and might say anything once they have taken it over: to `usbox net` it is foreign text."""
    flow = {"started": 0, "bytes_out": 1 << 62, "bytes_in": -1, **{key: HOSTILE + key for key in ("protocol", "to", "name", "rule")}}
    flows = {"flows": [flow, {}, {"to": 5, "name": []}, 7], "ended": [{"to": HOSTILE + "sum", "flows": 1, "denied": "x"}]}
    with launcher_that_says(box, "WIRE_CTL_TEXT", text=json.dumps(flows).encode()):
        table = box.usbox("net", "x").ok()
        assert_quiet(table, "evilprotocol", "evilto", "evilname", "evilrule", "evilsum")
        assert len(table.out.splitlines()) == 8, table  # two headings, four flows, a sum, and an empty line
        listed = box.usbox("net", "--json", "x")
        assert_quiet(listed)
        assert listed.json() == flows
    for text in (b"[1]", b"{", b'{"flows": "\xff\x1b"}'):
        with launcher_that_says(box, "WIRE_CTL_TEXT", text=text):
            assert_refused(box.usbox("net", "x"), "the list of flows", hint=False)


def test_what_the_network_complains_of_is_quoted(box):
    """As is what is wrong with a rule: in words of the box's side, or those of whoever typed it."""
    step, words, hint = b"network\0", HOSTILE.encode() + b" words\0", HOSTILE.encode() + b" hint\0"
    body = struct.pack("ii", 1, 0) + step + words + hint  # (iisss) of GVariant: where a string that is not the last ends stands at the end, backwards
    body += bytes([8 + len(step) + len(words), 8 + len(step)])
    with launcher_that_says(box, "WIRE_ERROR", body):
        for change in (["allow", "a.example"], ["publish", "1:1"]):
            result = box.usbox("net", "x", *change)
            assert_refused(result, "network: ", "words")
            assert_quiet(result, "words", "hint")
        for change in (["allow", HOSTILE], ["deny", "a.example", HOSTILE], ["publish", HOSTILE], [HOSTILE]):
            result = box.usbox("net", "x", *change)
            assert_refused(result, "evil")
            assert_quiet(result)
