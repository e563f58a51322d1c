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

    def expect(self, pattern, timeout=60):
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

    def wait(self, timeout=60):
        """Its status as subprocess has it; reads along, since a full terminal would stop it."""
        end = time.monotonic() + timeout
        while self.proc.poll() is None:
            assert time.monotonic() < end, f"did not end within {timeout} s; seen: {self.seen!r}"
            self.read_some(0.05)
        while select.select([self.master], [], [], 0)[0] and self.read_some(0.05):
            pass
        return self.proc.returncode

    def children_in_front(self):
        """Command lines of what has come of the program and is in the foreground of its terminal, this one or a box's, and not stopped."""
        parents, found = {}, {}
        for entry in os.scandir("/proc"):
            try:
                with open(f"/proc/{int(entry.name)}/stat", encoding="utf-8", errors="replace") as f:
                    state, parent, group, _session, _tty, in_front = f.read().rpartition(")")[2].split()[:6]
                with open(f"/proc/{entry.name}/cmdline", encoding="utf-8", errors="replace") as f:
                    line = " ".join(f.read().split("\0")).rstrip()
            except (ValueError, OSError):  # no process, or none any more
                continue
            parents[int(entry.name)] = int(parent)
            if group == in_front and state != "T":
                found[int(entry.name)] = line

        def ours(pid):
            while pid and pid != self.proc.pid:
                pid = parents.get(pid, 0)
            return pid
        return [line for pid, line in found.items() if ours(pid)]

    def await_front(self, line, timeout=60):
        """What is typed from now on is for the program of this command line, and not for who started it."""
        end = time.monotonic() + timeout
        while line not in self.children_in_front():
            assert time.monotonic() < end, f"no {line!r} in front within {timeout} s; there are {self.children_in_front()}; seen: {self.seen!r}"
            self.read_some(0.02)

    def await_raw(self, timeout=60):
        """The launcher has the terminal: it looks at each letter itself, which a shell's line editor leaves to the terminal for ^C and ^Z."""
        end = time.monotonic() + timeout
        while self.settings()[3] & termios.ISIG:
            assert time.monotonic() < end, f"not raw within {timeout} s; seen: {self.seen!r}"
            self.read_some(0.02)

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
