# SPDX-License-Identifier: LGPL-2.1-or-later
"""--network=user, none, host; published ports; the host's own addresses closed."""
import concurrent.futures
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import assert_refused, cannot, own_processes, wait_until
from ports import free_port, free_range  # tests/lib

GET = "import urllib.request,sys; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def fetch(box, url, *options):
    return box.usbox("run", "--rm", *options, "--", "/usr/bin/python3", "-c", GET, url)


@pytest.mark.slice
def test_tcp_to_another_machine(box, peer):
    assert fetch(box, f"http://{peer}/hello.txt").ok().out == "hello from the peer\n"


def test_tcp_over_ipv6(box, peer6):
    assert fetch(box, f"http://[{peer6}]/hello.txt").ok().out == "hello from the peer\n"


def test_congestion_control(box, peer, peer6):
    """What the host prefers may pace its segments: on the box's loopback interface, where the fast path's end is, that would only be slow."""
    script = """
import socket, sys
for address in sys.argv[1:]:
    print(socket.create_connection((address, 7), 10).getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode())
"""
    assert box.run("--rm", "--", "/usr/bin/python3", "-c", script, peer, peer6).ok().out == "reno\nreno\n"


def test_no_ipv6(box, peer6):
    assert fetch(box, f"http://[{peer6}]/hello.txt", "--no-ipv6").rc != 0
    out = box.sh("cat /proc/net/if_inet6 | grep -v ' lo$'; echo end", "--no-ipv6").ok().out
    assert out == "end\n"


@pytest.mark.parametrize("options", [[], ["--no-fast-path", "--mtu=1500"], ["--no-fast-path", "--mtu=1280"]], ids=["fast", "frames1500", "frames1280"])
def test_large_transfers_both_ways(box, peer, peer6, options):
    """Every byte, by sockets and by frames, which are longer than the MTU on both ways there."""
    address = f"[{peer6}]" if "--mtu=1280" in options else peer
    script = """
import hashlib, sys, urllib.request
data = urllib.request.urlopen(sys.argv[1] + "/big.bin", timeout=30).read()
print(hashlib.sha256(data).hexdigest())
print(urllib.request.urlopen(sys.argv[1] + "/big.sha256").read().decode().strip())
up = bytes(range(256)) * (16 << 12)
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/sum", data=up), timeout=60).read().decode().strip())
names, numbers = [line.split() for line in open("/proc/net/snmp") if line.startswith("Tcp:")]
print(dict(zip(names, numbers))["RetransSegs"])
"""
    out = box.run("--rm", *options, "--", "/usr/bin/python3", "-c", script, f"http://{address}", timeout=120).lines()
    assert out[0] == out[1] and out[2] == hashlib.sha256(bytes(range(256)) * (16 << 12)).hexdigest()
    assert int(out[3]) < 500, "the box has sent again what somebody on the way did not take"


