# SPDX-License-Identifier: LGPL-2.1-or-later
"""UDP of a box: sizes, errors, many flows, batches."""
import collections
import concurrent.futures
import json
import socket
import struct

import pytest

PROLOGUE = """
import os, socket, sys, time
def udp(target, port):
    s = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((target, port))
    return s
"""


@pytest.fixture
def run(box):
    return lambda script, *args, options=(): box.usbox("run", "--rm", *options, "--", "/usr/bin/python3", "-c", PROLOGUE + script, *map(str, args), timeout=120).lines()


@pytest.mark.slice
@pytest.mark.parametrize("mtu", [65520, 1500])
def test_every_size_comes_back_whole(run, peer, peer6, mtu):
    """Up to the largest that there is, in fragments where it is larger than the MTU."""
    script = """
for target in sys.argv[1:]:
    s = udp(target, 7)
    for n in (0, 1, 1399, 1473, 8000, 65400, 65492, 65493, 65507):
        data = os.urandom(n)
        s.send(data)
        print(s.recv(70000) == data)
"""
    assert run(script, peer, peer6, options=[f"--mtu={mtu}"]) == ["True"] * 18


def test_a_closed_port_says_so(run, peer, peer6):
    script = """
for target in sys.argv[1:]:
    s = udp(target, 9)
    s.settimeout(1.2)
    for _ in range(2):
        for _ in range(30):  # a kernel says so once a second where others have asked much of it (icmp_ratelimit, icmp_msgs_per_sec)
            s.send(b"x")
            try:
                said = s.recv(10)
            except OSError as e:
                said = type(e).__name__
            if said != "TimeoutError":
                break
        print(said)
"""
    assert run(script, peer, peer6) == ["ConnectionRefusedError"] * 4


