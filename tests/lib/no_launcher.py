# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in a box's place and is no launcher, but has all that one shows of itself: its lock, its record, its socket."""
import contextlib
import fcntl
import os
import shutil
import socket
import struct


@contextlib.contextmanager
def no_launcher(runtime, name):
    """Yields the place, its lock, and the socket, which listens. What is left of the place goes with it."""
    place = runtime / "usbox" / "0123456789ab"
    place.mkdir(parents=True)
    os.chmod(runtime / "usbox", 0o700)
    (place / "state.json").write_text(f'{{"name": "{name}"}}', encoding="utf-8")
    with open(place / "lock", "wb") as lock, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        server.bind(os.fspath(place / "control"))
        server.listen()
        try:
            yield place, lock, server
        finally:
            if place.exists():
                shutil.rmtree(place)