@pytest.mark.parametrize("mtu", ["1500", "65520"])
def test_streams_by_frames(box, mtu):
    """Some at once, whose frames come between each other; and one whose reader takes its time holds back its sender alone."""
    size, block = 48 << 20, os.urandom(999983)
    data = block * (size // len(block) + 1)
    sent = [0]

    def serve(c):
        with c:
            slow = c.recv(1) == b"s"
            for at in range(0, size, 100000):
                piece = data[at:min(at + 100000, size)]
                c.sendall(piece)
                sent[0] += len(piece) if slow else 0
    script = """
import concurrent.futures, hashlib, socket, sys
def read(s):
    total = hashlib.sha256()
    while data := s.recv(1 << 20):
        total.update(data)
    return total.hexdigest()
def connect(kind):
    s = socket.create_connection(("host.usbox", int(sys.argv[1])), 60)
    s.sendall(kind)
    return s
slow = connect(b"s")
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(*pool.map(lambda _: read(connect(b"f")), range(4)), flush=True)
sys.stdin.readline()
print(read(slow))
"""
    want = hashlib.sha256(memoryview(data)[:size]).hexdigest()
    with socket.create_server(("127.0.0.1", 0)) as server, concurrent.futures.ThreadPoolExecutor(5) as pool:
        server.settimeout(60)
        port = server.getsockname()[1]
        options = ["--rm", "-i", "--no-fast-path", f"--mtu={mtu}", f"--expose-host={port}"]
        with box.popen("run", *options, "--", "/usr/bin/python3", "-c", script, str(port), stdin=subprocess.PIPE) as proc:
            try:
                ends = [pool.submit(serve, server.accept()[0]) for _ in range(5)]
                assert proc.stdout.readline().decode().split() == [want] * 4, proc.stderr.read()
                assert sent[0] < size
                assert proc.communicate(b"\n", timeout=60)[0].decode().strip() == want
            finally:
                proc.kill()
            for end in ends:
                end.result()


@pytest.mark.parametrize("size", [0, 1, 1400, 8000, 60000])
def test_udp(box, peer, size):
    script = """
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
data = os.urandom(int(sys.argv[2]))
s.sendto(data, (sys.argv[1], 7))
answer, sender = s.recvfrom(65536)
print(answer == data, sender[0] == sys.argv[1])
"""
    assert box.run("--rm", "--", "/usr/bin/python3", "-c", script, peer, str(size)).ok().out == "True True\n"


def test_dns_given(box, peer):
    """Always by way of usbox's own resolver, which asks the one that is given."""
    out = box.sh("cat /etc/resolv.conf; getent ahostsv4 peer.usbox.test | head -1; getent hosts no-such.usbox.test || echo none", f"--dns={peer}").ok().out
    assert "nameserver 10.0.2.3" in out and re.search(rf"^{re.escape(peer)} ", out, re.M) and out.endswith("none\n"), out


def test_dns_over_tcp(box, peer):
    """An answer too large for a datagram: asked again over TCP."""
    out = box.sh("getent ahostsv4 many.usbox.test | cut -d' ' -f1 | sort -u | wc -l", f"--dns={peer}").ok().out
    assert out == "100\n"


def test_dns_of_the_host(box):
    """The default resolver is usbox's, which asks the host's."""
    out = box.sh("grep ^nameserver /etc/resolv.conf").lines()
    hosts = {line.split()[1] for line in open("/etc/resolv.conf", encoding="utf-8") if line.startswith("nameserver")}
    assert out and not {x.split()[1] for x in out} & hosts
    here = subprocess.run(["getent", "ahostsv4", "deb.debian.org"], capture_output=True, check=False).stdout
    if here:
        assert box.sh("getent ahostsv4 deb.debian.org | grep -c STREAM").ok().out.strip() != "0"


def test_icmp_echo(box, peer):
    low, high = map(int, open("/proc/sys/net/ipv4/ping_group_range", encoding="ascii").read().split())
    if not low <= os.getgid() <= high:
        cannot("send an ICMP echo without rights (net.ipv4.ping_group_range; ./check sets it as root)")
    result = box.sh(f"ping -c 2 -W 3 {peer}")
    assert result.rc == 0 and "2 received" in result.out, result


def test_refused_port_is_refused(box, peer):
    script = "import socket,sys\ntry:\n  socket.create_connection((sys.argv[1], 81), 5); print('open')\nexcept ConnectionRefusedError:\n  print('refused')"
    assert box.run("--rm", "--", "/usr/bin/python3", "-c", script, peer).ok().out == "refused\n"


def test_half_close(box, peer):
    script = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7), 5)
s.sendall(b"x" * 100000); s.shutdown(socket.SHUT_WR)
n = 0
while d := s.recv(65536):
    n += len(d)
print(n)
"""
    assert box.run("--rm", "--", "/usr/bin/python3", "-c", script, peer).ok().out == "100000\n"


def test_many_connections_at_once(box, peer):
    script = """
import socket, sys
socks = [socket.create_connection((sys.argv[1], 7), 10) for _ in range(200)]
for i, s in enumerate(socks):
    s.sendall(b"%04d" % i)
