# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program in a box sees of TCP, against what it would see on the host: scenarios in the laboratory of net_lab.py, each by the TCP fast
path and, where the stack promises the same, by frames."""
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import net_lab
from net_lab import SANITIZED, ECHO, HOST4, PEER4, PEER6, Lab, box_main, cpu_seconds, family, ip, serve_tcp, wait_for
from net_lab import connect, let_go, many_connections, tcp_echo  # pylint: disable=unused-import # called by name

FILTERED4 = "203.0.113.77"  # the peer gets what is sent there, and says nothing
SCRIPT = 7100               # the peer's server that does what it is told


class Box(net_lab.Box):
    def __init__(self, *options, **more):
        super().__init__(*options, module=__file__, **more)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# --- the peer: one line says what a connection is for -----------------------------------------------------------------

def scripted(conn, _peer):
    line = b""
    while not line.endswith(b"\n"):
        byte = conn.recv(1)
        if not byte:
            return
        line += byte
    what, *args = line.split()
    if what == b"reset":         # after so many bytes
        conn.sendall(b"x" * int(args[0]))
        time.sleep(0.2)
        reset(conn)
    elif what == b"close":       # at once, with an orderly end
        conn.close()
    elif what == b"half":        # says all, then goes on reading, and says at the other port how much came
        conn.sendall(b"half")
        conn.shutdown(socket.SHUT_WR)
        total = 0
        while data := conn.recv(1 << 16):
            total += len(data)
        results["half"] = total
    elif what == b"how":         # how the box ends it
        try:
            while conn.recv(1 << 16):
                pass
            results["how"] = "eof"
        except ConnectionResetError:
            results["how"] = "reset"
    elif what == b"slow":        # reads nothing until told
        results["slow"] = conn
    elif what == b"drain":
        slow, total = results["slow"], 0
        while data := slow.recv(1 << 16):
            total += len(data)
        conn.sendall(str(total).encode())
        conn.close()
    elif what == b"result":
        assert wait_for(lambda: args[0].decode() in results)
        conn.sendall(json.dumps(results.pop(args[0].decode())).encode())
        conn.close()


results = {}


def peer_main():
    for address in ("0.0.0.0", "::"):
        serve_tcp(address, SCRIPT, scripted)
    full = socket.create_server(("0.0.0.0", SCRIPT + 1), backlog=0)  # nobody accepts
    held = []
    for _ in range(2):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", SCRIPT + 1))
        held.append(s)
    wait_for(lambda: False, 0.1)
    results["full"] = full, held
    net_lab.peer_main()


class TcpLab(Lab):
    def __init__(self):
        super().__init__(module=__file__)
        out = subprocess.run(["nsenter", "-t", str(self.peer.pid), "-n", "ip", "-o", "link", "show", "down0"], capture_output=True, text=True, check=True).stdout
        ip("neigh", "add", FILTERED4, "lladdr", out.split("link/ether ")[1].split()[0], "dev", "up0")
        ip("route", "add", "unreachable", "192.0.2.0/25")


# --- in the box -------------------------------------------------------------------------------------------------------

def open_script(address, line):
    s = socket.create_connection((address, SCRIPT), 10)
    s.sendall(line.encode() + b"\n")
    s.settimeout(20)
    return s


def ask(address, what):
    with open_script(address, f"result {what}") as s:
        return json.loads(s.makefile("rb").read())


def got_reset(address, size):
    """How many bytes came before the reset."""
    s, total = open_script(address, f"reset {size}"), 0
    try:
        while data := s.recv(1 << 16):
            total += len(data)
        return ["eof", total]
    except ConnectionResetError:
        return ["reset", total]


def half_close(address):
    """The peer ends its half first; ours goes on."""
    with open_script(address, "half") as s:
        assert s.makefile("rb").read() == b"half"
        s.sendall(b"y" * 300000)
        s.shutdown(socket.SHUT_WR)
    return ask(address, "half")


def half_close_ours(address):
    with socket.create_connection((address, ECHO), 10) as s:
        s.sendall(b"z" * 100000)
        s.shutdown(socket.SHUT_WR)
        return len(s.makefile("rb").read())


def end_by(address, how):
    s = open_script(address, "how")
    if how == "linger":
        reset(s)
    else:
        s.close()
    return ask(address, "how")


def names(address):
    """getpeername(2), SO_ERROR, MSG_PEEK on a connection to address."""
    with socket.create_connection((address, ECHO), 10) as s:
        s.sendall(b"peek")
        peeked = s.recv(4, socket.MSG_PEEK)
        return [s.getpeername()[:2], s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), (peeked + s.recv(4)).decode()]


def non_blocking(address, port):
    """connect(2) that is waited for by an epoll set in which the socket was before."""
    with socket.socket(family(address), socket.SOCK_STREAM) as s, select.epoll() as e:
        s.setblocking(False)
        e.register(s, select.EPOLLOUT | select.EPOLLET)
        e.poll(0)
        first = s.connect_ex((address, port))
        events = e.poll(10)
        return [os.strerror(first), bool(events), os.strerror(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))]


def ping_pong(address, count):
    with socket.create_connection((address, ECHO), 10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(count):
            s.sendall(b"%064d" % i)
            got = b""
            while len(got) < 64:
                got += s.recv(64)
            assert got == b"%064d" % i, got
    return count


def short_ones(address, count):
    """Connections opened, used and closed, one after the other."""
    for i in range(count):
        with socket.create_connection((address, ECHO), 10) as s:
            if i % 2:
                reset(s)  # so that ports do not run out in TIME_WAIT
                continue
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            reset(s)
    return count


def fill(address, seconds):
    """Write to a peer that does not read until nothing more is taken; how much was."""
    s = open_script(address, "slow")
    s.setblocking(False)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            sent += s.send(b"s" * 65536)
        except BlockingIOError:
            time.sleep(0.01)
    globals()["filler"] = s
    return sent


def drained(address):
    filler = globals().pop("filler")
    with open_script(address, "drain") as s:
        filler.shutdown(socket.SHUT_WR)
        return int(s.makefile("rb").read())


def hold(address):
    """Open a connection, and keep it."""
    globals()["held"] = s = socket.create_connection((address, ECHO), 10)
    s.sendall(b"x")
    return s.recv(1).decode()


def held_answers():
    held.sendall(b"y")
    return held.recv(1).decode()


def held_ends(address):
    """How it does, and what a new one says."""
    held = globals().pop("held")
    held.settimeout(20)
    try:
        how = "eof" if held.recv(1) == b"" else "data"
    except OSError as e:
        how = type(e).__name__
    try:
        socket.create_connection((address, ECHO), 2).close()
    except OSError as e:
        return how, "none" if isinstance(e, TimeoutError) else os.strerror(e.errno)
    return how, "open"


def at_once(address, count):
    """count connections started together; how many came to stand."""
    socks = []
    for _ in range(count):
        s = socket.socket(family(address))
        s.setblocking(False)
        s.connect_ex((address, ECHO))
        socks.append(s)
    stands = 0
    for s in socks:
        s.setblocking(True)
        s.settimeout(10)
        s.sendall(b"q")
        stands += s.recv(1) == b"q"
        s.close()
    return stands


def listeners():
    """Ports on the box's loopback that are listened on."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        return [int(line.split()[1].split(":")[1], 16) for line in f.readlines()[1:] if line.split()[3] == "0A"]


