# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a box can send to usbox-net without any right: it must neither end, nor stop answering, nor carry it to the host."""
import socket
import threading

import pytest

# ask: one good question, as any resolver asks it; before and after, so that nothing passes by an answer that never comes.
ASK = """
import os, random, socket, struct
random.seed(7)
def name(text):
    return b"".join(bytes([len(x)]) + x.encode() for x in text.split(".")) + b"\\0"
def question(text, kind=1):
    return struct.pack("!HHHHHH", random.getrandbits(16), 0x100, 1, 0, 0, 0) + name(text) + struct.pack("!HH", kind, 1)
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(30)
    return s
def ask(tcp=False):
    q = question("known.test")
    s = socket.socket() if tcp else udp()
    s.settimeout(30)
    s.connect(("10.0.2.3", 53))
    s.sendall(struct.pack("!H", len(q)) + q if tcp else q)
    if tcp:
        s.recv(2, socket.MSG_WAITALL)
    answer = s.recv(4096)
    assert answer[:2] == q[:2] and answer.endswith(socket.inet_aton("192.0.2.77")), answer
ask()
"""

DNS = ASK + """
s = udp()
s.connect(("10.0.2.3", 53))
good = question("known.test")
for i in range(400):
    bad = bytearray(good)
    for _ in range(random.randint(1, 6)):
        bad[random.randrange(len(bad))] = random.getrandbits(8)
    s.send(bytes(bad[:random.randint(0, len(bad))] if i % 3 == 0 else bad))
pointer_loop = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\xc0\\x0c" + struct.pack("!HH", 1, 1)
many = struct.pack("!HHHHHH", 1, 0x100, 65535, 65535, 65535, 65535) + name("known.test")
long_label = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + (b"\\x3f" + b"a" * 63) * 20 + b"\\0" + struct.pack("!HH", 1, 1)
nul = question("known.test").replace(b"known", b"kn\\0wn")
for bad in (b"", b"\\0", pointer_loop, many, long_label, nul, good + os.urandom(60000), os.urandom(512)):
    s.send(bad)
for bad in (b"\\xff\\xff", struct.pack("!H", 2) + b"ab", struct.pack("!H", len(good) + 9) + good, struct.pack("!H", 0), os.urandom(4096)):
    try:
        with socket.create_connection(("10.0.2.3", 53), 30) as t:
            t.sendall(bad)
            t.shutdown(socket.SHUT_WR)
            t.recv(4096)
    except ConnectionError:  # it hangs up on such
        pass
ask()
ask(tcp=True)
print("answers")
"""

# Frames of every form that a kernel makes for a program without rights: fragments, options, ends of life, sizes, addresses.
FRAMES = ASK + """
targets = ["10.0.2.2", "10.0.2.3", "10.0.2.1", "10.0.2.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0", "240.0.0.1"]
targets6 = ["fd00::2", "fd00::3", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "2001:db8::1"]
def attempt(family, kind, address, size, *options):
    with socket.socket(family, kind) as s:
        try:
            s.settimeout(0.01)
            for level, option, value in options:
                s.setsockopt(level, option, value)
            if kind == socket.SOCK_STREAM:
                s.connect((address, 9))
            else:
                s.sendto(os.urandom(size), (address, random.randint(1, 65535)))
        except OSError:
            pass
ip, ip6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
broadcast = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for address in targets:
    for size in (0, 1, 7, 8, 1400, 9000, 65507):
        attempt(socket.AF_INET, socket.SOCK_DGRAM, address, size, broadcast)
    attempt(socket.AF_INET, socket.SOCK_DGRAM, address, 64, broadcast, (ip, socket.IP_TTL, 1))
    attempt(socket.AF_INET, socket.SOCK_DGRAM, address, 64, broadcast, (ip, socket.IP_TOS, 255))
    attempt(socket.AF_INET, socket.SOCK_DGRAM, address, 64, broadcast, (ip, socket.IP_OPTIONS, b"\\x07\\x27\\x04" + bytes(37)))
    attempt(socket.AF_INET, socket.SOCK_DGRAM, address, 64, broadcast, (ip, socket.IP_OPTIONS, b"\\x83\\x07\\x04" + socket.inet_aton("10.0.2.2")))
    attempt(socket.AF_INET, socket.SOCK_STREAM, address, 0, (ip, socket.IP_OPTIONS, b"\\x01" * 40))
for address in targets6:
    for size in (0, 1, 1400, 9000, 65000):
        attempt(socket.AF_INET6, socket.SOCK_DGRAM, address, size)
    attempt(socket.AF_INET6, socket.SOCK_DGRAM, address, 64, (ip6, 16, 1))  # IPV6_UNICAST_HOPS
    attempt(socket.AF_INET6, socket.SOCK_DGRAM, address, 64, (ip6, 59, b"\\x00\\x00" + bytes(6)))  # IPV6_DSTOPTS
    attempt(socket.AF_INET6, socket.SOCK_STREAM, address, 0)
ask()
ask(tcp=True)
print("answers")
"""


@pytest.mark.slice
@pytest.mark.parametrize("script", [DNS, FRAMES], ids=["dns", "frames"])
def test_it_goes_on(no_kept, script):
    assert no_kept.python(script, "--add-host=known.test:192.0.2.77", timeout=120).lines() == ["answers"]


def test_nothing_of_it_comes_to_the_host(no_kept):
    """The same frames, while somebody listens on all of the host's addresses at a port that they are all sent to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        s.bind(("0.0.0.0", 0))
        port, seen = s.getsockname()[1], []

        def listen():
            while (data := s.recv(65536)) != b"the end":
                seen.append(data[:40])
        thread = threading.Thread(target=listen)
        thread.start()
        sender.sendto(b"from the host", ("127.0.0.1", port))
        script = FRAMES.replace("random.randint(1, 65535)", str(port)).replace("(address, 9)", f"(address, {port})")
        out = no_kept.python(script, "--add-host=known.test:192.0.2.77", timeout=120)
        sender.sendto(b"the end", ("127.0.0.1", port))
        thread.join()
    assert out.lines() == ["answers"]
    assert seen == [b"from the host"]