print(all(s.recv(4) == b"%04d" % i for i, s in enumerate(socks)))
"""
    assert box.run("--rm", "--", "/usr/bin/python3", "-c", script, peer).ok().out == "True\n"


def test_interface(box):
    out = box.sh("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '; ip -4 -o address; ip link").ok().out
    names = re.findall(r"^(\w+)$", out, re.M)
    assert "lo" in names and len(names) == 2, out
    assert "mtu 65520" in out
    assert "mtu 1400" in box.sh("ip link", "--mtu=1400").ok().out


def test_none_has_only_lo(box, peer):
    out = box.sh("tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route | wc -l", "--network=none").lines()
    assert [x.strip() for x in out] == ["lo", "1"]
    assert fetch(box, f"http://{peer}/hello.txt", "--network=none").rc != 0
    assert box.python("import socket; a = socket.create_server(('127.0.0.1', 5000)); b = socket.create_connection(('127.0.0.1', 5000)); print('lo works')",
                      "--network=none").ok().out == "lo works\n"


class Server:
    """A server on the host that counts who reaches it."""

    def __init__(self):
        self.port = free_port()
        self.tcp = [self.listen(socket.AF_INET, "0.0.0.0", self.port)]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", self.port))
        self.udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.udp6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.udp6.bind(("::", self.port))
        self.tcp.append(self.listen(socket.AF_INET6, "::", self.port))
        self.reached = []
        for s in self.tcp:
            threading.Thread(target=self.accept, args=(s,), daemon=True).start()
        for s in (self.udp, self.udp6):
            threading.Thread(target=self.receive, args=(s,), daemon=True).start()

    @staticmethod
    def listen(family, address, port):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, port))
        s.listen()
        return s

    def accept(self, s):
        while True:
            try:
                conn, who = s.accept()
            except OSError:
                return
            self.reached.append(("tcp", who))
            conn.sendall(b"reached\n")
            conn.close()

    def receive(self, s):
        while True:
            try:
                data, who = s.recvfrom(65536)
            except OSError:
                return
            self.reached.append(("udp", who, data))
            if who:
                s.sendto(b"reached", who)

    def close(self):
        for s in (*self.tcp, self.udp, self.udp6):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


@pytest.fixture
def server():
    s = Server()
    yield s
    s.close()


def host_addresses():
    out = subprocess.check_output(["ip", "-o", "address"], text=True)
    return [a.split("/")[0] for a in re.findall(r"inet6? (\S+)", out)]


KNOCK = """
import socket, sys
port = int(sys.argv[1])
for target in sys.argv[2:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        try:
            s = socket.socket(family, kind); s.settimeout(1.5)
            address = socket.getaddrinfo(target, port, family, kind)[0][4]
            s.connect(address)
            if kind == socket.SOCK_DGRAM:
                s.send(target.encode())
            data = s.recv(100)
            print("REACHED" if data else "closed", target, kind.name)
        except OSError as e:
            print(type(e).__name__, target, kind.name)
"""


@pytest.mark.slice
def test_the_hosts_own_addresses_are_closed(box, server):
    """In every spelling: loopback, the gateway's, the wildcard, mapped and translated ones, and each interface's."""
    spellings = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "::ffff:0:127.0.0.1",
                 "10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::2%2", "localhost", "0", "127.1", "2130706433", "0x7f.1"]
    addresses = [a for a in host_addresses() if not a.startswith("fe80")]
    spellings += addresses + [f"::ffff:{a}" for a in addresses if ":" not in a]
    gateway = box.sh("ip route; ip -6 route").ok().out
    spellings += re.findall(r"via (\S+)", gateway)
    result = box.run("--rm", "--", "/usr/bin/python3", "-c", KNOCK, str(server.port), *dict.fromkeys(spellings), timeout=180)
    assert "REACHED" not in result.ok().out, result
    time.sleep(0.2)
    assert server.reached == []


def test_the_metadata_address_is_closed(box, peer):
    """Told apart from one that merely does not answer by how quickly it is refused."""
    script = "import socket,time\nt=time.monotonic()\ntry:\n  socket.create_connection(('169.254.169.254', 80), 8); print('open')\nexcept OSError as e:\n  print('closed', time.monotonic()-t < 7)"
    assert box.python(script).ok().out == "closed True\n"


def test_host_network_reaches_the_host(box, server):
    out = box.run("--rm", "--network=host", "--", "/usr/bin/python3", "-c", KNOCK, str(server.port), "127.0.0.1").ok().out
    assert out.count("REACHED") == 2


def test_abstract_sockets_of_the_host_are_not_there(box):
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0usbox-test-" + str(os.getpid()))
    s.listen()
    s.settimeout(0.3)
    out = box.python(f"import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n  s.connect('\\0usbox-test-{os.getpid()}'); print('REACHED')\nexcept OSError:\n  print('closed')").ok().out
    assert out == "closed\n"
    s.close()


SERVE = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from the box\\n")
    def log_message(self, *a): pass
s = http.server.HTTPServer((sys.argv[1], 8000), H)
print("ready", flush=True); s.serve_forever()
"""


def talk(address, port):
    with socket.create_connection((address, port), 5) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        data = b""
        while d := s.recv(4096):
            data += d
    return data


@pytest.mark.slice
def test_published_tcp_port(box):
    port = free_port()
    proc = box.popen("run", "--rm", "-p", f"127.0.0.1:{port}:8000", "--", "/usr/bin/python3", "-c", SERVE, "0.0.0.0")
    try:
        assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
        for _ in range(5):
            assert talk("127.0.0.1", port).endswith(b"from the box\n")
        assert [a for a in host_addresses() if ":" not in a and not a.startswith("127.")] == [] or pytest.raises(
            OSError, talk, next(a for a in host_addresses() if ":" not in a and not a.startswith("127.")), port)
    finally:
        proc.terminate()
        proc.communicate(timeout=60)
    with pytest.raises(OSError):
        talk("127.0.0.1", port)


SERVE_BOTH = """
import socket, sys, threading
def tcp(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 8000)); s.listen(64)
    while True:
        c, peer = s.accept()
        c.sendall(peer[0].encode()); c.close()
families = {"4": (socket.AF_INET, "0.0.0.0"), "6": (socket.AF_INET6, "::")}
for f in sys.argv[1]:
    threading.Thread(target=tcp, args=families[f]).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 8000))
print("ready", flush=True)
while True:
    data, peer = u.recvfrom(100); u.sendto(data + peer[0].encode(), peer)
"""


def ask_udp(address, port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.sendto(b"from ", (address, port))
        return s.recv(100)


@pytest.mark.parametrize("listens", ["4", "6", "46"])
def test_published_without_an_address(box, peer, listens):
    """IPv4 and IPv6, whatever the server in the box listens on; it sees who comes, or the gateway."""
    with box.popen("run", "--rm", "-p", "0:8000", "-p", "0:8000/udp", "--", "/usr/bin/python3", "-c", SERVE_BOTH, listens) as proc:
        try:
            assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
            assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
            ports = re.findall(r"8000/(tcp|udp) -> (\S+):(\d+)", box.usbox("port", "last").ok().out)
            assert [p[:2] for p in ports] == [("tcp", "0.0.0.0"), ("tcp", "[::]"), ("udp", "0.0.0.0"), ("udp", "[::]")], ports
            assert len({p[2] for p in ports if p[0] == "tcp"}) == 1
            tcp, udp = int(ports[0][2]), int(ports[2][2])
            own4 = [a for a in host_addresses() if ":" not in a]
            own6 = [a for a in host_addresses() if ":" in a and not a.startswith("fe80")]
            assert "::1" in own6 and len(own4) >= 2
            for address in own6:
                seen = said(tcp, address)
                # From one of the host's own addresses to that same one: the client's address is the host's.
                assert seen == (b"10.0.2.2" if listens == "4" else b"fd00::2" if address == "::1" else address.encode()), (address, seen)
                assert ask_udp(address, udp) == b"from 10.0.2.2"
            for address in own4:
                if listens == "6":
                    with pytest.raises(ConnectionResetError):
                        assert said(tcp, address) == b"a reset"
                else:
                    assert said(tcp, address) == (b"10.0.2.2" if address.startswith("127.") else address.encode())
                assert ask_udp(address, udp) == b"from " + (b"10.0.2.2" if address.startswith("127.") else address.encode())
            # Many at once, each of which may need two sockets.
            with concurrent.futures.ThreadPoolExecutor(40) as pool:
                assert set(pool.map(lambda _: said(tcp, "::1"), range(400))) == {b"10.0.2.2" if listens == "4" else b"fd00::2"}
            box.usbox("net", "last", "unpublish", f"{tcp}:8000", f"{udp}:8000/udp").ok()
            assert box.usbox("port", "last").ok().out == ""
        finally:
            proc.terminate()
            proc.communicate(timeout=60)


@pytest.mark.parametrize("options, client", [([], "127.0.0.1"), (["--no-fast-path"], "10.0.2.2")], ids=["fast", "frames"])
def test_published_connections_are_accounted(box, options, client):
    """From the client to the box, in the list and in the log; a new rule, which is about what leaves, does not cut them."""
    port, log = free_port(), box.dir / "log"
    server = """
import socket
s = socket.create_server(("0.0.0.0", 8000)); print("ready", flush=True)
while True:
    c, _ = s.accept()
    while data := c.recv(100000):
        c.sendall(data * 2)
    c.close()
"""
    with box.popen("run", "--rm", *options, "-p", f"127.0.0.1:{port}:8000", f"--net-log={log}", "--", "/usr/bin/python3", "-c", server) as proc:
        try:
            assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
            assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
            with socket.create_connection(("127.0.0.1", port), 20) as s:
                for _ in range(2):
                    s.sendall(b"x" * 1000)
                    assert len(s.recv(2000, socket.MSG_WAITALL)) == 2000
                    flow, = box.usbox("net", "--json", "last").json()["flows"]
                    box.usbox("net", "last", "deny", "any").ok()
                assert (flow["from"], flow["to"]) == (f"{client}:{s.getsockname()[1]}", "10.0.2.100:8000")
                assert (flow["path"], flow["rule"], flow["bytes_in"], flow["bytes_out"]) == ("port", "publish", 2000, 4000), flow
            assert wait_until(lambda: box.usbox("net", "--json", "last").json()["flows"] == [], 20)
        finally:
            proc.terminate()
            proc.communicate(timeout=60)
    lines = [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()]
    ends = [line for line in lines if line["event"] == "end"]
    assert [(line["how"], line["bytes_in"], line["bytes_out"], line["path"]) for line in ends] == [("closed", 2000, 4000, "port")], lines


def test_published_datagrams_are_accounted(box):
    """Who wrote to a published UDP port, and what was answered; the flow ends with the port."""
    port, log = free_port(), box.dir / "log"
    server = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("", 8000)); print("ready", flush=True)
while True:
    data, peer = s.recvfrom(2000); s.sendto(data * 2, peer)
"""
    with box.popen("run", "--rm", "-p", f"127.0.0.1:{port}:8000/udp", f"--net-log={log}", "--", "/usr/bin/python3", "-c", server) as proc:
        try:
            assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
            assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
            with socket.socket(type=socket.SOCK_DGRAM) as s:
                s.settimeout(20)
                s.connect(("127.0.0.1", port))
                for _ in range(3):
                    s.send(b"x" * 100)
                    assert len(s.recv(2000)) == 200
                flow, = box.usbox("net", "--json", "last").json()["flows"]
                assert (flow["from"], flow["to"]) == (f"127.0.0.1:{s.getsockname()[1]}", "10.0.2.100:8000")
                assert [flow[k] for k in ("protocol", "path", "rule", "bytes_in", "bytes_out", "packets_in")] == ["udp", "port", "publish", 300, 600, 3], flow
            box.usbox("net", "last", "unpublish", f"127.0.0.1:{port}:8000/udp").ok()
            assert box.usbox("net", "--json", "last").json()["flows"] == []
        finally:
            proc.terminate()
            proc.communicate(timeout=60)
    ends = [line for line in map(json.loads, log.read_text(encoding="ascii").splitlines()) if line["event"] == "end"]
    assert [(line["how"], line["bytes_in"], line["bytes_out"]) for line in ends] == [("closed", 300, 600)], ends


@pytest.mark.parametrize("options", [["--no-fast-path"], ["--no-ipv6"]])
def test_published_by_ipv4_alone(box, options):
    port = free_port()
    with box.popen("run", "--rm", *options, "-p", f"{port}:8000", "--", "/usr/bin/python3", "-c", SERVE, "0.0.0.0") as proc:
        try:
            assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
            for address in [a for a in host_addresses() if ":" not in a]:
                assert talk(address, port).endswith(b"from the box\n"), address
            with pytest.raises(ConnectionRefusedError):
                talk("::1", port)
        finally:
            proc.terminate()
            proc.communicate(timeout=60)


def test_published_ipv6_half_is_taken(no_kept):
    """Neither half is there then."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as s:
        port = s.getsockname()[1]
        assert_refused(no_kept.run("-p", f"{port}:80", "--", "true"), f"[::]:{port}", "in use")


SERVE_RANGE = """
import select, socket
all = {}
for port in range(8000, 8003):
    s = socket.create_server(("0.0.0.0", port)); all[s] = port
print("ready", flush=True)
while True:
    for s in select.select(list(all), [], [])[0]:
        with s.accept()[0] as c:
            c.sendall(b"%d" % all[s])
"""


def said(port, address="127.0.0.1"):
    with socket.create_connection((address, port), 20) as s:
        return s.recv(100)


@pytest.mark.parametrize("options", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_published_range(box, options):
    """By run, and to a box that runs: there all of it, or none."""
    first = free_range(3)
    with box.popen("run", "--rm", "-p", f"127.0.0.1:{first}-{first + 2}:8000-8002", *options, "--", "/usr/bin/python3", "-c", SERVE_RANGE) as proc:
        try:
            assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
            assert [said(first + i) for i in range(3)] == [b"8000", b"8001", b"8002"]
            assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
            more = free_range(3)
            words = f"127.0.0.1:{more}-{more + 2}:8000-8002"
            with socket.create_server(("127.0.0.1", more + 2)):
                assert_refused(box.usbox("net", "last", "publish", words), f":{more + 2}", "Address already in use", hint=False)
            assert str(more) not in box.usbox("port", "last").ok().out
            box.usbox("net", "last", "publish", words).ok()
            assert [said(more + i) for i in range(3)] == [b"8000", b"8001", b"8002"]
            box.usbox("net", "last", "unpublish", words).ok()
            for i in range(3):
                with pytest.raises(OSError):
                    said(more + i)
            assert said(first) == b"8000"
        finally:
            proc.terminate()
            proc.communicate(timeout=60)


def test_published_udp_port(box):
    port = free_port()
    script = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9000)); print('ready', flush=True)\nwhile 1:\n  d, a = s.recvfrom(65536); s.sendto(b'box:' + d, a)"
    proc = box.popen("run", "--rm", "-p", f"127.0.0.1:{port}:9000/udp", "--", "/usr/bin/python3", "-c", script)
    try:
        assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(5)
            for size in (1, 1000, 30000):
                s.sendto(b"x" * size, ("127.0.0.1", port))
                assert s.recv(65536) == b"box:" + b"x" * size
    finally:
        proc.terminate()
        proc.communicate(timeout=60)


