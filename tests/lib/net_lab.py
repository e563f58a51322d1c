# SPDX-License-Identifier: LGPL-2.1-or-later
"""A laboratory for usbox-net: a host, another machine, and a box, all of them made of namespaces, so that it needs no root and
leaves nothing behind. Runs under `unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc`.

    box (net-driver's namespace) ── usbox-net ── host (ours) ── veth ── peer
"""
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from sanitized import sanitizer

BUILD = os.environ["USBOX_BUILD"]
DRIVER = os.path.join(BUILD, "tests", "lib", "net-driver")
USBOX_NET = os.path.join(BUILD, "netstack", "usbox-net-stack")
SANITIZED = sanitizer(USBOX_NET) != ""  # then memory that was freed is kept for a while
HERE = os.path.dirname(os.path.abspath(__file__))

# fd00::2 is the gateway's address towards the box as well: the host has it, as hosts may.
HOST4, HOST6 = "203.0.113.2", "2001:db8:1::2"
HOST6_TOO = "fd00::2"
PEER4, PEER6 = "203.0.113.1", "2001:db8:1::1"
ANYIP4 = "198.51.100.77"  # of a prefix that is routed to lo: local without being an address of anything
ECHO = 7000
ANSWER = bytes([192, 0, 2, 200])


def ip(*args, netns=None):
    where = ["nsenter", "-t", str(netns), "-n"] if netns else []
    subprocess.run([*where, "ip", *args], check=True)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# --- servers -------------------------------------------------------------------------------------------------------

def serve_tcp(address, port, handler):
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if s.family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    s.listen(128)

    def accept():
        while True:
            conn, peer = s.accept()
            threading.Thread(target=handler, args=(conn, peer), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def serve_udp(address, port, answer):
    """answer(data, peer) gives the bytes to send back, or None."""
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    if s.family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))

    def loop():
        while True:
            data, peer = s.recvfrom(70000)
            reply = answer(data, peer)
            if reply is not None:
                s.sendto(reply, peer)
    threading.Thread(target=loop, daemon=True).start()


def echo(conn, _peer):
    with conn:
        while data := conn.recv(1 << 16):
            conn.sendall(data)


def dns_answer(data, _peer):
    """Every name has one address, ANSWER, those of "large" have sixty, and those of "silent" get no answer. Of the query only the question comes back:
    what follows it (EDNS) is a record."""
    end = data.index(b"\0", 12) + 5
    if data[12:end - 4].endswith(b"\6silent\0"):
        return None
    count = 60 if data[12:end - 4].endswith(b"\5large\0") else 1
    return data[:2] + b"\x81\x80\0\1\0" + bytes([count]) + b"\0\0\0\0" + data[12:end] + count * (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ANSWER)


def dns_query(name="example.test", room=0):
    """For its address; room: how long a datagram may be that answers, by EDNS."""
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0" + bytes([room > 0]) + labels + b"\0\0\1\0\1" + (struct.pack(">BHHIH", 0, 41, room, 0, 0) if room else b"")


def peer_main():
    for address in ("0.0.0.0", "::"):
        serve_tcp(address, ECHO, echo)
        serve_udp(address, ECHO, lambda data, peer: data)
        serve_udp(address, 53, dns_answer)
    print("up", flush=True)
    threading.Event().wait()


# --- the host ------------------------------------------------------------------------------------------------------

