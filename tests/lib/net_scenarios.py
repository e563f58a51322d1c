# SPDX-License-Identifier: LGPL-2.1-or-later
"""What usbox-net has to do, one function each; see net_lab.py for where this runs. `net_scenarios.py NAME` runs one."""
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from net_lab import ANSWER, ANYIP4, ECHO, HOST4, HOST6, HOST6_TOO, PEER4, PEER6, USBOX_NET, Box, Lab, alive, cpu_seconds, dns_answer, dns_query, family, ip, serve_udp, wait_for

MEGABYTE = 1 << 20


def tcp():
    Lab()
    with Box() as box:
        for address in (PEER4, PEER6):
            assert box.call("tcp_echo", address, ECHO, 8 * MEGABYTE) == 8 * MEGABYTE
            result, ms = box.call("connect", address, 9)
            assert result == "Connection refused" and ms < 1000, (address, result, ms)
    with Box("--mtu", "1500") as box:
        for address in (PEER4, PEER6):
            assert box.call("tcp_echo", address, ECHO, MEGABYTE) == MEGABYTE


def udp():
    lab = Lab()
    # Behind the other machine a link of a smaller MTU, of which that tells.
    ip("link", "add", "narrow0", "mtu", "1400", "type", "veth", "peer", "name", "narrow1", netns=lab.peer.pid)
    for link in ("narrow1", "narrow0"):
        ip("link", "set", link, "up", netns=lab.peer.pid)
    for prefix in ("192.0.2.0/24", "2001:db8:2::/64"):
        ip("route", "add", prefix, "dev", "narrow0", netns=lab.peer.pid)
    lab.peer_says("for f in 'ipv4/conf/all', 'ipv6/conf/all': open(f'/proc/sys/net/{f}/forwarding', 'w').write('1')")
    with Box() as box:
        for address in (PEER4, PEER6):
            for size in (0, 1, 1400, 9000, 60000):
                assert box.call("udp_echo", address, ECHO, size) == size, (address, size)
        # One address after the other, since a link that has just come up may say something else.
        for net in ("192.0.2.", "2001:db8:2::"):
            told = (box.call("udp_error", f"{net}{i}", ECHO, True, 1430) for i in range(1, 9))
            assert "Message too long" in told, net


def udp_many_answered():
    """A name server in the box has as many flows as there may be, each of which was answered: who is new finds room for an exchange, and so do others beside it."""
    lab = Lab()
    late = f"""
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", {ECHO + 1}))
print("up", flush=True)
for peer in [s.recvfrom(10)[1] for _ in range(20)]:
    s.sendto(b"x", peer)
"""
    peer = lab.peer_program(late)
    with Box(wrap=["prlimit", "--nofile=300:300"]) as box:
        assert box.call("udp_each", PEER4, ECHO, 200) == 200
        assert box.call("udp_at_once", PEER4, ECHO + 1, 20) == 20
    peer.kill()


def udp_exposed():
    """A closed port of the host's loopback says so, too."""
    Lab()
    with Box("--expose", "8000") as box:
        for address in ("10.0.2.2", "fd00::2"):
            assert box.call("udp_error", address, 8000) == "Connection refused", address


def dns():
    """The host's resolvers of both families answer at the box's two addresses."""
    Lab()
    with Box() as box:
        assert box.call("dns", "10.0.2.3") == ANSWER.hex()
        assert box.call("dns", "fd00::3") == ANSWER.hex()
        assert box.call("connect", "10.0.2.3", 80)[0] == "Connection refused"
        # An answer of more than 512 bytes is for who says that there is room (EDNS): the rest is to ask by TCP.
        for room, cut in ((0, True), (600, True), (1232, False), (65535, False)):
            truncated, size = box.call("dns_large", "10.0.2.3", room)
            assert truncated == cut and (size < 60 if cut else size > 960), (room, truncated, size)


def dns_on_loopback():
    """A resolver of the host's own, as systemd has it, is reached through 10.0.2.3 and in no other way."""
    Lab()
    serve_udp("127.0.0.53", 53, dns_answer)
    with Box(resolvers=["127.0.0.53"]) as box:
        assert box.call("dns", "10.0.2.3") == ANSWER.hex()
        assert box.call("udp_error", "10.0.2.2", 53) == "No route to host"
        assert box.call("dns", "fd00::3") == ANSWER.hex()


