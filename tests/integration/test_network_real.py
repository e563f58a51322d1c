# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network of a box with programs that nobody here wrote at both ends: curl and nginx, ssh and scp, git, iperf3, asyncio, ping, traceroute, apt-get.
Their servers are tests/lib/peer_real.py's. Not how fast it is (tests/bench/net): that it works, that every byte arrives, and that nothing stays."""
import hashlib
import os
import pathlib
import pwd
import subprocess
import time
import urllib.request

import pytest

import unpacked  # tests/lib
from conftest import cannot, own_processes, wait_until
from ports import free_port  # tests/lib

MB = 1 << 20
TIMEOUT = 120


def random_file(box, name, size):
    """A file of the box's working directory, and its sha256; no two MB of it are the same."""
    digest, block = hashlib.sha256(), os.urandom(MB - 8)
    with open(box.write(name, ""), "wb") as f:
        for i in range(size // MB):
            for piece in (i.to_bytes(8, "little"), block):
                digest.update(piece)
                f.write(piece)
    return digest.hexdigest()


@pytest.mark.slice
@pytest.mark.parametrize("more", [[], ["--no-fast-path"]], ids=["fast", "frames"])
def test_curl_both_ways(box, peer, more):
    """PUT and GET of a GB (by frames, which is slower: 32 MB), over one connection that is kept."""
    digest = random_file(box, "data", 32 * MB if more else 1024 * MB)
    url = f"http://{peer}:8080/store/data"
    script = f"""
mkfifo back; sha256sum <back >sum &
curl -sSf -T data {url} --next -sSf -o back {url} --next -sSf -X DELETE {url} -w '%{{http_code}} %{{num_connects}}\\n' && wait && cat sum
"""
    assert box.sh(script, *more, timeout=3 * TIMEOUT).lines() == ["204 0", f"{digest}  -"]


def test_curl_keeps_its_connection(box, peer):
    """500 requests one after the other, of which the first alone connects."""
    out = box.sh(f"curl -sSf -w '%{{num_connects}}\\n' 'http://{peer}:8080/[1-500]'", timeout=TIMEOUT).lines()
    assert out == ["nginx", "1"] + ["nginx", "0"] * 499


NGINX = """
daemon off; pid nginx.pid; worker_processes 1;
events { worker_connections 500; }
http {
    access_log off; client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server { listen 8080; listen [::]:8080; root www; location /store/ { dav_methods PUT; create_full_put_path on; } }
}
"""


def test_nginx_in_the_box_behind_a_published_port(box):
    """The host's curl: 200 MB of the box's nginx, 50 MB to it and back, and many requests by one connection."""
    port = free_port()
    digest, up = random_file(box, "www/data", 200 * MB), random_file(box, "up", 50 * MB)
    box.write("nginx.conf", NGINX)
    box.write("www/small", "small\n")
    url = f"http://127.0.0.1:{port}"
    nginx = box.popen("run", "--rm", "-p", f"127.0.0.1:{port}:8080", "--", "/usr/sbin/nginx", "-p", box.dir, "-e", "error.log", "-c", "nginx.conf")
    try:
        def curl(*args):
            return subprocess.run(["curl", "-sSf", "-m", str(TIMEOUT), *args], check=True, capture_output=True).stdout
        assert wait_until(lambda: subprocess.run(["curl", "-sf", "-m", "5", url + "/small"], capture_output=True, check=False).stdout == b"small\n", 20)
        assert hashlib.sha256(curl(url + "/data")).hexdigest() == digest
        curl("-T", box.dir / "up", url + "/store/up")
        assert hashlib.sha256(curl(url + "/store/up")).hexdigest() == up
        out = curl("-w", "%{num_connects}\n", url + "/small?[1-200]").decode().split()
        assert out == ["small", "1"] + ["small", "0"] * 199
    finally:
        nginx.terminate()
        nginx.communicate(timeout=TIMEOUT)


@pytest.fixture
def ssh(box, peer):
    """Options with which ssh and scp of a box reach the other machine's sshd."""
    for name in ("ssh-key", "ssh-known-hosts"):
        with urllib.request.urlopen(f"http://{peer}/{name}", timeout=TIMEOUT) as answer:
            box.write(name, answer.read(), 0o600)
    return ["-F", "none", "-i", box.dir / "ssh-key", "-o", f"UserKnownHostsFile={box.dir}/ssh-known-hosts", "-o", "BatchMode=yes"]


def test_ssh_interactive(box, peer, ssh):
    with box.pty("run", "--rm", "--", "ssh", *ssh, "-tt", "-p", "2222", f"{box.env['USER']}@{peer}", "exec sh") as pty:
        pty.send("echo here is $((6 * 7)); stty size\r")
        pty.expect(r"here is 42\r+\n24 80", TIMEOUT)
        pty.send("cat\ranswer\r")
        pty.expect("answer.*answer", TIMEOUT)
        pty.send("\x03")
        pty.expect(r"\n\$ ", TIMEOUT)
        pty.resize(30, 100)
        pty.send("until stty size | grep -x '30 100'; do sleep 0.1; done; exit 7\r")
        pty.expect(r"\n30 100", TIMEOUT)
        assert pty.wait(TIMEOUT) == 7


def test_ssh_command_and_scp(box, peer, ssh):
    digest = random_file(box, "data", 20 * MB)
    there = f"{box.env['USER']}@{peer}"
    copy = box.top / "copied"
    out = box.run("--rm", "--", "ssh", *ssh, "-p", "2222", there, "wc -c; exit 3", timeout=TIMEOUT, input=b"x" * MB)
    assert (out.rc, out.out.strip()) == (3, str(MB)), out
    box.run("--rm", "--", "scp", "-q", *ssh, "-P", "2222", "data", f"{there}:{copy}", timeout=TIMEOUT).ok()
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == digest
    back = box.run("--rm", "--", "sh", "-c", 'scp -q "$@" back && sha256sum <back', "scp", *ssh, "-P", "2222", f"{there}:{copy}", timeout=TIMEOUT)
    assert back.lines() == [f"{digest}  -"]


def test_git_daemon(box, peer):
    with urllib.request.urlopen(f"http://{peer}/repo.tree", timeout=TIMEOUT) as answer:
        tree = answer.read().decode().strip()
    out = box.sh(f"git clone -q git://{peer}/repo.git cloned && cd cloned && git fsck --strict 2>&1 && git rev-parse 'HEAD^{{tree}}' && git status --porcelain",
                 timeout=TIMEOUT)
    assert out.lines()[-1] == tree, out


@pytest.mark.parametrize("options,directions", [([], ["sum_received"]), (["-R"], ["sum_received"]), (["-u", "-b", "20M", "-l", "1400"], ["sum"]),
                                                (["--bidir"], ["sum_received", "sum_received_bidir_reverse"])], ids=["up", "down", "udp", "bidir"])
def test_iperf3(box, peer, options, directions):
    """That bytes arrive in each direction."""
    # The one before may still have the server, which serves one at a time.
    script = 'for i in 1 2 3 4 5; do iperf3 "$@" >out && break; grep -q busy out || break; sleep 1; done; cat out'
    result = box.run("--rm", "--", "sh", "-c", script, "iperf3", "-J", "-t", "1", "-c", peer, *options, timeout=TIMEOUT).json()
    assert "error" not in result, result["error"]
    for direction in directions:
        assert result["end"][direction]["bytes"] > MB, (direction, result["end"])
    if options[:1] == ["-u"]:
        assert result["end"]["sum"]["packets"] > 1000 and result["end"]["sum"]["lost_percent"] < 50, result["end"]["sum"]


ASYNCIO = """
import asyncio, sys
address, count = sys.argv[1], int(sys.argv[2])

async def ask(reader, writer):
    writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    assert head.startswith(b"HTTP/1.1 200 ") and await reader.readexactly(6) == b"nginx\\n"

async def main():
    streams = await asyncio.gather(*(asyncio.open_connection(address, 8080) for _ in range(count)))
    for _ in range(3):
        await asyncio.gather(*(ask(*s) for s in streams))
    for _, writer in streams:
        writer.close()
    print(len(streams))

asyncio.run(main())
"""


def test_asyncio_with_2000_sockets(box, peer):
    """All open at once, and each is asked three times."""
    assert box.run("--rm", "--ulimit", "nofile=4096", "--", "/usr/bin/python3", "-c", ASYNCIO, peer, "2000", timeout=TIMEOUT).ok().out == "2000\n"


# COUNT connections opened, used and closed for each line of stdin.
SHORT = """
import socket, sys
request = b"GET / HTTP/1.0\\r\\n\\r\\n"
print("ready", flush=True)
for line in sys.stdin:
    for i in range(int(line)):
        with socket.create_connection((sys.argv[1], 8080), 60) as s:
            s.sendall(request)
            while s.recv(4096):
                pass
    print("done", flush=True)
"""


def usbox_net():
    """The pid of the test's usbox-net."""
    found = [pid for pid, what in own_processes().items() if what.startswith("usbox-net ")]
    assert len(found) == 1, own_processes()
    return found[0]


def status(pid, key):
    """A number of /proc/PID/status: VmRSS in KiB; FDSize, the room in the table of fds, which never shrinks. (/proc/PID/fd is closed to us.)"""
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition(key + ":")[2].split()[0])


