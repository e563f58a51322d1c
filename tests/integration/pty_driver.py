# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program on a pseudo-terminal: what a person at a terminal would type and see."""
import errno
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time


class Pty:
    """argv with a terminal of its own as stdin, stdout and stderr, as a session leader under a waiting parent."""

    def __init__(self, argv, env, cwd, rows=24, columns=80):
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        slave = self.slave

        def control():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        self.proc = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, preexec_fn=control)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data):
        os.write(self.master, data.encode() if isinstance(data, str) else data)

    def expect(self, pattern, timeout=20):
        """Read until the regular expression is seen; the match. What was read up to its end is taken."""
        pattern = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        end = time.monotonic() + timeout
        while True:
            if match := pattern.search(self.seen):
                self.seen = self.seen[match.end():]
                return match
            left = end - time.monotonic()
            assert left > 0, f"no {pattern.pattern!r} within {timeout} s; seen: {self.seen!r}"
            if not self.read_some(left):
                if match := pattern.search(self.seen):
                    continue
                raise AssertionError(f"end before {pattern.pattern!r}; seen: {self.seen!r}")

    def read_some(self, timeout):
        """More output into self.seen; False at its end."""
        ready, _, _ = select.select([self.master], [], [], min(timeout, 0.2))
        if not ready:
            return self.proc.poll() is None or bool(select.select([self.master], [], [], 0)[0])
        try:
            data = os.read(self.master, 65536)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            data = b""
        self.seen += data
        return bool(data)

    def wait(self, timeout=20):
        """Its status as subprocess has it; reads along, since a full terminal would stop it."""
        end = time.monotonic() + timeout
        while self.proc.poll() is None:
            assert time.monotonic() < end, f"did not end within {timeout} s; seen: {self.seen!r}"
            self.read_some(0.05)
        while select.select([self.master], [], [], 0)[0] and self.read_some(0.05):
            pass
        return self.proc.returncode

    def settings(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGKILL)
            self.proc.wait()
        os.close(self.master)
        os.close(self.slave)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
