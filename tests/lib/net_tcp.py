# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a program in a box sees of TCP, against what it would see on the host: scenarios in the laboratory of net_lab.py, each by the TCP fast
path and, where the stack promises the same, by frames. What is done in the box and by the other machine is in net_tcp_calls.py."""
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import net_lab
import net_tcp_calls
from net_lab import SANITIZED, ECHO, HOST4, PEER4, PEER6, Lab, cpu_seconds, ip, wait_for
from net_tcp_calls import FILTERED4, SCRIPT, count_of, probes_window, results, sysctl

CALLS = net_tcp_calls.__file__


class Box(net_lab.Box):
    def __init__(self, *options, **more):
        super().__init__(*options, module=CALLS, **more)


class TcpLab(Lab):
    def __init__(self):
        super().__init__(module=CALLS)
        out = subprocess.run(["nsenter", "-t", str(self.peer.pid), "-n", "ip", "-o", "link", "show", "down0"], capture_output=True, text=True, check=True).stdout
        ip("neigh", "add", FILTERED4, "lladdr", out.split("link/ether ")[1].split()[0], "dev", "up0")
        ip("route", "add", "unreachable", "192.0.2.0/25")


# --- scenarios --------------------------------------------------------------------------------------------------------

def errors():
    """connect(2) fails as on the host, and as fast."""
    lab = TcpLab()
    # Behind the other machine are networks to which that knows no way, and says so.
    lab.peer_says("for f in 'ipv4/conf/all', 'ipv6/conf/all': open(f'/proc/sys/net/{f}/forwarding', 'w').write('1')")
    for prefix in ("192.0.2.128/25", "2001:db8:2::/64"):
        ip("route", "add", "unreachable", prefix, netns=lab.peer.pid)
    for options in ((), ("--no-fast-path",)):
        with Box(*options) as box:
            for address in (PEER4, PEER6):
                result, ms = box.call("connect", address, 9)
                assert result == "Connection refused" and ms < 1000, (options, address, result, ms)
            assert box.call("connect", "192.0.2.129", 9, 20)[0] == "No route to host", options
            if options:
                assert box.call("connect", "2001:db8:2::1", 9, 20)[0] == "Network is unreachable"
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
        box.call("sysctl", "tcp_syn_retries", 1)
        assert box.call("non_blocking", FILTERED4, 9) == ["Operation now in progress", True, "Connection timed out"]


def late():
    """Who answers after some SYNs have been repeated: one connection, as soon as it does."""
    lab = TcpLab()
    with Box() as box:
        assert box.call("begin", FILTERED4, ECHO) == "Operation now in progress"
        assert wait_for(lambda: box.call("count_of", "TCPSynRetrans") >= 2, 20)
        ip("address", "add", f"{FILTERED4}/32", "dev", "lo", netns=lab.peer.pid)
        assert box.call("begun_carries") == "late"


def fast_open():
    """Data with the SYN: the connection is made without it, and it comes behind."""
    TcpLab()
    with Box() as box:
        for address in (PEER4, PEER6):
            for cookie in (True, False):
                for size in (1, 1000, 60000):
                    assert box.call("send_with_syn", address, size, cookie) is True, (address, size, cookie)
        assert box.call("count_of", "TCPFastOpenActiveFail") >= 4  # there was some: without cookies, at least where it is short


def keepalive():
    """The host's ends ask now and then whether the other machine is there, which holds a silent connection; one that has gone ends it in the box,
    outgoing or from a published port."""
    lab = TcpLab()
    for name, value in (("time", 1), ("intvl", 1), ("probes", 2)):
        sysctl(f"tcp_keepalive_{name}", value)
    with Box("--verbose", publish=["tcp,,0,,80"]) as box:
        box.call("serve_ends", 80)
        assert box.call("hold", PEER4) == "x"
        client = "import socket, sys\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)\ns.sendall(b'x')\nprint('up', flush=True)\ns.recv(1)"
        argv = ["nsenter", "-t", str(lab.peer.pid), "-n", sys.executable, "-c", client, HOST4, str(box.ports[0][2])]
        outside = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert outside.stdout.readline() == "up\n"
        asked = count_of("TCPKeepAlive")
        assert wait_for(lambda: count_of("TCPKeepAlive") >= asked + 4, 20)
        assert box.call("held_answers") == "y"
        ip("link", "set", "down0", "down", netns=lab.peer.pid)
        assert box.call("held_ends", PEER4)[0] == "ConnectionResetError"
        assert box.call("served") == "ConnectionResetError"
        outside.kill()


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
        assert box.call("hit_listeners", 1, 1) == ["timeout"]
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
    """A reader that does not read, outside or in the box, costs no memory of ours and no time, and gets all in the end."""
    flood = 64 << 20  # more than all buffers on the way
    lab = TcpLab()
    with Box() as box:
        before = rss(box.net_pid)
        sent = box.call("fill", PEER4, 1)
        assert box.call("take_flood", PEER4, flood) == "asked"
        # Windows are closed on the whole way: on the host's side and the box's for the one, on the peer's and the box's for the other.
        on_peer = ["nsenter", "-t", str(lab.peer.pid), "-n", sys.executable, CALLS, "probes_window"]
        assert wait_for(lambda: probes_window(SCRIPT) and box.call("probes_window", SCRIPT) and subprocess.run(on_peer, check=False).returncode == 0, 20)
        used = cpu_seconds(box.net_pid)
        time.sleep(float(os.environ.get("USBOX_TEST_STALL", "1")))  # probes go on as long as it stays so; a minute of it is for doing by hand
        assert cpu_seconds(box.net_pid) - used < 0.2, "it spins"
        assert rss(box.net_pid) - before < 4096
        assert box.call("ping_pong", PEER4, 100) == 100
        assert box.call("drained", PEER4) == sent
        assert box.call("flood_taken") == flood


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
        assert box.call("connect", PEER4, ECHO)[0] == "Connection refused"
        assert "no descriptors left: connections are refused" in box.errors()
        resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE, (most, most))
        assert box.call("let_go") == "closed"
        assert box.call("connect", PEER4, ECHO)[0] == "ok"
    # Datagrams to everybody leave some for connections.
    with Box(wrap=["prlimit", "--nofile=300:300"]) as box:
        assert box.call("udp_to_many", PEER4, 1000) == 1000
        assert box.call("many_connections", PEER4, ECHO, 20) == 20
        # More than there are descriptors for are refused at once: none is connected, and then meets silence.
        box.call("let_go")
        count = box.call("many_connections", PEER4, ECHO, 100)
        assert 20 <= count < 100 and box.call("held_answer") == count


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


def spares():
    """For who comes by IPv6 to a port of both families there is a socket of IPv4 as well: those that were not needed do not pile up."""
    TcpLab()
    with Box("--delay", "100", "--mtu", "1500", publish=["tcp,*,0,,80"]) as box:
        box.call("serve_whom", 80)
        port, used = box.ports[0][2], 0
        for count in (20, 300):  # of which each waits for the server at the same time
            socks = [socket.create_connection(("::1", port), 10) for _ in range(count)]
            for s in socks:
                s.shutdown(socket.SHUT_WR)
            assert all(s.makefile("rb").read() == b"fd00::2 0" for s in socks)
            for s in socks:
                s.close()
            used = used or open_fds(box.net_pid)
        assert wait_for(lambda: open_fds(box.net_pid) < used + 100), (used, open_fds(box.net_pid))


def fallback():
    """Where the box's network cannot be made ready for it, TCP and published ports go by frames, and --verbose says so."""
    TcpLab()
    with Box("--verbose", "--unable", publish=["tcp,,0,,80"]) as box:
        assert box.call("tcp_echo", PEER4, ECHO, 100000) == 100000
        assert box.call("connect", PEER4, 9)[0] == "Connection refused"
        for address in (PEER4, PEER6):
            assert box.call("urgent_back", address) == "ab!cd"
        box.call("serve_whom", 80)
        with socket.create_connection(("127.0.0.1", box.ports[0][2]), 10) as s:
            s.shutdown(socket.SHUT_WR)
            assert s.makefile("rb").read() == b"10.0.2.2 0"
        assert "no TCP fast path, all TCP goes by libslirp: nftables: No such file" in box.errors()