def hit_listeners(count):
    """What becomes of connections to usbox-net's own listener."""
    said = set()
    for port in listeners() * count:
        with socket.socket() as s:
            s.settimeout(5)
            try:
                s.connect(("127.0.0.1", port))
                said.add("data" if s.recv(1) else "eof")
            except OSError as e:
                said.add(os.strerror(e.errno) if e.errno else "timeout")
    return sorted(said)


def tap_bytes():
    with open("/proc/net/dev", encoding="ascii") as f:
        fields = next(line for line in f if "tap0" in line).split(":")[1].split()
    return int(fields[0]) + int(fields[8])


def bound_to_tap(address):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, 25, b"tap0")
        s.settimeout(10)
        s.connect((address, ECHO))
        s.sendall(b"bound")
        return s.recv(5).decode()


def serve_whom(port):
    """A server that says who it is asked by, and with which one-sided end."""
    def answer(conn, peer):
        with conn:
            data = conn.makefile("rb").read()
            conn.sendall(f"{peer[0]} {len(data)}".encode())
    for address in ("0.0.0.0", "::"):
        serve_tcp(address, port, answer)
    return "up"


# --- scenarios --------------------------------------------------------------------------------------------------------

def errors():
    """connect(2) fails as on the host, and as fast."""
    TcpLab()
    for options in ((), ("--no-fast-path",)):
        with Box(*options) as box:
            for address in (PEER4, PEER6):
                result, ms = box.call("connect", address, 9)
                assert result == "Connection refused" and ms < 1000, (options, address, result, ms)
    with Box() as box:
        assert box.call("connect", "192.0.2.1", 9)[0] == "No route to host"
        assert box.call("connect", "2001:db8:ffff::1", 9)[0] == "Network is unreachable"
        result, ms = box.call("connect", FILTERED4, 9, 2)
        assert result == "timeout" and ms >= 2000
        # Nobody accepts there, and there is room for one: then a SYN gets no answer, as on any network.
        results = [box.call("connect", PEER4, SCRIPT + 1, 2)[0] for _ in range(3)]
        assert set(results) <= {"ok", "timeout"} and results[-1] == "timeout", results
        assert box.call("non_blocking", PEER4, ECHO) == ["Operation now in progress", True, "Success"]
        assert box.call("non_blocking", PEER4, 9) == ["Operation now in progress", True, "Connection refused"]


