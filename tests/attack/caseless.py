#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file system that ignores case, as vfat, ntfs, cifs and some directories of ext4 do, for who may mount none of them: FUSE's protocol, by
/dev/fuse and fusermount3, for one tree that does not change.

caseless.py MOUNTPOINT SECRET: .ssh/key has SECRET, Makefile has nothing; it answers until it is unmounted.
"""
import errno
import os
import socket
import stat
import struct
import subprocess
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, INIT, OPENDIR, READDIR, RELEASEDIR, BATCH_FORGET = 1, 2, 3, 14, 15, 17, 18, 26, 27, 28, 29, 42
KEY = b""
# node → (parent, name as it is listed, mode)
NODES = {1: (1, b"", stat.S_IFDIR | 0o755), 2: (1, b".ssh", stat.S_IFDIR | 0o755), 3: (2, b"key", stat.S_IFREG | 0o644), 4: (1, b"Makefile", stat.S_IFREG | 0o644)}


def text(node):
    return KEY if node == 3 else b""


def attributes(node):
    mode = NODES[node][2]
    return struct.pack("<QQQQQQIIIIIIIIII", node, len(text(node)), 1, 1000, 1000, 1000, 0, 0, 0, mode, 2 if stat.S_ISDIR(mode) else 1, os.getuid(), os.getgid(), 0, 4096, 0)


def listing(node):
    entries = [(node, b"."), (NODES[node][0], b"..")] + [(n, name) for n, (parent, name, _) in NODES.items() if parent == node and n != 1]
    return [struct.pack("<QQII", n, at + 1, len(name), NODES[n][2] >> 12) + name + bytes(-len(name) % 8) for at, (n, name) in enumerate(entries)]


def answer(operation, node, body):
    """The reply's body, or a negative errno."""
    if operation == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 8, 4096, 1, 0, 0, 0)
    if operation == LOOKUP:
        wanted = body.rstrip(b"\0").lower()
        found = next((n for n, (parent, name, _) in NODES.items() if n != 1 and parent == node and name.lower() == wanted), None)
        return -errno.ENOENT if found is None else struct.pack("<QQQQII", found, 0, 1, 1, 0, 0) + attributes(found)
    if operation == GETATTR:
        return struct.pack("<QII", 1, 0, 0) + attributes(node)
    if operation in (OPEN, OPENDIR):
        return struct.pack("<QII", 0, 0, 0)
    if operation == READ:
        offset, size = struct.unpack_from("<8xQI", body)
        return text(node)[offset:offset + size]
    if operation == READDIR:
        offset = struct.unpack_from("<8xQ", body)[0]
        return b"".join(listing(node)[offset:])
    if operation == STATFS:
        return bytes(80)
    if operation in (RELEASE, RELEASEDIR):
        return b""
    return -errno.ENOSYS


def mount(where):
    ours, theirs = socket.socketpair()
    subprocess.run(["fusermount3", "-o", "fsname=caseless,subtype=caseless", where], env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                   pass_fds=[theirs.fileno()], check=True)
    return socket.recv_fds(ours, 1, 1)[1][0]


def main():
    global KEY
    device, KEY = mount(sys.argv[1]), sys.argv[2].encode()
    print("mounted", flush=True)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError as e:
            if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                continue
            return  # unmounted
        _, operation, unique, node = struct.unpack_from("<IIQQ", request)
        if operation in (FORGET, BATCH_FORGET):
            continue
        reply = answer(operation, node, request[40:])
        error, body = (reply, b"") if isinstance(reply, int) else (0, reply)
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except FileNotFoundError:
            pass  # who asked has been interrupted


main()