def agentless():
    """An agent that cannot enter the box's network is needed for published ports alone."""
    cannot_enter = ["strace", "-f", "-o", "/dev/null", "-e", "trace=setns,epoll_wait", "-e", "inject=setns:error=EPERM"]
    TcpLab()
    with Box("--verbose", wrap=cannot_enter) as box:
        assert box.call("tcp_echo", PEER4, ECHO, 100000) == 100000
        assert "TCP fast path made" in box.errors()
        why = "the agent has ended: enter the user namespace: Operation not permitted"
        assert wait_for(lambda: "no more connections to published ports: " + why in box.errors(), 20), box.errors()
    # What it says last is heard, too, where it has been asked for more meanwhile and has ended before anybody looks.
    late = ["-e", "inject=setns:error=EPERM:delay_enter=600000", "-e", "inject=epoll_wait:delay_exit=300000"]
    with Box("--verbose", wrap=[*cannot_enter, *late]) as box:
        assert wait_for(lambda: "no more connections to published ports: " + why in box.errors(), 20), box.errors()
    box = Box(publish=["tcp,,0,,80"], wrap=cannot_enter)
    assert box.proc.wait(60) == 70 and "published ports: " + why in box.errors(), box.errors()


def agent_lost():
    """Without its agent a published port has no connections more: who comes is refused, and does not wait for nothing. Those that stand go on."""
    TcpLab()
    with Box(publish=["tcp,*,0,,80"]) as box:
        box.call("serve_whom", 80)
        port = box.ports[0][2]

        def ended(s):
            s.sendall(b"x")
            s.shutdown(socket.SHUT_WR)
            return s.makefile("rb").read()

        def talk(address):
            with socket.create_connection((address, port), 5) as s:
                return ended(s)

        def refused(address):
            try:
                with socket.create_connection((address, port), 5):
                    return False
            except ConnectionResetError:  # the listener went just then
                return False
            except ConnectionRefusedError:
                return True
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            assert talk("127.0.0.1") == b"10.0.2.2 1"  # that one stands, too, by now
            with open(f"/proc/{box.net_pid}/task/{box.net_pid}/children", encoding="ascii") as f:
                agent, = f.read().split()
            os.kill(int(agent), signal.SIGKILL)
            assert wait_for(lambda: refused("127.0.0.1") and refused("::1"))
            assert "no more connections to published ports: the agent has ended" in box.errors()
            assert ended(s) == b"10.0.2.2 1"
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000


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
    globals()[sys.argv[1]]()
