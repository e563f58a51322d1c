# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames that no kernel sends, from a box that may send any (CAP_NET_RAW over its network namespace, as where usbox-net runs by itself): who answers
for others, who says to be somebody else, tags, router's words, multicast, protocols in protocols. See net_lab.py for where this runs."""
import socket
import struct
import subprocess
import sys

import net_lab
from net_lab import ECHO, HOST4, HOST6, PEER4, PEER6, Box, Lab, alive, checksum, family, mac, packet_socket

RECORDED = 7100
NEIGHBOUR, GATEWAY = bytes([0x52, 0x55, 10, 0, 2, 4]), bytes([0x52, 0x55, 10, 0, 2, 2])
BROADCAST = b"\xff" * 6
BOX4, BOX6 = "10.0.2.100", "fd00::100"
FOREIGN4 = [HOST4, PEER4, "127.0.0.1", "0.0.0.0", "10.0.2.0", "10.0.2.2", "10.0.2.3", "10.0.2.255", "255.255.255.255", "224.0.0.1", "169.254.1.1", "192.0.2.9"]
FOREIGN6 = [HOST6, PEER6, "::1", "::", "fd00::", "fd00::2", "fd00::3", "fe80::1", "ff02::1", f"::ffff:{BOX4}", "2001:db8::9"]


# --- in the box ----------------------------------------------------------------------------------------------------

def packed(address):
    return socket.inet_pton(family(address), address)


def packet(src, dst, protocol, payload, hops=64):
    """An IP packet whose sender is whoever we say."""
    if family(dst) == socket.AF_INET6:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + packed(src) + packed(dst) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, hops, protocol, 0) + packed(src) + packed(dst)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def summed(src, dst, protocol, data, at):
    """data with its checksum at that place."""
    pseudo = b"" if protocol == 1 else packed(src) + packed(dst) + (struct.pack(">II", len(data), protocol) if family(dst) == socket.AF_INET6 else
                                                                    struct.pack(">HH", protocol, len(data)))
    return data[:at] + struct.pack(">H", checksum(pseudo + data[:at] + b"\0\0" + data[at + 2:])) + data[at + 2:]


def udp(src, dst, port, data, sport=43000):
    return packet(src, dst, 17, summed(src, dst, 17, struct.pack(">HHHH", sport, port, 8 + len(data), 0) + data, 6))