def test_an_old_flow_outlives_many_new_ones(box, run, peer):
    """More flows than there is room for: those that nobody answers go first."""
    script = """
old = udp(sys.argv[1], 7)
old.settimeout(0.2)
def echo():
    while True:  # the queue before us may be full
        old.send(b"x")
        try:
            return old.recv(10)
        except OSError:
            pass
echo()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 26000):
    try:
        s.sendto(b"x", (sys.argv[1], port))
    except OSError:
        pass
    if port % 100 == 0:
        echo()
print(echo())
"""
    log = box.top / "net.log"
    assert run(script, peer, options=["--net-log", log]) == ["b'x'"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len([x for x in lines if x["event"] == "end" and x["how"] == "forgotten"]) > 1000
    assert [x["how"] for x in lines if x["event"] == "end" and x["to"] == f"{peer}:7"] == ["open"]


def test_batches_keep_boundaries_and_order(run, peer, peer6):
    """Datagrams that go out together come out as they went in, also where their lengths differ."""
    script = """
import random
r = random.Random(3)
for target in sys.argv[1:]:
    s, other = udp(target, 7), udp(target, 7)
    lengths = [1400] * 20 + [700] + [1400] * 5 + [0, 1, 1400, 1401] + [r.randrange(1500) for _ in range(20)]
    sent = [bytes([i]) * n for i, n in enumerate(lengths)]
    got = []
    for i in range(0, len(sent), 10):
        for d in sent[i:i + 10]:
            s.send(d)
            if len(d) % 3 == 0:
                other.send(b"other")
        got += [s.recv(2000) for _ in sent[i:i + 10]]
    print(got == sent)
"""
    assert run(script, peer, peer6) == ["True", "True"]


def test_the_account_has_it(box, peer):
    log = box.top / "net.log"
    box.usbox("run", "--rm", "--net-log", log, "--", "/usr/bin/python3", "-c", PROLOGUE + "s = udp(sys.argv[1], 7)\nfor _ in range(5): s.send(b'x' * 100); s.recv(200)", peer).ok()
    end = [x for x in log.read_text().splitlines() if '"end"' in x]
    assert len(end) == 1 and '"path":"udp"' in end[0]
    assert '"bytes_out":500,"packets_out":5,"bytes_in":500,"packets_in":5' in end[0]


# Of a kernel before 4.18 or 5.0 these would be refused, and say so.
SEGMENTS = """
def by_one_call(s, data, size, to=None):
    s.sendmsg([data], [(socket.IPPROTO_UDP, 103, size.to_bytes(2, sys.byteorder))], 0, *([to] if to else []))
def parts(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]
"""
SIZES = [(30 * 1400, 1400), (1400 + 1, 1400), (20000, 1000), (999, 1000), (40 * 1, 1), (50 * 1200 + 7, 1200)]


@pytest.mark.slice
@pytest.mark.parametrize("options", [[], ["--mtu=1500"], ["--net-delay=1ms"], ["--pcap"], ["--no-fast-path"]], ids=lambda o: "".join(o) or "usual")
def test_datagrams_of_one_call_out_of_the_box(box, run, peer, peer6, options):
    """UDP_SEGMENT: what a program sends by one call comes one by one, of its sizes and in order, and each has its answer."""
    script = SEGMENTS + """
for target in sys.argv[2:]:
    s = udp(target, 7)
    for length, size in eval(sys.argv[1]):
        data = os.urandom(length)
        by_one_call(s, data, size)
        print([s.recv(70000) for _ in parts(data, size)] == parts(data, size))
"""
    log = box.top / "net.log"
    more = [f"--pcap={box.top}/udp.pcap"] if options == ["--pcap"] else options
    assert run(script, SIZES, peer, peer6, options=[*more, "--net-log", log]) == ["True"] * 2 * len(SIZES)
    ends = [x for x in map(json.loads, log.read_text().splitlines()) if x["event"] == "end"]
    datagrams = sum(-(-length // size) for length, size in SIZES)
    assert [(x["packets_out"], x["packets_in"], x["bytes_out"]) for x in ends] == [(datagrams, datagrams, sum(length for length, _ in SIZES))] * 2
    if options == ["--pcap"]:
        each = [len(part) for length, size in SIZES for part in parts(bytes(length), size)]
        assert captured(box.top / "udp.pcap") == collections.Counter({length: 4 * n for length, n in collections.Counter(each).items()})


def parts(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


def captured(path):
    """How many UDP datagrams there are of each length."""
    found, data = collections.Counter(), path.read_bytes()[24:]
    while data:
        size, = struct.unpack_from("=8xI", data)
        frame, data = data[16:16 + size], data[16 + size:]
        kind, = struct.unpack_from("!H", frame, 12)
        if kind == 0x0800 and frame[14 + 9] == socket.IPPROTO_UDP:
            found[size - 42] += 1
        elif kind == 0x86dd and frame[14 + 6] == socket.IPPROTO_UDP:
            found[size - 62] += 1
    return found


@pytest.mark.parametrize("options", [[], ["--mtu=1500"], ["--net-delay=1ms"]], ids=lambda o: "".join(o) or "usual")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_datagrams_of_one_call_into_the_box(box, run, family, options):
    """The same the other way: for a program that takes them one by one, and for one that takes what came together (UDP_GRO)."""
    v4 = family == socket.AF_INET
    script = """
for gro in (0, 1):
    s = socket.socket(socket.AF_INET if sys.argv[1] == "4" else socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.setsockopt(socket.IPPROTO_UDP, 104, gro)
    s.connect((sys.argv[2], int(sys.argv[3])))
    for i, (length, size) in enumerate(eval(sys.argv[4])):
        s.send(bytes([i]))
        got = []
        while sum(map(len, got)) < length:
            got.append(s.recv(70000))
        print(b"".join(got) == bytes(k % 251 for k in range(length)), gro or [len(x) for x in got] == [min(size, length - k) for k in range(0, length, size)])
"""

    def serve(server):
        for length, size in SIZES * 2:
            _, to = server.recvfrom(100)
            server.sendmsg([bytes(k % 251 for k in range(length))], [(socket.IPPROTO_UDP, 103, struct.pack("=H", size))], 0, to)

    with socket.socket(family, socket.SOCK_DGRAM) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        server.settimeout(60)
        server.bind(("127.0.0.1" if v4 else "::1", 0))
        port = server.getsockname()[1]
        served = pool.submit(serve, server)
        said = run(script, 4 if v4 else 6, "10.0.2.2" if v4 else "fd00::2", port, SIZES, options=[*options, f"--expose-host={port}"])
        served.result()
    assert said == ["True True"] * len(SIZES) + ["True 1"] * len(SIZES)
