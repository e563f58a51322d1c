# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox-net by itself: `usbox-net --netns PID|PATH`, for network namespaces that others have made."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import BUILD, SLOW, TOP, own_processes, wait_until
from ports import free_port  # tests/lib

USBOX_NET = BUILD / "netstack" / "usbox-net"
WAIT = 30 * SLOW


class Target:
    """A process in user, mount and network namespaces of its own, as anybody can make them."""

    def __init__(self, resolver="10.0.2.3"):
        script = f"echo 'nameserver {resolver}' >/run/resolv && mount --bind /run/resolv /etc/resolv.conf && echo up && exec sleep 1000"
        self.proc = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-ec", f"mount -t tmpfs none /run\n{script}"],
                                     stdout=subprocess.PIPE, text=True)
        assert self.proc.stdout.readline() == "up\n"
        self.pid = self.proc.pid

    def run(self, *argv, timeout=WAIT):
        return subprocess.run(["nsenter", "--target", str(self.pid), "--user", "--preserve-credentials", "--net", "--mount", "--", *argv],
                              capture_output=True, text=True, timeout=timeout, check=False)

    def sh(self, script):
        result = self.run("sh", "-ec", script)
        assert result.returncode == 0, (result.stdout, result.stderr)
        return result.stdout

    def curl(self, url, *more):
        return self.run("curl", "-sS", "-m", "20", *more, url)

    def end(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()


@pytest.fixture
def target(box):
    target = Target()
    yield target
    target.end()


class Net:
    """usbox-net, started and waited for."""

    def __init__(self, box, *argv, ready=True, wrap=()):
        self.path = box.top / "usbox-net.log"
        read_end, write_end = os.pipe()
        argv = [*wrap, USBOX_NET, *argv, *(["--ready-fd", str(write_end)] if ready else [])]
        with open(self.path, "w", encoding="utf-8") as log:
            self.proc = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=[write_end] if ready else [],
                                         cwd=box.dir, env=box.env)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as ready_file:
            said = ready_file.read()  # to its end, which is at once where it fails, and after the 1 where it works
        assert not ready or said == b"1", self.text()

    def text(self):
        with open(self.path, encoding="utf-8") as log:
            return log.read()

    def end(self, sig=signal.SIGTERM):
        self.proc.send_signal(sig)
        return self.proc.wait(WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.end()


# As a root who may look into all that runs there: which of the words are in the memory of the front, and in that of what it has forked.
MEMORY = r"""
import os, re, subprocess, sys, time
def words(pid):
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if mode.startswith("rw"):
                memory.seek(int(start, 16))
                found |= set(re.findall(rb"word-of-[a-z]+|/ns/net", memory.read(int(end, 16) - int(start, 16))))
    return sorted(word.decode() for word in found)
target = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
target.stdout.readline()
ready, theirs = os.pipe()
env = {**os.environ, "TOKEN": "word-of-environment", "GLIBC_TUNABLES": "word-of-tunables=1"}
net = subprocess.Popen([sys.argv[1], "--netns", f"/proc/{target.pid}/ns/net", "--netns-type", "path", "--net-log", "word-of-log", "--ready-fd", str(theirs),
                        "-p", "127.0.0.1:0:80"], pass_fds=[theirs], env=env)
assert os.read(ready, 1) == b"1"
def children(pid):
    return open(f"/proc/{pid}/task/{pid}/children").read().split()
while len(children(net.pid)) > 1:  # what has made the TAP is waited for behind that word
    time.sleep(0.01)
(helper,) = children(net.pid)
(agent,) = children(helper)
for pid in (net.pid, helper, agent):
    print(*words(pid), open(f"/proc/{pid}/environ").read().strip("\0") != "")
"""


def test_nothing_of_the_caller_is_where_frames_are_read(box):
    result = subprocess.run(["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "/usr/bin/python3", "-c", MEMORY,
                             USBOX_NET], cwd=box.dir, env=box.env, capture_output=True, text=True, timeout=WAIT, check=False)
    assert result.stdout.splitlines() == ["/ns/net word-of-environment word-of-log word-of-tunables True", "False", "False"], result


# A pid 1 of many a container: what is left to it stays.
LEFT = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
target = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
target.stdout.readline()
ready, theirs = os.pipe()
net = subprocess.Popen([sys.argv[1], "--netns", str(target.pid), "--ready-fd", str(theirs), "-p", "127.0.0.1:0:80"], pass_fds=[theirs])
assert os.read(ready, 1) == b"1"
net.terminate()
net.wait()
target.kill()
target.wait()
print(net.returncode, [open(f"/proc/{pid}/comm").read().strip() for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split()])
"""


# A root in the namespace, until its input ends: into which of usbox-net's processes may it look, as only who may trace them can?
LOOKER = """
import os, select, sys
seen = set()
print("up", flush=True)
while not select.select([0], [], [], 0)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (name := open(f"/proc/{pid}/comm").read().strip()).startswith("usbox-net"):
                os.readlink(f"/proc/{pid}/exe")
                seen.add(name)
        except OSError:
            pass
print(seen)
"""


def test_nobody_is_looked_into(box, target):
    """Those who enter the namespace have what the caller has open, and the caller's files."""
    argv = ["nsenter", "--target", str(target.pid), "--user", "--preserve-credentials", "--net", "--", "/usr/bin/python3", "-c", LOOKER]
    late = ["strace", "-f", "-o", "/dev/null", "-e", "trace=setns", "-e", "inject=setns:delay_exit=300000"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as looker:
        assert looker.stdout.readline() == "up\n"
        with Net(box, "--netns", target.pid, "-p", "127.0.0.1:0:80", wrap=late, ready=False) as net:
            while "published" not in net.text() and net.proc.poll() is None:
                time.sleep(0.01)
            target.proc.kill()
            assert net.proc.wait(WAIT) == 0
        assert looker.communicate()[0] == "set()\n"


def test_nobody_is_left_to_be_reaped(box):
    result = subprocess.run(["/usr/bin/python3", "-c", LEFT, USBOX_NET], cwd=box.dir, env=box.env, capture_output=True, text=True, timeout=WAIT, check=False)
    assert result.stdout == "0 []\n", result


def refused(*argv, wrap=(), cwd=None):
    """Its one line of error, and the hint, "" where it has none."""
    result = subprocess.run([*wrap, *map(str, [USBOX_NET, *argv])], capture_output=True, text=True, timeout=WAIT, check=False, cwd=cwd,
                            stdin=subprocess.DEVNULL)
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and result.stdout == "" and 1 <= len(lines) <= 2, result
    assert all(line.startswith("usbox-net: ") for line in lines), result
    hint = lines[1].removeprefix("usbox-net: hint: ") if len(lines) == 2 else ""
    return lines[0].removeprefix("usbox-net: "), hint


def tap_bytes(target):
    return int(target.sh("cat /sys/class/net/tap0/statistics/rx_bytes 2>/dev/null || awk '/tap0:/ { print $2 }' /proc/net/dev"))


@pytest.mark.slice
@pytest.mark.parametrize("more", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_it_works(box, target, peer, more):
    """HTTP of the other machine's nginx, its names, and by which way the bytes went."""
    with Net(box, "--verbose", "--netns", target.pid, "--dns", peer, *more) as net:
        assert target.curl(f"http://{peer}:8080/").stdout == "nginx\n"
        assert target.sh("getent ahostsv4 peer.usbox.test | head -n1 | cut -d' ' -f1") == peer + "\n"
        before = tap_bytes(target)
        sums = target.sh(f"curl -sSf http://{peer}/big.bin | sha256sum; curl -sSf http://{peer}/big.sha256").split()
        assert sums[0] == sums[2]
        carried = tap_bytes(target) - before
        assert (carried > 10_000_000) if more else (carried < 100_000)
        assert ("TCP fast path made" in net.text()) == (not more)
        assert ("all TCP goes by libslirp: --no-fast-path" in net.text()) == bool(more)
        assert net.end() == 0


@pytest.mark.parametrize("more", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_another_network(box, target, peer, more):
    """--cidr: addresses, routes, the resolver by UDP and TCP, the host's loopback, a published port, a ping of the gateway."""
    target.sh("echo 'nameserver 172.30.128.3' >/run/resolv")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, own = free_port(), server.getsockname()[1]
        with Net(box, "--netns", target.pid, "--cidr=172.30.128.0/17", "--dns", peer, "--expose-host", own, "-p", f"127.0.0.1:{port}:8000", *more):
            assert "inet 172.30.128.100/17 " in target.sh("ip -4 address show tap0")
            assert "default via 172.30.128.2 " in target.sh("ip route")
            assert target.curl("http://peer.usbox.test:8080/").stdout == "nginx\n"
            target.sh("ping -c 1 -W 20 172.30.128.2")
            question = bytes.fromhex("0007 0100 0001 0000 0000 0000 04 70656572 05 7573626f78 04 74657374 00 0001 0001")
            script = f"""
import socket
s = socket.create_connection(("172.30.128.3", 53), 20); s.sendall(len({question!r}).to_bytes(2) + {question!r})
n = int.from_bytes(s.recv(2, socket.MSG_WAITALL)); print(s.recv(n, socket.MSG_WAITALL)[-4:].hex())
print(socket.gethostbyname("host.usbox"))
c = socket.create_connection(("host.usbox", {own}), 20); c.sendall(b"x"); print(c.recv(1).decode())
s = socket.create_server(("", 8000)); print("ready", flush=True); c, who = s.accept(); c.sendall(who[0].encode())
"""
            inside = subprocess.Popen(["nsenter", "--target", str(target.pid), "--user", "--preserve-credentials", "--net", "--mount", "--", "/usr/bin/python3", "-c", script],
                                      stdout=subprocess.PIPE, text=True)
            connection, _ = server.accept()
            connection.sendall(connection.recv(1))
            said = [inside.stdout.readline().strip() for _ in range(4)]
            assert said == [socket.inet_aton(peer).hex(), "172.30.128.2", "x", "ready"], said
            with socket.create_connection(("127.0.0.1", port), WAIT) as c:
                assert c.recv(100) == b"172.30.128.2"
            assert inside.wait(WAIT) == 0
            inside.stdout.close()
            connection.close()


@pytest.mark.parametrize("cidr", ["10.0.2.0", "10.0.2.0/26", "10.0.0.0/7", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/8", "fd00::/64", "x/24", "0.0.0.0/8", "10.0.2.0/24x"])
def test_no_network(target, cidr):
    assert refused("--netns", target.pid, f"--cidr={cidr}")[0].startswith("--cidr: ")


def test_ipv6(box, target, peer, peer6):
    with Net(box, "--netns", target.pid):
        assert target.curl(f"http://[{peer6}]/hello.txt").stdout == "hello from the peer\n"
    target.end()
    other = Target()
    try:
        with Net(box, "--netns", other.pid, "--no-ipv6"):
            assert other.sh("grep -v ' lo$' /proc/net/if_inet6 || echo none") == "none\n"
            assert other.curl(f"http://{peer}/hello.txt").stdout == "hello from the peer\n"
    finally:
        other.end()


def test_the_host_is_closed(box, target):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        with Net(box, "--netns", target.pid):
            assert target.curl(f"http://10.0.2.2:{port}/").returncode == 7
            assert target.curl(f"http://127.0.0.1:{port}/").returncode == 7


def test_expose_host(box, target):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        with Net(box, "--netns", target.pid, "--expose-host", port):
            client = subprocess.Popen(["nsenter", "--target", str(target.pid), "--user", "--preserve-credentials", "--net", "curl", "-sSm", "20",
                                       "--http0.9", f"http://10.0.2.2:{port}/"], stdout=subprocess.PIPE)
            s.settimeout(WAIT)
            conn, _ = s.accept()
            conn.recv(4096)
            conn.sendall(b"the host's")
            conn.close()
            assert client.communicate(timeout=WAIT)[0] == b"the host's"


SERVER = """
import socket, sys
tcp = socket.create_server(("", 8000)); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("", 8000))
print("up", flush=True)
while True:
    conn, peer = tcp.accept(); conn.sendall(conn.recv(100).upper()); conn.close()
    data, peer = udp.recvfrom(100); udp.sendto(data.upper(), peer)
"""


@pytest.mark.parametrize("more", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_published_ports(box, target, more):
    """Free ports of the host's, which it names, for TCP and UDP."""
    server = subprocess.Popen(["nsenter", "--target", str(target.pid), "--user", "--preserve-credentials", "--net", "/usr/bin/python3", "-c", SERVER],
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "up\n"
        with Net(box, "--netns", target.pid, "-p", "127.0.0.1:0:8000", "-p127.0.0.1:0:8000/udp", *more) as net:
            ports = dict(re.findall(r"published (tcp|udp) 127\.0\.0\.1:(\d+) for 8000", net.text()))
            with socket.create_connection(("127.0.0.1", int(ports["tcp"])), WAIT) as s:
                s.sendall(b"hello")
                assert s.recv(100) == b"HELLO"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(WAIT)
                s.connect(("127.0.0.1", int(ports["udp"])))
                s.send(b"hello")
                assert s.recv(100) == b"HELLO"
    finally:
        server.kill()
        server.communicate()


def test_policy_and_log(box, target, peer):
    log = box.dir / "flows"
    with Net(box, "--netns", target.pid, "--dns", peer, "--allow", "peer.usbox.test:80", "--net-log", log) as net:
        assert target.curl("http://peer.usbox.test/hello.txt").stdout == "hello from the peer\n"
        assert target.curl(f"http://{peer}:8080/").returncode == 7
        assert target.run("getent", "hosts", "other.usbox.test").returncode != 0
        assert net.end() == 0
        assert f"denied by policy: {peer}:8080/tcp (to allow: --allow" in net.text() or "denied by policy: peer.usbox.test:8080" in net.text(), net.text()
        assert "denied by policy: other.usbox.test" in net.text()
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert any(line["event"] == "end" for line in lines) and [line["name"] for line in lines if line["event"] == "denied"].count("other.usbox.test") >= 1, lines


def test_tap_alone(box, target, peer):
    """--no-configure makes an interface of that name and MTU and leaves the rest to who asked for it, fast path included."""
    with Net(box, "--netns", target.pid, "--no-configure", "--tap", "eth7", "-m", "1500", "--verbose") as net:
        link = target.sh("ip -o link show eth7; ip -o address show dev eth7; ip route")
        assert "state DOWN" in link and "inet" not in link, link
        target.sh("ip link set lo up; ip address add 10.0.2.100/24 dev eth7; ip link set eth7 up mtu 1500; ip route add default via 10.0.2.2")
        assert target.curl(f"http://{peer}:8080/").stdout == "nginx\n"
        assert net.end() == 0


# What a DHCP client says to everybody, as nobody, and what it is told.
DHCP = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, 25, b"eth7")
s.settimeout(20)
s.bind(("0.0.0.0", 68))
mac = bytes.fromhex("0200000000aa")
def ask(kind, more=b""):
    head = struct.pack("!BBBBIHH16s16s192sI", 1, 1, 6, 0, 77, 0, 0x8000, b"", mac, b"", 0x63825363)
    s.sendto(head + bytes([53, 1, kind]) + more + b"\\xff", ("255.255.255.255", 67))
    answer = s.recv(2000)
    options, at = {}, 240
    while answer[at] != 255:
        options[answer[at]] = answer[at + 2:at + 2 + answer[at + 1]]
        at += 2 + answer[at + 1]
    return socket.inet_ntoa(answer[16:20]), options
offered, options = ask(1)
given, options = ask(3, bytes([50, 4]) + socket.inet_aton(offered) + bytes([54, 4]) + options[54])
print(options[53][0], given, *(socket.inet_ntoa(options[i]) for i in (1, 3, 6)))
"""


def test_addresses_for_those_who_ask(box, target):
    """By DHCP for IPv4; by the kernel's own client of router advertisements for IPv6."""
    with Net(box, "--netns", target.pid, "--no-configure", "--tap", "eth7", "--no-fast-path"):
        target.sh("ip link set lo up; ip link set eth7 up")
        asked = target.run("/usr/bin/python3", "-c", DHCP)
        assert asked.stdout == "5 10.0.2.100 255.255.255.0 10.0.2.2 10.0.2.3\n", asked
        assert wait_until(lambda: re.search(r"inet6 fd00::\S+/64 scope global(?! tentative)", target.sh("ip -6 address show dev eth7")), WAIT)
        assert "default via fe80::" in target.sh("ip -6 route show dev eth7")


def test_as_slirp4netns_is_called(box, target, peer):
    """What podman gives to that, descriptors included; the other end of the exit one is closed by the caller's death."""
    read_end, write_end = os.pipe()
    argv = ["-c", f"--exit-fd={read_end}", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", "-6", "--netns-type=path",
            f"/proc/{target.pid}/ns/net", "tap0"]
    os.set_inheritable(read_end, True)
    net = subprocess.Popen([USBOX_NET, *argv, "-r", "1"], stdout=subprocess.PIPE, pass_fds=[read_end])
    os.close(read_end)
    assert net.stdout.read() == b"1"
    assert target.curl(f"http://{peer}:8080/").stdout == "nginx\n"
    os.close(write_end)
    assert net.wait(WAIT) == 0


# How long a segment by IPv4 may be on lo (IFLA_GSO_IPV4_MAX_SIZE): nothing before Linux 6.3.
SEGMENTS = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
    s.sendto(struct.pack("=IHHIIBBHiII", 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0), (0, 0))
    data, at = s.recv(65536), 32
while at < len(data):
    size, kind = struct.unpack_from("=HH", data, at)
    if kind == 63:
        print(*struct.unpack_from("=I", data, at + 4))
    at += (size + 3) & ~3
"""


def test_one_after_another(box, target, peer):
    """What one leaves is as it was before; what one leaves that was killed the next one clears away."""
    def segments():
        return target.run("/usr/bin/python3", "-c", SEGMENTS).stdout
    rules = "ip rule; ip -6 rule; ip route show table 100 2>&1; ip -6 route show table 100 2>&1; true"
    nothing = target.sh("ip rule; ip -6 rule")
    for options, kill in (([], False), (["--net-delay=1ms"], True), ([], True), (["--net-delay=1ms"], False), ([], False)):
        with Net(box, "--netns", target.pid, "--verbose", *options) as net:
            assert target.curl(f"http://{peer}:8080/").stdout == "nginx\n"
            assert "TCP fast path made" in net.text(), net.text()
            assert "fwmark 0x2" in target.sh(rules)
            assert segments() in ("", "65536\n" if options else "262144\n")
            if kill:
                net.proc.kill()
                net.proc.wait()
                assert wait_until(lambda: target.run("ip", "link", "show", "tap0").returncode != 0, WAIT)
            else:
                assert net.end() == 0
                assert re.sub("Error.*\n|Dump.*\n", "", target.sh(rules)) == nothing
                assert segments() in ("", "65536\n")


@pytest.mark.parametrize("how", ["process", "TERM", "INT", "HUP"])
def test_ends(box, target, how):
    with Net(box, "--netns", target.pid) as net:
        if how == "process":
            target.end()
        else:
            net.proc.send_signal(getattr(signal, "SIG" + how))
        assert net.proc.wait(WAIT) == 0
        assert net.text() == ""


def test_the_front_is_killed(box, target):
    """With it goes all of usbox-net."""
    with Net(box, "--netns", target.pid) as net:
        assert any("--wire" in line for line in own_processes().values())
        net.end(signal.SIGKILL)
        assert wait_until(lambda: not any("usbox-net" in line for line in own_processes().values()), 20)


def test_usbox_net_is_killed(box, target):
    with Net(box, "--netns", target.pid) as net:
        os.kill(next(pid for pid, line in own_processes().items() if "--wire" in line and "agent" not in line), signal.SIGKILL)
        assert net.proc.wait(WAIT) == 1
        assert "killed by signal 9" in net.text() or "wire" in net.text(), net.text()


def test_the_agent_is_killed(box, target, peer):
    """Published TCP ports are gone with it, and nothing else."""
    with Net(box, "--netns", target.pid, "-p", "127.0.0.1:0:8000") as net:
        os.kill(next(pid for pid, line in own_processes().items() if "agent" in line), signal.SIGKILL)
        assert wait_until(lambda: "no more connections to published ports" in net.text())
        assert target.curl(f"http://{peer}/hello.txt").stdout == "hello from the peer\n", net.text()
        assert net.proc.poll() is None


def test_confined(box, target):
    """The process that reads frames has given up what the front keeps."""
    with Net(box, "--netns", target.pid):
        pid = next(pid for pid, line in own_processes().items() if "--wire" in line and "agent" not in line)
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
        assert (status["CapEff"], status["CapPrm"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "0" * 16, "1", "2")
        for name in ("ns/net", "root"):  # it may not even be looked at
            with pytest.raises(PermissionError):
                os.readlink(f"/proc/{pid}/{name}")


# A user namespace with mounts of its own, and in it a network namespace that is kept by a file: what rootless containers have.
ROOT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")


def test_path(box, peer):
    """A file that keeps the namespace; the end is when it is unmounted."""
    script = f"""
touch ns; unshare --net=ns true
mkfifo ready; exec 7<>ready; {USBOX_NET} --netns ns --ready-fd 7 & net=$!
test "$(head -c1 <&7)" = 1; nsenter --net=ns curl -sS -m 20 http://{peer}:8080/
umount ns; wait $net; echo "ended $?"
"""
    result = subprocess.run([*ROOT, script], cwd=box.dir, capture_output=True, text=True, timeout=2 * WAIT, check=False)
    assert result.stdout == "nginx\nended 0\n", result


# $1: usbox-net, $2: what resolv.conf leads to, $3: how long to wait at most.
RESOLV_LINK = r"""
limit=$(($3 * 10))
mount -t tmpfs none /etc; mount -t tmpfs none /run
ln -s "$2" /etc/resolv.conf
mkfifo /run/ready
unshare --net sleep 1000 & target=$!
until [ "$(readlink /proc/$target/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
"$1" --verbose --netns $target --ready-fd 3 3>/run/ready 2>/run/log & net=$!
read -r _ </run/ready || true
become() { i=0; until [ "$(grep -o "[0-9] name servers" /run/log | tail -n1)" = "$1 name servers" ]; do i=$((i + 1)); [ $i -lt $limit ] || { cat /run/log; exit 1; }; sleep 0.1; done; }
become 1
mkdir -p /run/some/where; sleep 0.2
printf 'nameserver 192.0.2.1\nnameserver 192.0.2.2\n' >/run/some/where/resolv.conf
become 2
rm -r /run/some; become 1
mkdir /run/some; sleep 0.2; mkdir /run/some/where; sleep 0.2
printf 'nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n' >/run/some/new; mv /run/some/new /run/some/where/resolv.conf
become 3
told=$(grep -c "name servers" /run/log)
echo x >/etc/hosts; mkdir /etc/other; echo y >/etc/other.conf; mv /etc/other.conf /etc/conf; rm -r /etc/hosts /etc/other /etc/conf; echo z >/run/some/where/resolv.conf.new
sleep 0.3; [ $(grep -c "name servers" /run/log) = $told ] || { cat /run/log; exit 1; }  # which would have its DNS forget all that it knows
mv /run/some/where/resolv.conf /etc/here; ln -sf here /etc/resolv.conf; echo 'nameserver 192.0.2.4' >>/etc/here
become 4
printf 'nameserver 192.0.2.1\nnameserver 192.0.2.2\n' >/etc/there; mv /etc/there /etc/here
become 2
kill $net; wait $net; kill $target
"""


@pytest.mark.parametrize("leads_to", ["/run/some/where/resolv.conf", "../run/some/where/resolv.conf"])
def test_resolv_conf_that_is_not_there_yet(box, leads_to):
    """Whoever writes it is started later, and stopped and started again, with its directory."""
    argv = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", RESOLV_LINK, "sh", str(USBOX_NET),
            leads_to, str(WAIT)]
    result = subprocess.run(argv, cwd=box.dir, env=box.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * WAIT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_inotify(box):
    """It goes on with the name servers that it has read, and says so."""
    script = f"""
echo 0 >/proc/sys/user/max_inotify_instances; touch ns; unshare --net=ns true
mkfifo ready; exec 7<>ready; {USBOX_NET} --netns ns --ready-fd 7 & net=$!
test "$(head -c1 <&7)" = 1; umount ns; wait $net; echo "ended $?"
"""
    result = subprocess.run([*ROOT, script], cwd=box.dir, capture_output=True, text=True, timeout=2 * WAIT, check=False)
    assert result.stdout == "ended 0\n" and "the name servers stay those that they are now" in result.stderr and "--dns IP" in result.stderr, result


def test_userns_path(box, target, peer):
    with Net(box, "--netns-type=path", "--netns", f"/proc/{target.pid}/ns/net", "--userns-path", f"/proc/{target.pid}/ns/user"):
        assert target.curl(f"http://{peer}:8080/").stdout == "nginx\n"


def test_bad_targets(box, target):
    mine = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()  # has ended
    assert refused("--netns", mine) == (f"--netns {mine}: No such process", "no such process: lsns -t net lists network namespaces, each with one that is in it")
    error, hint = refused("--netns", os.getpid())
    assert "in which usbox-net itself runs" in error and "unshare" in hint
    error, hint = refused("--netns", 1)
    assert error == "--netns /proc/1/ns/net: Permission denied" and "caller's own" in hint
    assert refused("--netns", "/etc/passwd")[0] == "--netns /etc/passwd: not a network namespace"
    assert refused("--netns", f"/proc/{target.pid}/ns/user")[0].endswith("not a network namespace")
    assert refused("--netns", "/no\nsuch")[0] == "--netns /no\\nsuch: No such file or directory"
    assert refused("--netns", target.pid, "--userns-path", f"/proc/{target.pid}/ns/net")[0].endswith("not a user namespace")
    box.write("fifo-is-not-waited-for")
    os.mkfifo(box.dir / "fifo")
    assert refused("--netns", box.dir / "fifo")[0].endswith("fifo: not a network namespace")


def test_another_users_namespace(box, target):
    """From a user namespace beside it, whose rights do not count there."""
    error, hint = refused("--netns", target.pid, wrap=["unshare", "--user", "--map-root-user"])
    assert "ermi" in error and "caller's own" in hint, (error, hint)


def test_tun_missing(box):
    script = f"touch ns; unshare --net=ns true; mount -t tmpfs none /dev/net; exec {USBOX_NET} --netns ns"
    result = subprocess.run([*ROOT, script], cwd=box.dir, capture_output=True, text=True, timeout=WAIT, check=False)
    error, hint = result.stderr.splitlines()
    assert result.returncode == 1 and error == "usbox-net: /dev/net/tun: No such file or directory", result
    assert hint.startswith("usbox-net: hint: sudo modprobe tun ") and "--device /dev/net/tun" in hint, result


def test_name_is_taken(box, target):
    with Net(box, "--netns", target.pid):
        error, hint = refused("--netns", target.pid)
        assert error == "create tap0: Device or resource busy" and "interface" in hint


BAD_OPTIONS = [
    ([], "--netns PID|PATH is missing"), (["--netns"], "--netns needs PID|PATH"), (["--netns="], "--netns needs PID|PATH"), (["--nets", "1"], "--nets: unknown option"),
    (["-x"], "-x: unknown option"), (["-cxr"], "-cxr: unknown option"), (["-r"], "-r needs FD"), (["-r", "x", "1"], "--ready-fd: 'x' is not"),
    (["-r99", "1"], "--ready-fd: file descriptor 99 is not open"), (["--exit-fd", "-1", "1"], "--exit-fd: '-1' is not"),
    (["--mtu", "1279", "1"], "--mtu: '1279'"),
    (["--mtu=65521", "1"], "--mtu: '65521'"), (["--tap", "a/b", "1"], "--tap: 'a/b'"), (["1", "sixteen-letters-"], "--tap: 'sixteen-letters-'"),
    (["1", "tap0", "x"], "'x': there is"), (["1", "--netns", "2"], "--netns: there is one already"), (["--netns-type", "x", "1"], "--netns-type: 'x' is not"),
    (["-c", "--no-configure", "1"], "--configure and --no-configure"), (["--no-ipv6=1", "1"], "--no-ipv6 takes no value"), (["-p", "80", "1"], "--publish: '80'"),
    (["-p", "[::1]:1:2", "--no-ipv6", "1"], "--publish [::1]:1:2 and --no-ipv6"), (["--allow", "a.example:0", "1"], "--allow: 'a.example:0'"),
    (["--expose-host", "0", "1"], "--expose-host: '0'"), (["--dns", "x", "1"], "--dns: 'x' is not"), (["--add-host", "x", "1"], "--add-host: 'x'"),
    (["--net-rate", "x", "1"], "--net-rate: 'x'"), (["--net-delay", "x", "1"], "--net-delay: 'x'"), (["--net-loss", "101", "1"], "--net-loss: '101'"),
    (["--best-effort", "x", "1"], "--best-effort: 'x'"), (["--tls-names", "--no-fast-path", "1"], "--tls-names and --no-fast-path: ")]


def test_bad_options(target):
    for argv, error in BAD_OPTIONS:
        assert refused(*argv)[0].startswith(error), argv
    assert refused("--netns", target.pid, "--net-log", "/no/such")[0] == "--net-log /no/such: No such file or directory"
    alone = subprocess.run([USBOX_NET, "--wire", "3"], stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False)
    assert alone.returncode == 1  # the launcher's form, without a launcher


def test_help_and_version():
    out = subprocess.run([USBOX_NET, "--help"], capture_output=True, text=True, check=True).stdout
    assert out.startswith("usage: usbox-net ") and "--netns PID|PATH" in out
    page = (TOP / "man" / "usbox-net.8.scd").read_text(encoding="utf-8")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", out))
    assert len(options) > 25 and not [option for option in options if f"*{option}*" not in page]
    assert subprocess.run([USBOX_NET, "-V"], capture_output=True, text=True, check=True).stdout.startswith("usbox-net 0.")


def test_try_fast_path():
    """It leaves nothing, and says what is missing."""
    result = subprocess.run([USBOX_NET, "--try-fast-path"], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    error, _ = refused("--try-fast-path", wrap=["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"', "sh"])
    assert "namespace" in error, error


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)], ids=str)
def test_closed_standard_descriptors(box, target, closed):
    """What it says goes nowhere then, and not into the first of its own descriptors that got the number."""
    log, ready = box.dir / "denied", box.dir / "ready"
    ready.write_bytes(b"")
    close = " ".join(f"{fd}>&-" for fd in closed)
    script = f'exec 7<>"$1" "$2" --verbose --netns "$3" --net-log "$4" --ready-fd 7 {close}'
    with subprocess.Popen(["sh", "-c", script, "sh", ready, USBOX_NET, str(target.pid), log]) as net:
        assert wait_until(lambda: ready.read_bytes() == b"1" or net.poll() is not None, WAIT)
        assert [os.readlink(f"/proc/{net.pid}/fd/{fd}") for fd in closed] == ["/dev/null"] * len(closed)
        net.terminate()
        assert net.wait(WAIT) == 0
    assert ready.read_bytes() == b"1" and log.read_bytes() == b""