def tcp(src, dst, port, flags=2, options=b"", data=b"", sport=43001):
    head = struct.pack(">HHIIBBHHH", sport, port, 1, 0, (20 + len(options)) // 4 << 4, flags, 65535, 0, 0)
    return packet(src, dst, 6, summed(src, dst, 6, head + options + data, 16))


def icmp(src, dst, kind, body=bytes(4), code=0, hops=255):
    protocol = 58 if family(dst) == socket.AF_INET6 else 1
    return packet(src, dst, protocol, summed(src, dst, protocol, struct.pack(">BBH", kind, code, 0) + body, 2), hops)


def ether(payload, to=GATEWAY, sender=None, kind=None):
    kind = kind or (0x86dd if payload[0] >> 4 == 6 else 0x0800)
    return to + (sender or mac()) + struct.pack(">H", kind) + payload


def arp(operation, sender, sender_mac, target):
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + sender_mac + packed(sender) + bytes(6) + packed(target)


def each_pair():
    yield from ((HOST4, PEER4, BOX4, FOREIGN4), (HOST6, PEER6, BOX6, FOREIGN6))


def neighbours(_port):
    """Who says to be the gateway, the resolver, the box itself; from addresses that are nobody's."""
    for address in ("10.0.2.2", "10.0.2.3", "10.0.2.4", BOX4, "10.0.2.255", "0.0.0.0", "255.255.255.255", "127.0.0.1", HOST4):
        for claimed in (b"\x02evil!", BROADCAST, b"\x01\0\x5e\0\0\1", bytes(6)):
            for operation in (1, 2, 3, 8):
                yield ether(arp(operation, address, claimed, address), BROADCAST, claimed, 0x0806)
    for target in ("fd00::2", "fd00::3", BOX6, "fe80::1", "ff02::1", "::"):
        for option in (b"", b"\x02\x01\x02evil!", b"\x02\x00", b"\x02\xff" + bytes(6)):
            for kind in (135, 136):
                for src in (BOX6, "fd00::2", "fe80::1", "::"):
                    yield ether(icmp(src, "ff02::1", kind, b"\xe0\0\0\0" + packed(target) + option))


def senders(port):
    """Packets that say to be from somebody else, to a service that records them."""
    for host, peer, _box, foreign in each_pair():
        for src in foreign:
            for dst, at in (peer, RECORDED), (host, port):
                yield ether(udp(src, dst, at, b"from " + src.encode()))
                yield ether(tcp(src, dst, at))
                yield ether(tcp(src, dst, at), NEIGHBOUR)
                yield ether(tcp(src, dst, at, 0x18, data=b"from " + src.encode()), NEIGHBOUR)


def tags(port):
    """VLANs, one and two, and what else may stand before a packet."""
    for host, peer, box, _foreign in each_pair():
        for dst, at in (peer, RECORDED), (host, port):
            inner = udp(box, dst, at, b"tagged")
            kind = struct.pack(">H", 0x86dd if ":" in dst else 0x0800)
            for tag in (b"\0\0", b"\0\x01", b"\x0f\xff"):
                yield ether(tag + kind + inner, kind=0x8100)
                yield ether(tag + b"\x81\0" + tag + kind + inner, kind=0x88a8)
            for other in (0x8847, 0x8864, 0x88e5, 0x0600, 0x05dc, 0x0001):
                yield ether(inner, kind=other)


def routers(_port):
    """Advertisements, redirects and errors, which are a router's to send; memberships; DHCP by every word and its kin."""
    for src in (BOX6, "fd00::2", "fe80::1"):
        prefix = struct.pack(">BBBBIII", 3, 4, 64, 0xc0, 600, 600, 0) + packed("2001:db8:1::")
        yield ether(icmp(src, "ff02::1", 134, struct.pack(">BBHII", 64, 0xc0, 600, 0, 0) + prefix))
        yield ether(icmp(src, BOX6, 137, bytes(4) + packed("fd00::66") + packed(PEER6)))
        for kind in (1, 2, 3, 4, 130, 131, 132, 143, 144, 146, 151, 200):
            yield ether(icmp(src, "fd00::2", kind, bytes(8) + packet(PEER6, BOX6, 17, bytes(8))))
    for kind in (0, 3, 4, 5, 9, 10, 11, 12, 13, 15, 17):
        yield ether(icmp(BOX4, "10.0.2.2", kind, bytes(4) + packet(PEER4, BOX4, 17, bytes(8))))
        yield ether(icmp(BOX4, PEER4, kind, packed("10.0.2.66") + packet(PEER4, BOX4, 17, bytes(8))))
    for word in range(0, 10):
        for options in (b"", b"\x32\x04" + packed("10.0.2.2"), b"\x32\x04" + packed(HOST4), b"\x0c\xff" + b"a" * 255, b"\x34\x01\x03", b"\x35", b"\x36\xff"):
            request = b"\1\1\6\0" + b"xid!" + bytes(20) + mac() + bytes(202) + b"\x63\x82\x53\x63\x35\x01" + bytes([word]) + options + b"\xff"
            for src, dst in ("0.0.0.0", "255.255.255.255"), (BOX4, "10.0.2.2"), ("0.0.0.0", HOST4):
                yield ether(udp(src, dst, 67, request, sport=68), BROADCAST)
        yield ether(udp("fe80::1", "ff02::1:2", 547, bytes([word]) + b"\0\0\0" + b"\0\1\xff\xff" + bytes(900), sport=546))
        yield ether(udp(BOX4, "10.0.2.2", 69, bytes([0, word]) + b"../../etc/passwd\0octet\0"))


def everybody(port):
    """Multicast and broadcast, to names and to services."""
    for box, addresses in (BOX4, ("224.0.0.1", "224.0.0.251", "239.255.255.250", "255.255.255.255", "10.0.2.255", "203.0.113.255", "0.0.0.0")), \
            (BOX6, ("ff02::1", "ff02::fb", "ff05::2", "ff0e::1", "ff01::1")):
        for dst in addresses:
            for at in (port, RECORDED, 5353, 1900):
                yield ether(udp(box, dst, at, b"everybody"), BROADCAST)
            yield ether(tcp(box, dst, port))
            yield ether(packet(box, dst, 2, b"\x16\0\0\0" + bytes(4)))


def within(port):
    """TCP fast open, whose data comes before the handshake; packets in packets, to the host's loopback."""
    cookie = b"\x22\x0aCOOKIE!!\1\1"
    for host, peer, box, _foreign in each_pair():
        for to in (GATEWAY, NEIGHBOUR):
            yield ether(tcp(box, host, port, options=cookie, data=b"fast"), to)
            yield ether(tcp(box, peer, RECORDED, options=cookie, data=b"fast"), to)
            for flags in (0, 1, 3, 6, 0x10, 0x12, 0x14, 0x29, 0xff):
                yield ether(tcp(box, host, port, flags, data=b"x"), to)
        for inner in (udp(BOX4, "127.0.0.1", port, b"in"), udp(BOX6, "::1", port, b"in"), udp(box, host, port, b"in")):
            for protocol in (4, 41, 47, 50, 94, 132, 136, 0, 43, 44, 60, 255):
                yield ether(packet(box, peer, protocol, inner))
                yield ether(packet(box, host, protocol, inner))
                yield ether(packet(box, "fd00::2" if ":" in box else "10.0.2.2", protocol, inner))


KINDS = {f.__name__: f for f in (neighbours, senders, tags, routers, everybody, within)}


def send(kind, port):
    n = 0
    with packet_socket() as s:
        for frame in KINDS[kind](port):
            s.send(frame)
            n += 1
    return n


def say(address, port, text):
    with socket.socket(family(address), socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), (address, port))
    return "said"