def dns_without_ipv4():
    """With an IPv6 resolver alone both of the box's addresses answer."""
    Lab()
    with Box(resolvers=[PEER6]) as box:
        assert box.call("dns", "fd00::3") == ANSWER.hex()
        assert box.call("dns", "10.0.2.3") == ANSWER.hex()


def dns_bound():
    """512 questions that wait for name servers are the most: the next is refused at once, and nothing else suffers. With their end all is as before."""
    Lab()
    subprocess.run(["mount", "--bind", "/dev/null", os.path.realpath("/etc/resolv.conf")], check=False)  # no other resolver, to be asked after that one
    with Box(resolvers=[PEER4]) as box:
        assert box.call("many_connections", PEER4, ECHO, 10) == 10
        assert box.call("dns", "10.0.2.3", "cached.test") == ANSWER.hex()
        fds = len(os.listdir(f"/proc/{box.net_pid}/fd"))
        for attempt in range(5):
            start = time.monotonic()
            assert box.call("dns_flood", "10.0.2.3", 512) == 512
            name = f"refused{attempt}.test"
            answers, now_open = [box.call("dns", "10.0.2.3", name), box.call("dns", "fd00::3", name)], len(os.listdir(f"/proc/{box.net_pid}/fd"))
            if time.monotonic() < start + 3.5:  # each of them waits for 4 s
                break
            box.call("dns_flood_ends", 512, timeout=60)
        assert answers == [2, 2] and now_open <= fds + 512, (answers, fds, now_open)  # SERVFAIL
        assert "512 questions wait for name servers: more are refused" in box.errors()
        assert box.call("dns", "10.0.2.3", "cached.test") == ANSWER.hex()
        assert box.call("dns", "10.0.2.3", "host.usbox") == bytes([10, 0, 2, 2]).hex()
        assert box.call("held_answer") == 10
        assert box.call("tcp_echo", PEER6, ECHO, MEGABYTE) == MEGABYTE
        assert box.call("udp_echo", PEER4, ECHO, 1400) == 1400
        assert box.call("dns_flood_ends", 512, timeout=60) == [2]
        assert box.call("dns", "10.0.2.3", name) == ANSWER.hex()
        assert len(os.listdir(f"/proc/{box.net_pid}/fd")) < fds + 100  # pipes, flows that have just ended
        assert box.errors().count("questions wait") == 1, box.errors()


# Twice: the code of the answer to the same question; in between, a line.
ASK_TWICE = """
import sys
from net_lab import *
for _ in range(2):
    print(dns("10.0.2.3", "late.test"), flush=True)
    sys.stdin.readline()
"""