def test_10000_connections_leave_nothing(box, peer):
    """usbox-net's table of fds did not grow, and its memory by less than 0.2 KiB for each."""
    proc = box.popen("run", "--rm", "--", "/usr/bin/python3", "-c", SHORT, peer, stdin=subprocess.PIPE)

    def connections(count):
        proc.stdin.write(b"%d\n" % count)
        proc.stdin.flush()
        assert proc.stdout.readline() == b"done\n"
    try:
        assert proc.stdout.readline() == b"ready\n"
        net = usbox_net()

        connections(2000)  # after which pools and pipes have their size
        before = status(net, "FDSize"), status(net, "VmRSS")
        assert before[0] < 1000, before
        connections(10000)
        after = status(net, "FDSize"), status(net, "VmRSS")
        assert after[0] == before[0] and after[1] < before[1] + 2048, (before, after)
    finally:
        out, err = proc.communicate(timeout=TIMEOUT)
    assert proc.returncode == 0, (out, err)


IDLE = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), 60)
def exchange(pause):
    s.sendall(b"x" * 64)
    assert s.recv(64)
    time.sleep(pause)
for _ in range(300):
    exchange(0)
print("silent", flush=True)
sys.stdin.readline()
print("slow", flush=True)
for _ in range(20):
    exchange(0.05)