def ends():
    """Half-closes both ways, resets both ways, after the data that came before."""
    TcpLab()
    with Box() as box:
        check_ends(box)


def check_ends(box):
    for address in (PEER4, PEER6):
        assert box.call("half_close", address) == 300000
        assert box.call("half_close_ours", address) == 100000
        assert box.call("got_reset", address, 0) == ["reset", 0]
        assert box.call("got_reset", address, 100000) == ["reset", 100000]
        assert box.call("end_by", address, "linger") == "reset"
        assert box.call("end_by", address, "close") == "eof"


def shaped():
    """The fast path where its segments are frames that usbox-net delays: as a program sees it, the same, but late."""
    lab = TcpLab()
    with Box("--delay", "10", "--mtu", "1500", publish=["tcp,,0,,80", "tcp,::,0,,80", "tcp,,0,,81"]) as box:
        assert box.call("bound_to_tap", PEER4) == "bound"
        for address in (PEER4, PEER6):
            before = box.call("tap_bytes")
            result, ms = box.call("connect", address, ECHO)
            assert result == "ok" and ms >= 20, (address, result, ms)
            assert box.call("tcp_echo", address, ECHO, 4 << 20) == 4 << 20
            assert box.call("tap_bytes") - before > 12 << 20  # out from both ends, in to the program's
            result, ms = box.call("connect", address, 9)
            assert result == "Connection refused" and ms >= 20, (address, result, ms)
            assert box.call("names", address) == [[address, ECHO], 0, "peekpeek"]
        assert box.call("connect", "10.0.2.3", 80)[0] == "Connection refused"
        assert box.call("connect", "192.0.2.1", 9)[0] == "No route to host"
        assert box.call("connect", FILTERED4, 9, 1)[0] == "timeout"
        assert box.call("at_once", PEER4, 50) == 50
        check_ends(box)
        check_published(lab, box, 30)


def sockets():
    TcpLab()
    with Box() as box:
        before = box.call("tap_bytes")
        for address in (PEER4, PEER6):
            assert box.call("names", address) == [[address, ECHO], 0, "peekpeek"]
            assert box.call("urgent", address) == ["ab" + "cd" * 50000] * 2
            assert box.call("ping_pong", address, 2000) == 2000
            assert box.call("tcp_echo", address, ECHO, 8 << 20) == 8 << 20
        assert box.call("tap_bytes") - before < 20000, "not by the fast path"
        assert box.call("bound_to_tap", PEER4) == "bound"
        assert box.call("at_once", PEER4, 300) == 300
        assert box.call("bind_while", PEER4, ECHO) == "bound"