# Answers what begins with "e", takes the rest.
SOME_ECHO = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("", 9000)); print("ready", flush=True)
while True:
    data, peer = s.recvfrom(2000)
    if data.startswith(b"e"):
        s.sendto(data, peer)
"""


def datagram_peer(port, timeout):
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.settimeout(timeout)
    s.connect(("127.0.0.1", port))
    return s


def echo(s, times):
    """Whether it is answered; what is sent may be lost, as the queue before usbox-net may be full."""
    for i in range(times):
        s.send(b"e%d" % i)
        try:
            while s.recv(100) != b"e%d" % i:
                pass
            return True
        except TimeoutError:
            pass
    return False


@pytest.mark.slice
@pytest.mark.parametrize("word", [b"x", b"echo"], ids=["unanswered", "answered"])
def test_published_udp_port_and_many_peers(box, word):
    """Who writes in thousands of names closes the port neither to who comes then nor to who was there, and writes no log without end."""
    port, log = free_port(), box.top / "net.log"

    def started():
        return [line["from"] for line in map(json.loads, log.read_text(encoding="ascii").splitlines()) if line["event"] == "start"]
    proc = box.popen("run", "--rm", "-p", f"127.0.0.1:{port}:9000/udp", f"--net-log={log}", "--", "/usr/bin/python3", "-c", SOME_ECHO)
    try:
        assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
        assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
        with datagram_peer(port, 0.5) as old, datagram_peer(port, 0.5) as idle:
            for s in (old, idle, idle):
                assert echo(s, 40)
            for n in range(6000):
                with datagram_peer(port, None) as s:
                    s.send(word)
                if n % 50 == 0:  # what came before it was read
                    assert echo(old, 40)
            assert word != b"x" or 4096 <= len(started()) < 5000
            with datagram_peer(port, 0.5) as new:
                assert echo(new, 40)
                assert echo(old, 40)
                flows = {flow["from"]: flow for flow in box.usbox("net", "--json", "last").json()["flows"]}
                assert {f"127.0.0.1:{s.getsockname()[1]}" for s in (old, idle, new)} <= set(flows)
                name = f"127.0.0.1:{new.getsockname()[1]}"
                assert flows[name]["packets_in"] >= 1 and name in started()  # what came before the answer is counted, too
    finally:
        proc.terminate()
        proc.communicate(timeout=60)


def test_published_port_that_is_taken(no_kept):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        assert_refused(no_kept.run("-p", f"127.0.0.1:{port}:80", "--", "true"), str(port), "in use")


def test_published_address_that_is_not_ours(no_kept):
    assert_refused(no_kept.run("-p", "203.0.113.9:8080:80", "--", "true"), "203.0.113.9", hint=False)


def test_add_host(box):
    out = box.sh("getent hosts added.test; grep -c localhost /etc/hosts", "--add-host=added.test:192.0.2.77").lines()
    assert out[0].split() == ["192.0.2.77", "added.test"] and int(out[1]) >= 1


def test_sockets_end_with_the_box(box, peer):
    """A connection of the box is closed towards the other side when the box ends."""
    for _ in range(3):
        assert fetch(box, f"http://{peer}/whoami").ok().out.strip()
    assert wait_until(lambda: peer not in subprocess.run(["ss", "-tnH", "state", "established"], capture_output=True, text=True, check=False).stdout)


def test_two_boxes_have_two_networks(box):
    script = "import socket,time\ns = socket.create_server(('0.0.0.0', 7777)); print('bound', flush=True); time.sleep(1)"
    procs = [box.popen("run", "--rm", "--", "/usr/bin/python3", "-c", script) for _ in range(2)]
    for p in procs:
        out, err = p.communicate(timeout=60)
        assert (p.returncode, out) == (0, b"bound\n"), err


def test_netlink_shows_the_boxes_own_only(box):
    hosts = {a for a in host_addresses() if not a.startswith(("127.", "::1", "fe80"))}
    seen = box.sh("ip -o address; ip route; ip -6 route; cat /proc/net/fib_trie /proc/net/arp 2>/dev/null").ok().out
    for address in hosts:
        assert not re.search(rf"\b{re.escape(address)}\b", seen) or address in ("10.0.2.2", "fd00::2"), (address, seen)


def test_raw_frames_are_out_of_reach(box):
    assert "ok" not in box.probe("socket_packet", "socket_inet_raw", options=["--seccomp=off"]).values()


FAST_PATH_ATTACK = """
import errno, os, socket, struct
def outcome(f):
    try:
        f()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