class Lab:
    """The host. Its services write down who came in hits; the other machine is in a network namespace of its own."""

    def __init__(self, module=__file__):
        self.hits = []
        ip("link", "set", "lo", "up")
        self.peer = subprocess.Popen(["unshare", "--net", sys.executable, module, "peer"], stdout=subprocess.PIPE, text=True)
        assert wait_for(lambda: os.readlink(f"/proc/{self.peer.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        ip("link", "add", "up0", "type", "veth", "peer", "name", "down0")
        ip("link", "set", "down0", "netns", str(self.peer.pid))
        for address in (f"{HOST4}/24", f"{HOST6}/64", f"{HOST6_TOO}/128"):
            ip("addr", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
        ip("link", "set", "up0", "up")
        ip("link", "set", "lo", "up", netns=self.peer.pid)
        for address in (f"{PEER4}/24", f"{PEER6}/64"):
            ip("addr", "add", address, "dev", "down0", *(["nodad"] if ":" in address else []), netns=self.peer.pid)
        ip("link", "set", "down0", "up", netns=self.peer.pid)
        ip("route", "add", "default", "via", PEER4)
        ip("-6", "route", "add", "default", "via", PEER6)
        ip("route", "add", "local", "198.51.100.0/24", "dev", "lo")
        assert self.peer.stdout.readline() == "up\n"

    def peer_program(self, script):
        """Python on the other machine, which has said that it is up."""
        proc = subprocess.Popen(["nsenter", "-t", str(self.peer.pid), "-n", sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert proc.stdout.readline() == b"up\n"
        return proc

    def peer_says(self, script):
        """What Python prints there; it has these modules."""
        return subprocess.run(["nsenter", "-t", str(self.peer.pid), "-n", sys.executable, "-c", script], capture_output=True, text=True,
                              cwd=os.path.dirname(os.path.abspath(__file__)), check=True).stdout

    def host_services(self, port=8000):
        """Services of the host on every address it has: no box may reach one."""
        def note(kind):
            return lambda *args: self.hits.append((kind, args[1]))
        for address in ("0.0.0.0", "::"):
            serve_tcp(address, port, note("tcp"))
            serve_udp(address, port, note("udp"))
        return port


class Box:
    """net-driver with a shell of ours in the box: calls of a module's functions by name, this one's if no other is said."""

    def __init__(self, *options, publish=(), wrap=(), stderr=None, module=__file__, resolvers=(PEER4, PEER6)):
        argv = [*wrap, DRIVER, *options]
        for r in resolvers:
            argv += ["--resolver", r]
        for p in publish:
            argv += ["-p", p]
        argv += [USBOX_NET, sys.executable, module, "box"]
        self.stderr = tempfile.TemporaryFile("w+") if stderr is None else stderr
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        self.ports, self.net_pid = [], None
        for line in self.proc.stdout:
            words = line.split()
            if words[0] == "ready":
                self.ports.append((words[1], words[2], int(words[3]), words[4], int(words[5])))
            elif words[0] == "pid":
                self.net_pid = int(words[1])
                break

    def call(self, function, *args, timeout=30):
        """Run function(*args) of this module in the box; its result, or the exception's text as a string 'ETYPE: ...'."""
        self.proc.stdin.write(json.dumps([function, *args]) + "\n")
        self.proc.stdin.flush()
        ready, _, _ = select.select([self.proc.stdout], [], [], timeout)
        assert ready, f"{function}{args} hangs"
        line = self.proc.stdout.readline()
        assert line, f"the box is gone: {self.errors()}"
        return json.loads(line)

    def errors(self):
        # Not by seek() and read(): the place in the file is the writers' as well, and what they write meanwhile would be passed over.
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode()

    def end(self):
        """The driver's status: 0 only if usbox-net ended by itself, with 0, when the wire was closed."""
        self.proc.stdin.close()
        return self.proc.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            assert self.end() == 0, self.errors()
        else:
            print(self.errors(), file=sys.stderr)
            self.proc.kill()


# --- in the box ----------------------------------------------------------------------------------------------------

def tcp_echo(address, port, size):
    """Send size bytes and read them back, both at once; how many came back as they were sent."""
    sent = os.urandom(size)
    with socket.create_connection((address, port), 20) as s:
        s.settimeout(20)
        writer = threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(socket.SHUT_WR)))
        writer.start()
        got = b""
        while data := s.recv(1 << 16):
            got += data
        writer.join()
    return sum(a == b for a, b in zip(sent, got)) if sent != got else size


def udp_echo(address, port, size):
    sent = os.urandom(size)
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        s.connect((address, port))
        s.send(sent)
        while s.recv(70000) != sent:  # an answer to a hostile frame that had this port
            pass
        return len(sent)


def connect(address, port, seconds=5):
    """"ok", or the errno's name, and the milliseconds that it took."""
    start = time.monotonic()
    try:
        with socket.create_connection((address, port), seconds):
            result = "ok"
    except socket.timeout:
        result = "timeout"
    except OSError as e:
        result = os.strerror(e.errno)
    return [result, (time.monotonic() - start) * 1000]


def want_errors(s):
    """IPV6_RECVERR, IP_RECVERR"""
    return (socket.IPPROTO_IPV6, 25) if s.family == socket.AF_INET6 else (socket.IPPROTO_IP, 11)


def udp_error(address, port, resolver=False, size=1):
    """The error that a connected UDP socket gets for a datagram, or "timeout". With resolver it asks to be told of all, as glibc's
    does (IP_RECVERR, IPV6_RECVERR): without, the kernel keeps quiet about what may pass."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        if resolver:
            s.setsockopt(*want_errors(s), 1)
        try:
            s.connect((address, port))
            s.send(bytes(size))
            s.recv(100)
            return "answer"
        except socket.timeout:
            return "timeout"
        except OSError as e:
            return os.strerror(e.errno)


def udp_each(address, port, count):
    """As many flows, one after the other, each of which gets an answer."""
    return sum(udp_echo(address, port, 1) for _ in range(count))


kept = {}


def udp_kept(address, port, count=1):
    """What comes back of as many datagrams, by a socket that is kept for the next time; an error's text, "" of one that is lost."""
    if address not in kept:
        kept[address] = socket.socket(family(address), socket.SOCK_DGRAM)
        kept[address].settimeout(1)
        kept[address].setsockopt(*want_errors(kept[address]), 1)
    answers = []
    for _ in range(count):
        try:
            kept[address].sendto(b"x", (address, port))
            answers.append(kept[address].recv(100).decode())
        except OSError as e:
            answers.append(os.strerror(e.errno) if e.errno else "")
    return answers


def udp_at_once(address, port, count):
    """As many flows, of which all have sent before one is answered; how many were."""
    socks = [socket.socket(family(address), socket.SOCK_DGRAM) for _ in range(count)]
    for s in socks:
        s.connect((address, port))
        s.send(b"x")
    return len(select.select(socks, [], [], 5)[0]) and sum(bool(select.select([s], [], [], 1)[0]) for s in socks)


def dns(address, name="example.test"):
    """The address of a name, or the code of the error that was answered."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        s.connect((address, 53))
        s.send(dns_query(name))
        answer = s.recv(512)
        return answer[-4:].hex() if answer[3] & 15 == 0 else answer[3] & 15


def dns_large(address, room):
    """Was the answer cut short? And how long is it?"""
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        s.connect((address, 53))
        s.send(dns_query("a.large", room))
        answer = s.recv(65535)
        return [bool(answer[2] & 2), len(answer)]


def dns_flood(address, count):
    """So many questions that nobody will answer, by one socket, which is kept."""
    globals()["flood"] = s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.settimeout(30)
    s.connect((address, 53))
    for i in range(count):
        s.send(dns_query(f"n{i}.silent"))
        if i % 100 == 99:  # what is answered at once shows that those before have come: the TAP holds but 500
            dns(address, "host.usbox")
    return count


def dns_flood_ends(count):
    """The codes of the answers to those after all."""
    with globals().pop("flood") as s:
        return sorted({s.recv(512)[3] & 15 for _ in range(count)})


def ping(address):
    return subprocess.run(["ping", "-c", "1", "-W", "3", address], stdout=subprocess.DEVNULL, check=False).returncode


def ping_says(address, *options):
    return subprocess.run(["ping", "-n", "-c", "1", "-W", "5", *options, address], capture_output=True, text=True, check=False).stdout


def many_pings(address, count):
    """Echo requests with that many identifiers; how many were answered, each with its own, payload and all."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        s.settimeout(10)
        answered = set()
        for ident in range(count):
            s.sendto(struct.pack(">BBHHH", 128, 0, 0, ident, 7) + b"p%d" % ident, (address, 0))
            while True:
                data = s.recv(1000)
                if data[0] == 129 and struct.unpack(">HH", data[4:8]) == (ident, 7) and data[8:] == b"p%d" % ident:
                    answered.add(ident)
                    break
    return len(answered)


def serve(address, port):
    serve_tcp(address, port, echo)
    seen = []
    serve_udp(address, port, lambda data, peer: seen.append(peer[0]) or peer[0].encode() + b" " + data)
    return "up"


def mac():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, 0x8927, b"tap0".ljust(32, b"\0"))[18:24]  # SIOCGIFHWADDR


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ether(kind):
    return bytes([0x52, 0x55, 10, 0, 2, 2]) + mac() + struct.pack(">H", kind)


def ipv4(dst, protocol, payload, fragment=0, ident=1):
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0,
                         socket.inet_aton("10.0.2.100"), socket.inet_aton(dst))
    return ether(0x0800) + header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def ipv6(dst, protocol, payload):
    return ether(0x86dd) + struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + \
        socket.inet_pton(socket.AF_INET6, "fd00::100") + socket.inet_pton(socket.AF_INET6, dst) + payload


def transport(dst, protocol, payload):
    """payload with its checksum filled in, in a packet to dst."""
    if family(dst) == socket.AF_INET6:
        pseudo = socket.inet_pton(socket.AF_INET6, "fd00::100") + socket.inet_pton(socket.AF_INET6, dst) + \
            struct.pack(">II", len(payload), protocol)
    else:
        pseudo = socket.inet_aton("10.0.2.100") + socket.inet_aton(dst) + struct.pack(">HH", protocol, len(payload))
    at = 16 if protocol == 6 else 6
    payload = payload[:at] + struct.pack(">H", checksum(pseudo + payload)) + payload[at + 2:]
    return (ipv6 if family(dst) == socket.AF_INET6 else ipv4)(dst, protocol, payload)


def packet_socket():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind(("tap0", 0))
    return s


def raw_to(address, port, sport):
    """A SYN and a datagram, past the box's own kernel, which would not send either to 127.0.0.1."""
    with packet_socket() as s:
        s.send(transport(address, 6, struct.pack(">HHIIBBHHH", sport, port, 1, 0, 5 << 4, 2, 65535, 0, 0)))
        s.send(transport(address, 17, struct.pack(">HHHH", sport, port, 12, 0) + b"data"))
    return "sent"


def fragments():
    """Last ones alone, first ones alone, overlapping and whole sets, IPv4 and IPv6. The long last ones are what kills libslirp."""
    udp = struct.pack(">HHHH", 40000, ECHO, 8 + 64, 0) + b"x" * 64
    with packet_socket() as s:
        for ident in range(400):
            s.send(ipv4(PEER4, 17, os.urandom(1000), fragment=3, ident=ident))
            s.send(ipv4(PEER4, 17, os.urandom(1000), fragment=0x1fff, ident=ident + 1000))
            s.send(ipv4(PEER4, 17, udp[-24:], fragment=3, ident=ident + 2000))
            s.send(ipv4(PEER4, 17, udp[:48], fragment=0x2000, ident=ident + 10000))
        for ident in range(200):
            s.send(ipv4(PEER4, 17, udp[:48], fragment=0x2000, ident=ident + 20000))
            s.send(ipv4(PEER4, 17, udp[40:], fragment=0x2005, ident=ident + 20000))
            s.send(ipv4(PEER4, 17, udp[48:], fragment=0x0006, ident=ident + 20000))
            s.send(ipv4(PEER4, 17, udp, fragment=0x8000, ident=ident + 30000))
            s.send(ipv6(PEER6, 44, struct.pack(">BBHI", 17, 0, 6 << 3, ident) + udp[48:]))
            s.send(ipv6(PEER6, 0, b"\x2c\0\1\4\0\0\0\0" + struct.pack(">BBHI", 17, 0, 1, ident) + udp[:48]))
    return "sent"


def mutated(seed, count):
    """Well-formed frames with some bytes changed, cut or with something appended."""
    import random
    rng = random.Random(seed)
    tcp = struct.pack(">HHIIBBHHH", 40000, ECHO, 1, 0, 5 << 4, 2, 65535, 0, 0)
    udp = struct.pack(">HHHH", 40001, ECHO, 12, 0) + b"data"
    dhcp = struct.pack(">HHHH", 68, 67, 8 + 300, 0) + b"\1\1\6\0" + bytes(232) + b"\x63\x82\x53\x63\x35\1\1" + bytes(57)
    icmp6 = struct.pack(">BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, "fd00::2")
    seeds = [transport(PEER4, 6, tcp), transport(PEER6, 6, tcp), transport(PEER4, 17, udp), transport(PEER6, 17, udp),
             ipv4("255.255.255.255", 17, dhcp), ipv4("10.0.2.2", 1, b"\x08\0\xf7\xff\0\0\0\0"), ipv6("fd00::2", 58, icmp6),
             ether(0x0806) + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac() + bytes([10, 0, 2, 100]) + bytes(6) + bytes([10, 0, 2, 2])]
    with packet_socket() as s:
        for _ in range(count):
            frame = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                frame[rng.randrange(12, len(frame))] = rng.choice([0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)])
            kind = rng.randrange(5)
            if kind == 0:
                frame = frame[:rng.randrange(14, len(frame) + 1)]
            elif kind == 1:
                frame += bytes(rng.randrange(2000))
            if len(frame) > 34 and frame[12:14] == b"\x08\0" and rng.randrange(2):
                frame[24:26] = b"\0\0"  # the header's checksum in order again, so that it is looked at
                frame[24:26] = struct.pack(">H", checksum(bytes(frame[14:34])))
            try:
                s.send(frame)
            except OSError:
                pass  # what the box's own kernel does not send
    return "sent"


def flush_neighbours():
    """Hostile ARP frames may have told usbox-net another address of ours: make the kernel tell it the right one."""
    ip("neigh", "flush", "dev", "tap0")
    return "flushed"


def many_connections(address, port, count):
    """Open count connections and hold them; how many were accepted."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = []
    for _ in range(count):
        s = socket.socket(family(address), socket.SOCK_STREAM)
        s.settimeout(2)
        try:
            s.connect((address, port))
            held.append(s)
        except OSError:
            s.close()
    globals()["held"] = held
    return len(held)


def held_answer():
    """How many of them still carry."""
    socks = globals()["held"]
    for s in socks:
        s.sendall(b"x")
    return sum(s.recv(1) == b"x" for s in socks)


def let_go():
    for s in globals().pop("held", []):
        s.close()
    return "closed"


def down(device):
    ip("link", "delete", device)
    return "gone"


def box_main(functions=None):
    for line in sys.stdin:
        function, *args = json.loads(line)
        try:
            result = (functions or globals())[function](*args)
        except OSError as e:
            result = f"{type(e).__name__}: {e}"
        print(json.dumps(result), flush=True)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def drop_bounding(capability):
    """For preexec_fn: also the root of a user namespace is without capability after its next exec."""
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    {"peer": peer_main, "box": box_main}[sys.argv[1]]()