def slow_reader():
    """A reader that does not read costs no memory of ours and no time, and gets all in the end."""
    TcpLab()
    with Box() as box:
        before = rss(box.net_pid)
        sent = box.call("fill", PEER4, 1)
        used = cpu_seconds(box.net_pid)
        time.sleep(float(os.environ.get("USBOX_TEST_STALL", "1")))  # the window is closed; a minute of it is for doing by hand
        assert cpu_seconds(box.net_pid) - used < 0.2, "it spins"
        assert rss(box.net_pid) - before < 4096
        assert box.call("ping_pong", PEER4, 100) == 100
        assert box.call("drained", PEER4) == sent


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def short():
    """Thousands of connections leave nothing behind."""
    TcpLab()
    with Box() as box:
        box.call("short_ones", PEER4, 500)
        fds, memory = open_fds(box.net_pid), rss(box.net_pid)
        assert box.call("short_ones", PEER4, 10000, timeout=120) == 10000
        assert wait_for(lambda: open_fds(box.net_pid) <= fds), (fds, open_fds(box.net_pid))
        assert SANITIZED or rss(box.net_pid) - memory < 1024, (memory, rss(box.net_pid))


def no_fds():
    """No descriptor left: connections that stand go on, new ones are refused, and later are not."""
    TcpLab()
    with Box() as box:
        _, most = resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE)
        assert box.call("many_connections", PEER4, ECHO, 20) == 20
        resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE, (open_fds(box.net_pid), most))
        assert box.call("connect", PEER4, ECHO)[0] != "ok"
        resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE, (most, most))
        assert box.call("let_go") == "closed"
        assert box.call("connect", PEER4, ECHO)[0] == "ok"


def knock(address, count):
    """Begin count connections to where nobody answers, and let go of them."""
    for _ in range(count):
        with socket.socket(family(address)) as s:
            s.setblocking(False)
            s.connect_ex((address, 9))
    return count


def urgent(address):
    """What becomes of data that is sent with a byte of it urgent; the end comes at once, or later."""
    got = []
    for late in (False, True):
        with socket.create_connection((address, ECHO), 10) as s:
            s.sendall(b"ab")
            s.send(b"!", socket.MSG_OOB)
            s.sendall(b"cd" * 50000)
            back = b""
            while late and len(back) < 100002:
                back += s.recv(65536)
            s.shutdown(socket.SHUT_WR)
            got.append((back + s.makefile("rb").read()).decode())
    return got


def bind_while(address, port):
    """Listen on a port to which there is a connection."""
    with socket.create_connection((address, port), 10), socket.create_server(("0.0.0.0", port)), socket.create_server(("::", port), family=socket.AF_INET6):
        return "bound"


def pending():
    """Thousands of connections that nobody answers: one that stands goes on, and later ones have a place, be it that of the oldest."""
    TcpLab()
    # Room for some 870 of them by descriptors, and by the table for all but a few.
    for most, count in ((2000, 3000), (20000, 5000)):
        with Box(wrap=["prlimit", f"--nofile={most}:{most}"]) as box:
            memory = rss(box.net_pid)
            assert box.call("hold", PEER4) == "x"
            assert box.call("knock", FILTERED4, count) == count
            assert box.call("held_answers") == "y"
            assert wait_for(lambda box=box: box.call("connect", PEER4, ECHO)[0] == "ok", 20)
            time.sleep(3.5)  # all of them are there, since this SYN came after theirs; now the last has waited long enough, too
            assert box.call("tcp_echo", PEER6, ECHO, 100000) == 100000
            assert box.call("held_answers") == "y"
            assert SANITIZED or rss(box.net_pid) - memory < 16384
            assert ("no descriptors left: connections are refused" in box.errors()) == (most == 2000), box.errors()


def attacks():
    """The listener is for held SYNs alone."""
    TcpLab()
    with Box() as box:
        assert box.call("tcp_echo", PEER4, ECHO, 100) == 100
        assert box.call("listeners")
        assert box.call("hit_listeners", 200) == ["Connection reset by peer"]
        assert box.call("tcp_echo", PEER4, ECHO, 100) == 100
        assert "usbox-net" not in box.errors(), box.errors()