def option(*args):
    with socket.socket(socket.AF_INET6 if args[0] == 41 else socket.AF_INET) as s:
        s.setsockopt(*args)
def netlink(protocol, kind, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as s:
        s.send(struct.pack("=IHHII", 16 + len(body), kind, 5, 1, 0) + body)
        error = struct.unpack("=i", s.recv(4096)[16:20])[0]
        if error:
            raise OSError(-error, "")
rule = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 1, 0)
print(outcome(lambda: option(socket.SOL_SOCKET, 36, 2)))             # SO_MARK
print(outcome(lambda: option(0, 19, 1)))                             # IP_TRANSPARENT
print(outcome(lambda: option(41, 75, 1)))                            # IPV6_TRANSPARENT
print(outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255).close()))
print(outcome(lambda: netlink(0, 32, rule)))                         # RTM_NEWRULE
print(outcome(lambda: netlink(0, 33, rule)))                         # RTM_DELRULE
print(outcome(lambda: netlink(12, (10 << 8) | 2, bytes(4))))         # NFT_MSG_DELTABLE
print(outcome(lambda: netlink(12, (3 << 8) | 2, bytes(4))))          # NFQNL_MSG_CONFIG
print(sorted(open(f"/proc/{p}/comm").read().strip() for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())))
"""


@pytest.mark.slice
@pytest.mark.parametrize("options", [[], ["--user=root", "--cap-add=all"], ["--nested"]], ids=["plain", "root", "nested"])
def test_fast_path_is_out_of_reach(box, options):
    """Neither marks, transparent or raw sockets, nor rules and queues are the payload's to have, and it sees nothing of the agent."""
    out = box.python(FAST_PATH_ATTACK, *options).ok().out.splitlines()
    assert set(out[:-1]) <= {"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT"} and len(out) == 9, out
    assert out[-1] == "['usbox-init']", out


