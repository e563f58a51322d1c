# SPDX-License-Identifier: LGPL-2.1-or-later
"""What net_tcp.py has done by name: programs in the box (`net_tcp_calls.py box`), and the other machine's servers (`net_tcp_calls.py peer`)."""
import json
import os
import select
import signal
import socket
import struct
import sys
import time

import net_lab
from net_lab import ECHO, box_main, family, serve_tcp, wait_for
from net_lab import connect, held_answer, let_go, many_connections, tcp_echo  # pylint: disable=unused-import # called by name

FILTERED4 = "203.0.113.77"  # the peer gets what is sent there, and says nothing
SCRIPT = 7100               # the peer's server that does what it is told


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def udp_to_many(address, count):
    """One datagram to each of that many ports, by one socket, which is kept."""
    globals()["to_many"] = s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for i in range(count):
        s.sendto(b"x", (address, 20000 + i))
        if i % 100 == 99:  # the TAP holds but 500
            time.sleep(0.05)
    return count


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
    elif what == b"urgent":      # a byte of what it says is
        conn.sendall(b"ab")
        conn.send(b"!", socket.MSG_OOB)
        conn.sendall(b"cd")
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
    elif what == b"flood":       # writes so much to one who may not read
        conn.sendall(b"f" * int(args[0]))
        conn.close()
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
        events = e.poll(20)
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


def take_flood(address, size):
    """Let the peer write, and read nothing yet."""
    globals()["flooded"] = open_script(address, f"flood {size}")
    return "asked"


def flood_taken():
    total = 0
    with globals().pop("flooded") as s:
        while data := s.recv(1 << 16):
            total += len(data)
    return total


def probes_window(port):
    """Is there a connection from or to this port whose other end has closed its window, and is asked now and then whether it is open again (tr is 4)?"""
    with open("/proc/self/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return any(f"{port:04X}" in (row[1][-4:], row[2][-4:]) and row[3] == "01" and row[5].startswith("04:") for row in rows)


def count_of(name):
    """One of the kernel's counts (netstat -s), of this network."""
    with open("/proc/self/net/netstat", encoding="ascii") as f:
        lines = [line.split() for line in f]
    return next(int(values[names.index(name)]) for names, values in zip(lines[::2], lines[1::2]) if name in names)


def sysctl(name, value):
    with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as f:
        f.write(str(value))
    return "set"


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


def begin(address, port):
    """A connect(2) that is not waited for."""
    globals()["begun"] = s = socket.socket(family(address))
    s.setblocking(False)
    return os.strerror(s.connect_ex((address, port)))


def begun_carries():
    with globals().pop("begun") as s, select.epoll() as e:
        e.register(s, select.EPOLLOUT)
        e.poll(20)
        s.setblocking(True)
        s.settimeout(20)
        s.sendall(b"late")
        return s.recv(4).decode()


def send_with_syn(address, size, cookie):
    """Do size bytes come back that are sent as the connection is opened? With a cookie, which it asks for first, or without (TCP_FASTOPEN_NO_COOKIE)."""
    sent = os.urandom(size)
    with socket.socket(family(address)) as s:
        if not cookie:
            s.setsockopt(socket.IPPROTO_TCP, 34, 1)
        at = s.sendto(sent, socket.MSG_FASTOPEN, (address, ECHO))
        s.settimeout(20)
        s.sendall(sent[at:])
        s.shutdown(socket.SHUT_WR)
        return s.makefile("rb").read() == sent


def serve_ends(port):
    """A server that reads and notes how its connection ended."""
    def note(conn, _peer):
        try:
            while conn.recv(1 << 16):
                pass
            results["served"] = "eof"
        except OSError as e:
            results["served"] = type(e).__name__
    serve_tcp("0.0.0.0", port, note)
    return "up"


def served():
    assert wait_for(lambda: "served" in results, 20)
    return results.pop("served")


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
    """Where the box's loopback is listened on."""
    found = []
    for file, address in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
        with open(f"/proc/net/{file}", encoding="ascii") as f:
            found += [(address, int(line.split()[1].split(":")[1], 16)) for line in f.readlines()[1:] if line.split()[3] == "0A"]
    return found


def hit_listeners(count, seconds=5):
    """What becomes of connections to usbox-net's own listeners."""
    said = set()
    for place in listeners() * count:
        with socket.socket(family(place[0])) as s:
            s.settimeout(seconds)
            try:
                s.connect(place)
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


def urgent_back(address):
    with open_script(address, "urgent") as s:
        return s.makefile("rb").read().decode()


def bind_while(address, port):
    """Listen on a port to which there is a connection."""
    with socket.create_connection((address, port), 10), socket.create_server(("0.0.0.0", port)), socket.create_server(("::", port), family=socket.AF_INET6):
        return "bound"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if sys.argv[1] == "probes_window":
        sys.exit(0 if probes_window(SCRIPT) else 1)
    {"peer": peer_main, "box": lambda: box_main(globals())}[sys.argv[1]]()
