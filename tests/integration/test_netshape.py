# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad networks (--net-rate, --net-delay, --net-loss) and captures (--pcap). Times are looked at from below alone: a busy machine is slower."""
import json
import struct

import pytest

from test_udp import PROLOGUE, run  # noqa: F401 (a fixture)

BOTH_PATHS = pytest.mark.parametrize("path", [[], ["--no-fast-path"]], ids=["fast", "frames"])

ROUND = """
import time
s = udp(sys.argv[1], 7)
s.send(b"x"); s.recv(10)
for _ in range(5):
    t = time.monotonic(); s.send(b"x"); s.recv(10)
    print(time.monotonic() - t)
t = time.monotonic(); socket.create_connection((sys.argv[1], 7)).close()
print(time.monotonic() - t)
"""


@BOTH_PATHS
def test_delay_is_each_way_and_for_tcp_too(run, peer, path):
    assert all(float(x) >= 0.078 for x in run(ROUND, peer, options=["--net-delay=40ms", *path]))
    assert all(float(x) >= 0.039 for x in run(ROUND, peer, options=["--net-delay=40ms±20ms", *path]))


@BOTH_PATHS
def test_rate(run, peer, path):
    """30 kB at 1 Mb/s take a quarter of a second; at 512 kb/s one way, half a one."""
    script = """
import threading
s = socket.create_connection((sys.argv[1], 7))
t = time.monotonic()
threading.Thread(target=lambda: (s.sendall(b"x" * 30000), s.shutdown(socket.SHUT_WR))).start()
n = 0
while d := s.recv(65536): n += len(d)
print(n, time.monotonic() - t)
"""
    n, seconds = run(script, peer, options=["--net-rate=1M", *path])[0].split()
    assert n == "30000" and float(seconds) > 0.2
    n, seconds = run(script, peer, options=["--net-rate=512k/down,10M/up", *path])[0].split()
    assert n == "30000" and float(seconds) > 0.4


def test_loss(run, peer):
    script = """
s = udp(sys.argv[1], 7)
s.settimeout(0.2)
def answers():
    n = 0
    try:
        for _ in range(40): s.send(b"x")
        while True: s.recv(10); n += 1
    except OSError:
        return n
for i in range(int(sys.argv[2])):  # ARP is lost too, and asked again after a second
    if answers():
        break
print(sum(answers() for _ in range(10)))
"""
    # 0.8 * 0.8 come back: 256 of 400, with a deviation of 10.
    assert 150 < int(run(script, peer, "300", options=["--net-loss=20%"])[0]) < 350
    assert run(script, peer, "2", options=["--net-loss=100%"]) == ["0"]


def test_a_stream_outlives_losses(box, run, peer):
    """What is lost is sent again by the box's own kernel, which it knows of: the fast path's streams are shaped in segments."""
    script = """
import hashlib, threading
data = os.urandom(300000)
with socket.create_connection((sys.argv[1], 7)) as s:
    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
    back = s.makefile("rb").read()
    print(back == data, struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0] > 0)
"""
    assert run("import struct\n" + script, peer, options=["--net-loss=5%", "--net-log", box.top / "net.log"]) == ["True True"]
    ends = [line for line in map(json.loads, (box.top / "net.log").read_text(encoding="utf-8").splitlines()) if line.get("protocol") == "tcp"]
    assert ends and all(line["path"] == "splice" for line in ends), ends


@pytest.mark.slice
@BOTH_PATHS
def test_capture(box, peer, path):
    """TCP and UDP of both directions, whole, and a new file each time."""
    capture = box.top / "box.pcap"
    script = "s = udp(sys.argv[1], 7); s.send(b'datagram-payload'); s.recv(100)\nt = socket.create_connection((sys.argv[1], 7)); t.sendall(b'stream-payload'); t.recv(100)"
    for _ in range(2):
        box.usbox("run", "--rm", "--pcap", capture, *path, "--", "/usr/bin/python3", "-c", PROLOGUE + script, peer).ok()
    data = capture.read_bytes()
    assert struct.unpack("=IHHIIII", data[:24]) == (0xa1b2c3d4, 2, 4, 0, 0, 262144, 1)
    frames, at = [], 24
    while at < len(data):
        _, _, captured, original = struct.unpack("=IIII", data[at:at + 16])
        assert captured == original and at + 16 + captured <= len(data)
        frames.append(data[at + 16:at + 16 + captured])
        at += 16 + captured
    box_address, peer_address = bytes([10, 0, 2, 100]), bytes(map(int, peer.split(".")))
    for payload in (b"datagram-payload", b"stream-payload"):
        ways = [f[26:34] for f in frames if payload in f]
        if payload == b"stream-payload":  # TCP sends again what is not acknowledged soon, which is a busy machine's to do
            ways = list(dict.fromkeys(ways))
        assert ways == [box_address + peer_address, peer_address + box_address], payload