def published():
    """Published ports: the client's own address, half-closes, refusal, many at once, both families."""
    lab = TcpLab()
    with Box(publish=["tcp,,0,,80", "tcp,::,0,,80", "tcp,,0,,81"]) as box:
        check_published(lab, box, 300)


def check_published(lab, box, count):
    box.call("serve_whom", 80)
    port4, port6, closed = (p[2] for p in box.ports)
    for address, port, seen in (("127.0.0.1", port4, "10.0.2.2"), (HOST4, port4, HOST4), ("::1", port6, "fd00::2")):
        with socket.create_connection((address, port), 10) as s:
            s.sendall(b"p" * 70000)
            s.shutdown(socket.SHUT_WR)
            assert s.makefile("rb").read().decode() == f"{seen} 70000", address
    out = subprocess.run(["nsenter", "-t", str(lab.peer.pid), "-n", sys.executable, "-c", "import socket, sys\ns = socket.create_connection((sys.argv[1], "
                          "int(sys.argv[2])), 10)\ns.shutdown(1)\nprint(s.makefile().read())", HOST4, str(port4)], capture_output=True, text=True, check=True)
    assert out.stdout == f"{PEER4} 0\n", out
    try:
        with socket.create_connection(("127.0.0.1", closed), 10) as s:
            raise AssertionError(f"nobody refused it, but said {s.recv(1)}")
    except ConnectionResetError:
        pass
    socks = [socket.create_connection(("127.0.0.1", port4), 10) for _ in range(count)]
    for s in socks:
        s.shutdown(socket.SHUT_WR)
    assert all(s.makefile("rb").read() == b"10.0.2.2 0" for s in socks)


def fallback():
    """Where the box's network cannot be made ready for it, TCP and published ports go by frames, and --verbose says so."""
    TcpLab()
    with Box("--verbose", "--unable", publish=["tcp,,0,,80"]) as box:
        assert box.call("tcp_echo", PEER4, ECHO, 100000) == 100000
        assert box.call("connect", PEER4, 9)[0] == "Connection refused"
        box.call("serve_whom", 80)
        with socket.create_connection(("127.0.0.1", box.ports[0][2]), 10) as s:
            s.shutdown(socket.SHUT_WR)
            assert s.makefile("rb").read() == b"10.0.2.2 0"
        assert "no TCP fast path, all TCP goes by libslirp: nftables: No such file" in box.errors()


def agentless():
    """An agent that cannot enter the box's network is needed for published ports alone."""
    cannot_enter = ["strace", "-f", "-o", "/dev/null", "-e", "trace=setns", "-e", "inject=setns:error=EPERM"]
    TcpLab()
    with Box("--verbose", wrap=cannot_enter) as box:
        assert box.call("tcp_echo", PEER4, ECHO, 100000) == 100000
        assert "TCP fast path made" in box.errors()
    box = Box(publish=["tcp,,0,,80"], wrap=cannot_enter)
    assert box.proc.wait(10) == 70 and "published ports: enter the user namespace: Operation not permitted" in box.errors(), box.errors()


def stopped():
    """kill -STOP: connections wait, and go on with -CONT. kill -KILL: they end."""
    TcpLab()
    with Box() as box:
        assert box.call("ping_pong", PEER4, 10) == 10
        os.kill(box.net_pid, signal.SIGSTOP)
        asked = threading.Thread(target=lambda: results.update(got=box.call("ping_pong", PEER4, 10)))
        asked.start()
        time.sleep(0.5)
        assert "got" not in results
        os.kill(box.net_pid, signal.SIGCONT)
        asked.join(20)
        assert results["got"] == 10
    box = Box()
    assert box.call("hold", PEER4) == "x"
    os.kill(box.net_pid, signal.SIGKILL)
    how, then = box.call("held_ends", PEER4)
    assert how in ("eof", "ConnectionResetError") and then != "open", (how, then)
    assert box.end() == 70 and "killed by signal 9" in box.errors(), box.errors()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if sys.argv[1] in ("peer", "box"):
        {"peer": peer_main, "box": lambda: box_main(globals())}[sys.argv[1]]()
    else:
        globals()[sys.argv[1]]()