def test_published_live_without_agent(box):
    """A box that has lost its agent goes on, and says so where it would be needed."""
    def agents():
        return [pid for pid, line in own_processes().items() if "usbox-net-agent" in line]
    proc = box.popen("run", "--rm", "-p", "127.0.0.1:0:8000", "-p", "127.0.0.1:0:7/udp", "--", "/usr/bin/python3", "-c", SERVE, "0.0.0.0")
    try:
        assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
        assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
        assert [line.split()[0] for line in box.usbox("port", "last").lines()] == ["8000/tcp", "7/udp"]
        for pid in agents():
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not agents(), 20)
        assert wait_until(lambda: [line.split()[0] for line in box.usbox("port", "last").lines()] == ["7/udp"], 20)
        assert_refused(box.usbox("net", "last", "publish", f"127.0.0.1:{free_port()}:8000"), "the agent", "has ended: publish tcp 127.0.0.1:", hint=False)
        box.usbox("net", "last", "publish", "127.0.0.1:0:9/udp").ok()
    finally:
        proc.terminate()
        proc.communicate(timeout=60)


def test_without_fast_path(box, peer):
    assert fetch(box, f"http://{peer}/hello.txt", "--no-fast-path").ok().out == "hello from the peer\n"
    said = box.usbox("run", "--rm", "--verbose", "--no-fast-path", "--", "true").ok().err
    assert "no TCP fast path" not in said and "all TCP goes by libslirp: --no-fast-path" in said
    assert "TCP fast path made" in box.usbox("run", "--rm", "--verbose", "--", "true").ok().err