def dns_old_answer():
    """What a name server says that is none any more is for who asked it, and is not kept: with a VPN another one knows the name."""
    Lab()
    asked, late = threading.Event(), threading.Event()

    def old(data, _peer):
        asked.set()
        late.wait(20)
        end = data.index(b"\0", 12) + 5
        soa = b"\0\0" + struct.pack(">IIIII", 1, 2, 3, 4, 3600)
        return data[:2] + b"\x81\x83\0\1\0\0\0\1\0\0" + data[12:end] + b"\0\0\6\0\1" + struct.pack(">IH", 3600, len(soa)) + soa
    serve_udp("127.0.0.54", 53, old)
    serve_udp("127.0.0.55", 53, dns_answer)
    with tempfile.TemporaryDirectory() as work:
        resolv, log = os.path.join(work, "resolv.conf"), os.path.join(work, "log")
        with open(resolv, "w", encoding="ascii") as f:
            f.write("nameserver 127.0.0.54\n")
        subprocess.run(["mount", "--bind", resolv, os.path.realpath("/etc/resolv.conf")], check=True)
        target = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE)
        assert target.stdout.readline() == b"up\n"
        ready, theirs = os.pipe()
        with open(log, "wb") as out:
            net = subprocess.Popen([os.path.join(os.path.dirname(USBOX_NET), "usbox-net"), "--verbose", "--netns", str(target.pid), "--ready-fd", str(theirs)],
                                   pass_fds=[theirs], stderr=out)
        assert os.read(ready, 1) == b"1"
        box = subprocess.Popen(["nsenter", "-t", str(target.pid), "-n", sys.executable, "-c", ASK_TWICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               cwd=os.path.dirname(os.path.abspath(__file__)))
        assert asked.wait(20)
        with open(log, encoding="utf-8") as said:
            before = said.read().count("name servers")
            with open(resolv, "w", encoding="ascii") as f:
                f.write("nameserver 127.0.0.55\n")
            assert wait_for(lambda: said.seek(0) == 0 and said.read().count("name servers") > before)
        late.set()
        assert box.stdout.readline() == "3\n"  # NXDOMAIN
        box.stdin.write("\n")
        box.stdin.flush()
        assert box.stdout.readline() == ANSWER.hex() + "\n"
        for proc in (box, net, target):
            proc.kill()
            proc.wait()
        subprocess.run(["umount", os.path.realpath("/etc/resolv.conf")], check=True)


def dns_tcp_lost():
    """A connection to the box's resolver that is full of questions, of which the first waits, and then is reset: it costs no time."""
    Lab()
    subprocess.run(["mount", "--bind", "/dev/null", os.path.realpath("/etc/resolv.conf")], check=False)
    with Box("--no-fast-path", resolvers=["203.0.113.77"]) as box:  # nobody has that address
        before = set(listening())
        assert box.call("connect", "10.0.2.3", 53)[0] == "ok"
        port, = set(listening()) - before
        question = dns_query("host.silent")
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.sendall((struct.pack(">H", len(question)) + question) * 200)
            time.sleep(0.3)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        used = cpu_seconds(box.net_pid)
        time.sleep(1)
        assert cpu_seconds(box.net_pid) - used < 0.05, "it spins"
        assert box.call("dns", "10.0.2.3", "host.usbox") == bytes([10, 0, 2, 2]).hex()


def listening():
    """The ports of 127.0.0.1 on which somebody listens for TCP."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.read().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[1].startswith("0100007F")]


def no_ipv6():
    Lab()
    with Box("--no-ipv6") as box:
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000
        assert box.call("connect", PEER6, ECHO)[0] == "Network is unreachable"


def host_closed():
    """No service of the host is in reach, at no address, by no spelling, through the box's kernel or past it."""
    lab = Lab()
    port = lab.host_services()
    v4 = ["10.0.2.2", "10.0.2.3", "10.0.2.1", HOST4, ANYIP4, "203.0.113.255"]
    v6 = ["fd00::2", "fd00::3", "fd00::1", HOST6]
    with Box() as box:
        for address in [*v4[:5], *v6]:
            result, ms = box.call("connect", address, port)
            assert result in ("Connection refused", "No route to host") and ms < 4000, (address, result, ms)
        for address in (HOST4, ANYIP4, "10.0.2.2"):
            assert box.call("udp_error", address, port) == "No route to host", address
        for address in (HOST6, "fd00::2"):
            assert box.call("udp_error", address, port) == "Permission denied", address
        raw = [*v4, "127.0.0.1", "127.1.2.3", "0.0.0.0", "0.0.0.1", "255.255.255.255", "224.0.0.1", *v6, "::1", "::", "::127.0.0.1",
               "::ffff:127.0.0.1", f"::ffff:{HOST4}", "::ffff:0:127.0.0.1", "ff02::1", "2002:7f00:1::1", "64:ff9b::127.0.0.1"]
        for i, address in enumerate(raw):
            assert box.call("raw_to", address, port, 41000 + i) == "sent"
        # The services do listen, and the way there is open to others.
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000
        time.sleep(0.3)
        assert lab.hits == []
        with socket.create_connection((HOST4, port), 2):
            assert wait_for(lambda: [kind for kind, _ in lab.hits] == ["tcp"])


def host_address_added():
    """What becomes the host's while the box runs is closed from then on."""
    lab = Lab()
    port = lab.host_services()
    with Box() as box:
        assert box.call("connect", "203.0.113.9", port)[0] != "ok"
        for address in ("203.0.113.9/24", "2001:db8:1::9/64"):
            ip("addr", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
        time.sleep(1)  # until the kernel's word of it is read, also on a machine with other work; nothing shows that
        for address in ("203.0.113.9", "2001:db8:1::9"):
            assert box.call("connect", address, port)[0] == "Connection refused"
        assert lab.hits == []


def host_address_moved():
    """A laptop in another network: what a program goes on to send to the same peer by the same socket gets there. Between the two it is told
    that there is no way."""
    lab = Lab()
    whom = f"""
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", {ECHO + 1}))
print("up", flush=True)
while True:
    peer = s.recvfrom(10)[1]
    s.sendto(peer[0].replace("::ffff:", "").encode(), peer)
"""
    peer = lab.peer_program(whom)
    with Box() as box:
        for address, host in ((PEER4, HOST4), (PEER6, HOST6)):
            assert host in box.call("udp_kept", address, ECHO + 1, 5)
        ip("addr", "flush", "dev", "up0", "scope", "global")
        assert wait_for(lambda: "Network is unreachable" in box.call("udp_kept", PEER4, ECHO + 1))
        for address in ("203.0.113.7/24", "2001:db8:1::7/64"):
            ip("addr", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
        for address, host in ((PEER4, "203.0.113.7"), (PEER6, "2001:db8:1::7")):
            assert wait_for(lambda address=address, host=host: host in box.call("udp_kept", address, ECHO + 1)), address
    peer.kill()


def host_address_of_another_table():
    """As addresses of a VRF are: local, by another table than "local", from before and from then on."""
    lab = Lab()
    port = lab.host_services()

    def add(*addresses):
        for address in addresses:
            six = ["-6"] if ":" in address else []
            ip(*six, "route", "add", "local", address, "dev", "up0", "table", "10")
            ip(*six, "rule", "add", "to", address, "lookup", "10")
    add("203.0.113.8", "2001:db8:1::8")
    ip("route", "add", "local", "default", "dev", "lo", "table", "11")  # as a transparent proxy has it, with no rule here that leads to it
    with Box() as box:
        for address in ("203.0.113.8", "2001:db8:1::8"):
            assert box.call("connect", address, port)[0] == "Connection refused"
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000
        add("203.0.113.9", "2001:db8:1::9")
        for address in ("203.0.113.9", "2001:db8:1::9"):
            assert wait_for(lambda address=address: box.call("connect", address, port)[0] == "Connection refused", 20)
        del lab.hits[:]  # what came before usbox-net had read the kernel's word
        for address in ("203.0.113.8", "2001:db8:1::8", "203.0.113.9", "2001:db8:1::9"):
            assert box.call("connect", address, port)[0] == "Connection refused"
        assert lab.hits == []


def fragments():
    """The fragment that kills libslirp 4.7, and others; what comes after them works."""
    Lab()
    with Box() as box:
        assert box.call("fragments") == "sent"
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000
        assert alive(box.net_pid)


def hostile_frames():
    Lab()
    with Box() as box:
        for seed in range(8):
            assert box.call("mutated", seed, 4000) == "sent"
            box.call("flush_neighbours")
            assert box.call("udp_echo", PEER4, ECHO, 100) == 100, seed
        assert box.call("tcp_echo", PEER6, ECHO, 1000) == 1000
        assert "usbox-net" not in box.errors() and "libslirp" not in box.errors().lower(), box.errors()


def ping():
    lab = Lab()
    with Box("--verbose") as box:  # the group range of a new network namespace is empty
        assert "no ping to the outside: net.ipv4.ping_group_range leaves this user out" in box.errors()
        assert box.call("ping", "10.0.2.2") == 0
        assert box.call("ping", "fd00::2") == 0
        assert box.call("ping", PEER4) == 1
    with open("/proc/sys/net/ipv4/ping_group_range", "w", encoding="ascii") as f:
        f.write("0 0")
    # Behind the other machine there is nothing: it says so, or that a packet came too far.
    subprocess.run(["nsenter", "-t", str(lab.peer.pid), "-n", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"],
                   check=True)
    ip("route", "add", "192.0.2.0/24", "via", HOST4, netns=lab.peer.pid)
    ip("-6", "route", "add", "2001:db8:2::/64", "via", HOST6, netns=lab.peer.pid)
    with Box() as box:
        for peer, host, far, nowhere in (PEER4, HOST4, "192.0.2.55", "192.0.3.55"), (PEER6, HOST6, "2001:db8:2::55", "2001:db8:3::55"):
            assert box.call("ping", peer) == 0
            assert box.call("ping", host) == 1
            out = box.call("ping_says", peer, "-c", "3", "-i", "0.2", "-s", "20000")
            assert "3 received" in out and f"20008 bytes from {peer}: icmp_seq=3" in out, out
            out = box.call("ping_says", far, "-t", "1")
            assert f"From {peer}" in out and ("Time to live exceeded" in out or "Hop limit" in out), out
            out = box.call("ping_says", nowhere)
            assert f"From {peer}" in out and "nreachable" in out, out
        # As many as a program likes: each with an identifier of its own, and the table of them has an end.
        assert box.call("many_pings", PEER6, 1500) == 1500
        assert box.call("ping", PEER4) == 0


def ask(address, port, data=b"hello", source=None):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        if source:
            s.bind((source, 0))
        s.connect((address, port))
        s.send(data)
        return s.recv(70000)


def talk(address, port, size=MEGABYTE):
    from net_lab import tcp_echo
    return tcp_echo(address, port, size)


def first_connection():
    """It waits for the box's answer to ARP, and for nothing else: for how many seconds."""
    with Box(publish=["tcp,,0,,80"]) as box:
        box.call("serve", "0.0.0.0", 80)
        time.sleep(0.6)
        start = time.monotonic()
        assert talk("127.0.0.1", box.ports[0][2], 1) == 1
        return time.monotonic() - start


def publish():
    """TCP and UDP, IPv4 and IPv6, from the host's loopback, its own address and another machine; port 0 is told."""
    lab = Lab()
    for _ in range(4):  # a machine whose processors are taken away from it for a while measures that
        if (took := first_connection()) < 0.25:
            break
    assert took < 0.25, took
    with Box(publish=["tcp,,0,,80", "tcp,::,0,,80", "udp,,0,,80", "udp,::,0,,80", "tcp,127.0.0.1,8080,10.0.2.100,80"]) as box:
        box.call("serve", "0.0.0.0", 80)
        box.call("serve", "::", 80)
        assert [(p[0], p[1], p[3], p[4]) for p in box.ports] == [
            ("tcp", "0.0.0.0", "10.0.2.100", 80), ("tcp", "::", "fd00::100", 80), ("udp", "0.0.0.0", "10.0.2.100", 80),
            ("udp", "::", "fd00::100", 80), ("tcp", "127.0.0.1", "10.0.2.100", 80)]
        tcp4, tcp6, udp4, udp6, fixed = (p[2] for p in box.ports)
        assert fixed == 8080 and 0 not in (tcp4, tcp6, udp4, udp6)

        for address, port in (("127.0.0.1", tcp4), ("127.0.0.1", 8080), (HOST4, tcp4), ("::1", tcp6), (HOST6, tcp6)):
            assert talk(address, port) == MEGABYTE, (address, port)
        for address, seen, port in (("127.0.0.1", "10.0.2.2", udp4), (HOST4, HOST4, udp4), ("::1", "fd00::2", udp6), (HOST6, HOST6, udp6)):
            for size in (0, 1, 60000):
                data = os.urandom(size)
                assert ask(address, port, data) == seen.encode() + b" " + data, (address, size)

        # Two peers that look the same to the box get their own answers.
        a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        a.bind(("127.0.0.1", 45000))
        b.bind(("127.0.0.2", 45000))
        for s, text in ((a, b"first"), (b, b"second")):
            s.settimeout(5)
            s.sendto(text, ("127.0.0.1", udp4))
        assert a.recv(100) == b"10.0.2.2 first" and b.recv(100) == b"10.0.2.2 second"

        # The other machine.
        script = f"from net_lab import *; print(tcp_echo('{HOST4}', {tcp4}, 100000), tcp_echo('{HOST6}', {tcp6}, 100000))"
        out = lab.peer_says(script)
        assert out == "100000 100000\n"
    # With the box the listeners are gone.
    for port in (tcp4, 8080):
        s = socket.socket()
        assert s.connect_ex(("127.0.0.1", port)) != 0


def publish_addresses():
    """Answers come from that one of the host's addresses that was asked, also to who asks two of them by one socket."""
    lab = Lab()
    for address in ("203.0.113.3/24", "2001:db8:1::3/64"):
        ip("addr", "add", address, "dev", "up0", *(["nodad"] if ":" in address else []))
    with Box(publish=["udp,,0,,80", "udp,::,0,,80"]) as box:
        box.call("serve", "0.0.0.0", 80)
        box.call("serve", "::", 80)
        udp4, udp6 = (p[2] for p in box.ports)
        four, six = [(a, udp4) for a in (HOST4, "203.0.113.3")], [(a, udp6) for a in (HOST6, "2001:db8:1::3")]
        for place in [*four, *six, ("127.0.0.5", udp4), ("::1", udp6), (HOST6_TOO, udp6)]:
            assert ask(*place).endswith(b" hello"), place
        script = f"from net_scenarios import *; print(*(ask(*x).decode() for x in {four + six}), *ask_two({four}), *ask_two({six}))"
        out = lab.peer_says(script)
        assert out.split() == [PEER4, "hello"] * 2 + [PEER6, "hello"] * 2 + ["True"] * 4, out


def ask_two(places):
    """By one socket, from each of them: does its answer come from there?"""
    with socket.socket(family(places[0][0]), socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        for place in places:
            s.sendto(place[0].encode(), place)
        answers = [s.recvfrom(1000) for _ in places]
    return [data.split()[-1].decode() == source[0] for data, source in answers]


def udp_peer_only():
    """A published port lets the box answer who wrote, and nobody else on the host."""
    lab = Lab()
    port = lab.host_services()
    with Box(publish=["udp,,0,,80"]) as box:
        box.call("serve", "0.0.0.0", 80)
        assert ask("127.0.0.1", box.ports[0][2]) == b"10.0.2.2 hello"
        assert box.call("raw_to", "10.0.2.2", port, 80) == "sent"
        assert box.call("raw_to", "127.0.0.1", port, 80) == "sent"
        assert box.call("raw_to", HOST4, port, 80) == "sent"
        time.sleep(0.2)
        assert lab.hits == []


def refused(*words, publish=(), options=(), wrap=()):
    box = Box(*options, publish=publish, wrap=wrap)
    assert box.proc.wait(60) == 70, box.errors()
    errors = box.errors()
    for word in words:
        assert word in errors, (word, errors)
    return errors


def publish_errors():
    Lab()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        for proto in ("tcp",):
            refused(f"{proto} *:{port}", "Address already in use", "hint:", publish=[f"{proto},,{port},,80"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        refused(f"udp 127.0.0.1:{port}", "Address already in use", "hint:", publish=[f"udp,127.0.0.1,{port},,80"])
    refused("192.0.2.1:8080", "Cannot assign requested address", "hint:", publish=["tcp,192.0.2.1,8080,,80"])
    # CAP_NET_BIND_SERVICE is number 10; the lab's root has it.
    wrap = [sys.executable, "-c", "import os, sys; from net_lab import drop_bounding; drop_bounding(10); os.execv(sys.argv[1], sys.argv[1:])"]
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    for proto in ("tcp", "udp"):
        refused(f"{proto} *:80", "Permission denied", "ip_unprivileged_port_start", publish=[f"{proto},,80,,80"], wrap=wrap)


def config_errors():
    Lab()
    refused("MTU 1279 ", options=["--mtu", "1279", "--no-ipv6"])
    refused("\"localhost\" is not a numeric address", publish=["tcp,localhost,1,,1"])
    refused("IPv6 is off", options=["--no-ipv6"], publish=["tcp,::1,1,,1"])


def confinement():
    """No capability, no file, no namespace of the user's but the network's."""
    Lab()
    with Box() as box:
        assert box.call("dns", "10.0.2.3") == ANSWER.hex()
        with open(f"/proc/{box.net_pid}/status", encoding="ascii") as f:
            status = {key: value.strip() for key, _, value in (line.partition(":") for line in f)}
        for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[key], 16) == 0, (key, status[key])
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and status["Threads"] == "1"
        root = f"/proc/{box.net_pid}/root"
        assert os.listdir(root) == []
        try:
            os.mkdir(root + "/x")
            raise AssertionError("its root can be written to")
        except OSError as e:
            assert e.errno == 30, e
        for name in ("user", "mnt", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{box.net_pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        assert os.readlink(f"/proc/{box.net_pid}/ns/net") == os.readlink("/proc/self/ns/net")
        fds = sorted(os.readlink(f"/proc/{box.net_pid}/fd/{n}").split(":")[0] for n in os.listdir(f"/proc/{box.net_pid}/fd") if int(n) > 2)
        assert fds.count("/dev/net/tun") == 1 and set(fds) == {"/dev/net/tun", "socket", "anon_inode"} and fds.count("anon_inode") == 1, fds


def no_namespaces():
    """Where the kernel gives no more mount namespaces: an error, or with --best-effort=confine a note and a network."""
    Lab()
    with open("/proc/sys/user/max_mnt_namespaces", "w", encoding="ascii") as f:
        f.write("0")
    refused("unshare", "No space left on device", "hint:", "--best-effort=confine")
    with Box("--best-effort") as box:
        assert box.call("dns", "10.0.2.3") == ANSWER.hex()
        assert "without own namespaces" in box.errors()
        assert os.readlink(f"/proc/{box.net_pid}/ns/user") == os.readlink("/proc/self/ns/user")


def killed_launcher():
    Lab()
    box = Box()
    assert alive(box.net_pid)
    box.proc.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not alive(box.net_pid)), "usbox-net outlived its launcher"


def killed_before_tap():
    Lab()
    box = Box("--no-tap")
    assert alive(box.net_pid)
    box.proc.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not alive(box.net_pid)), "usbox-net outlived its launcher"


def interface_gone():
    """The box's network namespace may end before the launcher does: no spinning, no error."""
    Lab()
    with Box() as box:
        assert box.call("down", "tap0") == "gone"
        time.sleep(0.2)
        before = cpu_seconds(box.net_pid)
        time.sleep(1)
        assert cpu_seconds(box.net_pid) - before < 0.2
        assert alive(box.net_pid)


def no_descriptors():
    """With no descriptor left, published ports wait and the box's connects fail; then all is as before."""
    Lab()
    with Box(publish=["tcp,,8080,,80"]) as box:
        box.call("serve", "0.0.0.0", 80)
        _, most = resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE)
        limit = len(os.listdir(f"/proc/{box.net_pid}/fd")) + 14
        resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE, (limit, most))
        clients = []
        for _ in range(60):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", 8080))
            clients.append(s)
        assert wait_for(lambda: len(os.listdir(f"/proc/{box.net_pid}/fd")) == limit, 15)
        before = cpu_seconds(box.net_pid)
        time.sleep(1)
        assert cpu_seconds(box.net_pid) - before < 0.2, "it spins"
        assert box.call("connect", PEER4, ECHO)[0] != "ok"
        for s in clients:
            s.close()
        resource.prlimit(box.net_pid, resource.RLIMIT_NOFILE, (most, most))
        assert box.call("connect", PEER4, ECHO)[0] == "ok"
        assert talk("127.0.0.1", 8080, 1000) == 1000


def many_flows():
    """More flows than the soft limit of descriptors that most logins have."""
    Lab()
    with Box(wrap=["prlimit", "--nofile=256:4096"]) as box:
        assert box.call("many_connections", PEER4, ECHO, 400, timeout=60) == 400
        box.call("let_go")
        assert box.call("tcp_echo", PEER4, ECHO, 1000) == 1000


if __name__ == "__main__":
    globals()[sys.argv[1]]()
