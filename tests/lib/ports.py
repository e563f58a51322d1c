# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports of the host for what a test starts in a moment. They are none of those that the kernel gives by itself to whoever asks for any, on this machine a
test that runs beside us: one that was just looked at would be another's by then. Each is given once."""
import itertools
import os
import socket

LOWEST = 10240


def _highest():
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        return int(f.read().split()[0]) - 1


def _numbers():
    span = _highest() - LOWEST
    assert span > 1000, "the kernel gives nearly all ports by itself (net.ipv4.ip_local_port_range)"
    # Two who look at the same time begin elsewhere.
    for i in itertools.count(os.getpid() * 97):
        yield LOWEST + i % span


_next = _numbers()


def _is_free(port):
    """To TCP and UDP, by IPv4 and IPv6."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                s = socket.socket(family, kind)
            except OSError:  # no IPv6
                continue
            with s:
                try:
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.bind((address, port))
                except OSError:
                    return False
    return True


def free_range(n):
    """The first of n ports in a row."""
    while True:
        first = next(_next)
        row = [first, *itertools.islice(_next, n - 1)]
        if row == list(range(first, first + n)) and all(map(_is_free, row)):
            return first


def free_port():
    return free_range(1)