@pytest.mark.parametrize("options", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_published_live(box, options):
    """A port of a box that runs is opened, known to `usbox port`, and closed; what cannot be is an error of the verb alone."""
    proc = box.popen("run", "--rm", *options, "--", "/usr/bin/python3", "-c", SERVE, "0.0.0.0")
    try:
        assert proc.stdout.readline() == b"ready\n", proc.stderr.read()
        assert wait_until(lambda: box.usbox("net", "last").rc == 0, 20)
        port = free_port()
        for words in ([f"127.0.0.1:{port}:8000"], ["127.0.0.1:0:8000", "127.0.0.1:0:9/udp"]):
            box.usbox("net", "last", "publish", *words).ok()
        assert talk("127.0.0.1", port).endswith(b"from the box\n")
        shown = box.usbox("port", "last").ok().out
        other = next(int(x) for x in re.findall(r"127\.0\.0\.1:(\d+)", shown) if int(x) != port)
        assert talk("127.0.0.1", other).endswith(b"from the box\n"), shown
        assert_refused(box.usbox("net", "last", "publish", f"127.0.0.1:{port}:8000"), "Address already in use", hint=False)
        assert_refused(box.usbox("net", "last", "publish", "80"), "is not [IP:]HOSTPORT:BOXPORT")
        box.usbox("net", "last", "unpublish", f"127.0.0.1:{port}:8000").ok()
        with pytest.raises(OSError):
            talk("127.0.0.1", port)
        assert_refused(box.usbox("net", "last", "unpublish", f"127.0.0.1:{port}:8000"), "is not published", "hint: usbox port")
        assert talk("127.0.0.1", other).endswith(b"from the box\n")
    finally:
        proc.terminate()
        proc.communicate(timeout=60)