# --- the host ------------------------------------------------------------------------------------------------------

RECORD = """
import select, socket, sys
socks = []
for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
    for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
        s = socket.socket(family, kind)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, int(sys.argv[1])))
        if kind == socket.SOCK_STREAM:
            s.listen()
        else:
            socks.append(s)
print("up", flush=True)
while True:
    for s in select.select(socks, [], [])[0]:
        print(s.recv(2000).decode(), flush=True)
"""


def recorder(lab):
    proc = subprocess.Popen(["nsenter", "-t", str(lab.peer.pid), "-n", sys.executable, "-c", RECORD, str(RECORDED)], stdout=subprocess.PIPE, text=True)
    assert proc.stdout.readline() == "up\n"
    return proc


def foreign():
    """Nothing of it comes to the host, or to others in another's name; what is the box's own goes on."""
    lab = Lab()
    port = lab.host_services()
    record = recorder(lab)
    with Box(module=__file__) as box:
        for address in (PEER4, PEER6):
            assert box.call("say", address, RECORDED, "before") == "said"
            assert record.stdout.readline() == "before\n"
        for kind in KINDS:
            assert box.call("send", kind, port) > 20, kind
            box.call("flush_neighbours")
            for address in (PEER4, PEER6):
                # What comes to the recorder comes in the order in which usbox-net sent it.
                assert box.call("say", address, RECORDED, f"after {kind}") == "said"
                said = record.stdout.readline()
                assert said == f"after {kind}\n", (address, said)
            assert box.call("udp_echo", PEER4, ECHO, 100) == 100 and box.call("tcp_echo", PEER6, ECHO, 1000) == 1000, kind
            assert alive(box.net_pid) and lab.hits == [], (kind, lab.hits)
        assert "usbox-net" not in box.errors() and "libslirp" not in box.errors().lower(), box.errors()
    record.kill()


if __name__ == "__main__":
    if sys.argv[1] == "peer":
        net_lab.peer_main()
    elif sys.argv[1] == "box":
        net_lab.box_main({**vars(net_lab), **globals()})
    else:
        globals()[sys.argv[1]]()
