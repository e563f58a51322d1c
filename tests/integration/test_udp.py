# SPDX-License-Identifier: LGPL-2.1-or-later
"""UDP of a box: sizes, errors, many flows, batches."""
import json

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