print("done", flush=True)
sys.stdin.readline()
s.setblocking(False)
full = time.monotonic()
while time.monotonic() < full + 0.5:
    try:
        while s.send(bytes(65536)):
            full = time.monotonic()
    except BlockingIOError:
        time.sleep(0.05)
print("stalled", flush=True)
sys.stdin.readline()
"""


def test_nothing_to_do_costs_nothing(box, peer):
    """usbox-net looks for what comes next after a quick exchange: not when nothing comes, not when the peer is slow, not when it cannot take any more."""
    proc = box.popen("run", "--rm", "--", "/usr/bin/python3", "-c", IDLE, peer, stdin=subprocess.PIPE)

    def cpu():
        fields = pathlib.Path(f"/proc/{usbox_net()}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def go_on():
        proc.stdin.write(b"\n")
        proc.stdin.flush()
        return proc.stdout.readline().decode().strip()
    try:
        assert proc.stdout.readline() == b"silent\n"
        start = cpu()
        time.sleep(1)  # a second of it is what is measured
        silent = cpu() - start
        assert go_on() == "slow"
        start = cpu()
        assert proc.stdout.readline() == b"done\n"
        slow = cpu() - start
        assert go_on() == "stalled"
        start = cpu()
        time.sleep(1)
        stalled = cpu() - start
    finally:
        out, err = proc.communicate(timeout=TIMEOUT)
    assert proc.returncode == 0, (out, err)
    assert max(silent, slow, stalled) <= 0.1, (silent, slow, stalled)


def test_ping(box, peer, peer6):
    """In frames larger than the way to the other machine takes."""
    low, high = map(int, open("/proc/sys/net/ipv4/ping_group_range", encoding="ascii").read().split())
    assert low <= os.getgid() <= high, "peer.sh allows it"
    for address in (peer, peer6):
        out = box.sh(f"ping -n -c 5 -i 0.2 -s 8000 -W 20 {address}", timeout=TIMEOUT).ok().out
        assert "5 received" in out and out.count("8008 bytes from") == 5, out


def test_ping_in_fragments(box, peer, peer6):
    """Longer than the box's own MTU: what its kernel has cut goes out whole, and so does the answer come; what is refused is so at once."""
    for address in (peer, peer6):
        for size, *options in ((65507,), (2000, "--mtu=1500"), (4000, "--net-delay=1ms")):
            out = box.sh(f"ping -n -c 3 -i 0.2 -s {size} -W 20 {address}", *options, timeout=TIMEOUT).ok().out
            assert "3 received" in out and out.count(f"{size + 8} bytes from") == 3, out
        out = box.sh(f"ping -n -c 1 -s 2000 -W 20 {address}", "--mtu=1500", f"--deny={address}", timeout=TIMEOUT).out
        assert "0 received, +1 errors" in out, out


def test_traceroute(box, peer, peer6):
    """By UDP, whose ICMP errors come back, and by echo: it ends with the machine that it was to find."""
    for address in (peer, peer6):
        for how in ("", "-I"):
            out = box.sh(f"traceroute {how} -n -q 1 -N 1 -m 5 -w 10 {address}", timeout=TIMEOUT).lines()
            assert out[-1].split()[1] == address, out


def test_apt_get_update(box, peer):
    """Of a repository on the other machine's nginx, where the box has put it: lists, a package, and pipelined requests for what is not there."""
    script = f"""
mkdir -p repo root/DEBIAN root/opt lists/partial cache/archives/partial etc
printf 'Package: usbox-apt-test\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: x <x@usbox.test>\\nDescription: test\\n' >root/DEBIAN/control
head -c 3000000 /dev/urandom >root/opt/data
dpkg-deb --root-owner-group -Znone -b root repo/test.deb >log
(cd repo && dpkg-scanpackages . >Packages) 2>log
for file in Packages test.deb; do curl -sSf -T repo/$file http://{peer}:8080/store/apt/$file; done
echo 'deb [trusted=yes] http://{peer}:8080/store/apt ./' >etc/sources.list
: >status
apt="-o Dir::Etc=$PWD/etc -o Dir::Etc::sourceparts=- -o Dir::Etc::parts=- -o Dir::Etc::trustedparts=- -o Dir::State=$PWD -o Dir::State::status=$PWD/status -o Dir::Cache=$PWD/cache"
apt-get -q $apt update
apt-get -q $apt download usbox-apt-test >>log
cmp usbox-apt-test_1.0_all.deb repo/test.deb && echo same
for file in Packages test.deb; do curl -sSf -X DELETE http://{peer}:8080/store/apt/$file; done
"""
    out = box.sh("set -e\n" + script, timeout=TIMEOUT).lines()
    assert out[-1] == "same" and any(line.startswith("Get:") and "Packages" in line for line in out), out


NTP = """
import os, select, socket, sys, time
def exchange(address, fresh):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    if fresh % 2:
        s.bind(("", 0))
    s.connect((address, 7))
    stamp = os.urandom(8)
    s.send(bytes([0x23]) + bytes(39) + stamp)
    assert select.select([s], [], [], 10)[0], (address, fresh)
    data, ancillary, flags, sender = s.recvmsg(1024, 1024)
    assert len(data) == 48 and data[40:] == stamp and sender[0] == address, (data, sender)
    return s.getsockname()[1]
for address in sys.argv[1:]:
    ports = {exchange(address, i) for i in range(8)}  # iburst, each from a port of its own, as against spoofers
    assert len(ports) >= 7, ports
print("synchronised")
"""


def test_time_queries(box, peer, peer6):
    """What chrony does: requests of 48 bytes, each from a fresh and connected socket, whose answer must have the request's own stamp."""
    assert box.usbox("run", "--rm", "--", "/usr/bin/python3", "-c", NTP, peer, peer6).ok().out == "synchronised\n"


def test_chrony(box, peer):
    """Its own client asks its own server for the time, and believes the answer."""
    chronyd = unpacked.program("chronyd")
    if not chronyd:
        cannot("run chronyd: ./check unpacks it")
    bind = ["-v", f"{unpacked.ROOT}:{unpacked.ROOT}:ro"] if unpacked.ROOT else []
    user = pwd.getpwuid(os.getuid()).pw_name
    result = box.usbox("run", "--rm", *bind, "--", *chronyd, "-U", "-Q", "-t", "60", "-u", user, f"server {peer} iburst maxsamples 1", "cmdport 0", "bindcmdaddress /",
                       "pidfile /tmp/chronyd.pid").ok()
    assert "System clock wrong by" in result.out + result.err, result


# lookup NAME TYPE...: code, how many answers, by the libc's own way of asking again by TCP.
LOOKUP = """
import socket, struct, sys
def exchange(query, tcp):
    s = socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM); s.settimeout(60); s.connect(("10.0.2.3", 53))
    s.sendall(struct.pack("!H", len(query)) + query if tcp else query)
    if not tcp: return s.recv(65536)
    f = s.makefile("rb"); return f.read(struct.unpack("!H", f.read(2))[0])
for name, kind in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\\0" + struct.pack("!HH", kind, 1)
    answer = exchange(query, False)
    cut = bool(answer[2] & 2)
    if cut: answer = exchange(query, True)
    print(name, answer[3] & 15, struct.unpack("!H", answer[6:8])[0], "tcp" if cut else "udp", len(answer) > 12000)
"""


def test_unbound(box, peer, peer6):
    """A chain of aliases, answers that only TCP carries, no such name, a zone that the server could not get."""
    if not unpacked.program("unbound"):
        cannot("run unbound: ./check unpacks it")
    resolver = peer6.rpartition("::")[0] + "::54"
    out = box.usbox("run", "--rm", f"--dns={resolver}", "--", "/usr/bin/python3", "-c", LOOKUP, "www.u.test", "1", "c1.u.test", "1", "big.u.test", "16", "big.u.test", "16",
                    "none.u.test", "1", "x.broken.test", "1").lines()
    assert out == ["www.u.test 0 1 udp False", "c1.u.test 0 9 udp False", "big.u.test 0 60 tcp True", "big.u.test 0 60 tcp True", "none.u.test 3 0 udp False",
                   "x.broken.test 2 0 udp False"], out
    script = "import socket, sys; s = socket.create_connection((sys.argv[1], 80), 60); print(s.getpeername()[0])"
    assert box.usbox("run", "--rm", f"--dns={resolver}", "--allow=c1.u.test:80", "--", "/usr/bin/python3", "-c", script, "c1.u.test").ok().out == peer + "\n"
