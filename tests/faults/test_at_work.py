# SPDX-License-Identifier: LGPL-2.1-or-later
"""A box that serves, by usbox-net and usbox-fs, while its processes are stopped for as long as a machine sleeps, or a helper is out of memory.

The stops take USBOX_FAULT_STOP seconds; with more than ten of them each kind of process is out of memory."""
import os
import resource
import signal
import socket
import time

import pytest

import churn
from conftest import integration
from faults import STOP

wait_until = integration.wait_until
PATIENCE = 120 + STOP
SIZE = 300000

# Of a request its number: it goes to a file that is renamed, to another that grows, to standard output, and back with much behind it.
SERVER = f"""
import os, socket
listener = socket.create_server(("0.0.0.0", 8080))
while True:
    link, _ = listener.accept()
    with link, link.makefile("rb") as requests:
        for line in requests:
            n = int(line)
            if n == 0:
                raise SystemExit(5)
            with open("new", "w") as f:
                f.write(str(n))
            os.rename("new", f"f{{n}}")
            with open("all", "a") as f:
                f.write(f"{{n}}\\n")
            print(n, flush=True)
            link.sendall(b"%d\\n" % n + bytes([n % 256]) * {SIZE})
"""


class AtWork:
    """The box, and a link to it."""

    def __init__(self, bench):
        self.bench, self.done = bench, 0
        bench.clean()
        world = bench.world
        self.proc = world.popen("run", "-d", "--name=x", "--publish=127.0.0.1:0:8080", "--", "/usr/bin/python3", "-c", SERVER)
        _, err = self.proc.communicate(timeout=PATIENCE)
        assert self.proc.returncode == 0, err
        port = int(world.usbox("port", "x").ok().out.split()[-1].rpartition(":")[2])
        self.link = None
        assert wait_until(lambda: self.connected(port), PATIENCE)
        self.launcher = int(world.usbox("inspect", "x").json()[0]["launcher"])

    def connected(self, port):
        """What listens on the host is there before the command is."""
        try:
            self.link = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            self.ask()
            return True
        except OSError:
            if self.link:
                self.link.close()
            return False

    def send(self):
        self.link.sendall(b"%d\n" % (self.done + 1))

    def answer(self):
        data, wanted = b"", b"%d\n" % (self.done + 1) + bytes([(self.done + 1) % 256]) * SIZE
        while len(data) < len(wanted):
            got = self.link.recv(1 << 16)
            if not got:
                raise ConnectionResetError
            data += got
        assert data == wanted
        self.done += 1

    def ask(self):
        self.send()
        self.answer()

    def end(self):
        """The command is told to end; how the run did. What was asked for is in the log and in the upper layer, and nothing else."""
        world = self.bench.world
        try:
            self.link.sendall(b"0\n")
        except OSError:
            pass
        status = int(world.usbox("wait", "x", timeout=PATIENCE).ok().out)
        self.link.close()
        numbers = "".join(f"{n}\n" for n in range(1, self.done + 1))
        assert world.usbox("logs", "x").ok().out.startswith(numbers)
        box = next(iter(world.boxes.iterdir()))
        upper = {p.name: p.read_text(encoding="utf-8") for p in (box / "upper").rglob("*") if p.is_file()}
        assert upper.pop("all").startswith(numbers)
        for n in range(1, self.done + 1):
            assert upper[f"f{n}"] == str(n)
        return status

    def said(self):
        return self.bench.world.usbox("inspect", "x").json()[0]

    def forget(self):
        self.bench.world.usbox("rm", "-f", "x").ok()


@pytest.mark.slice
def test_stopped_at_work(bench):
    """All processes of a box stop, amid a request, and go on after a while: no byte of it is lost, nor is the link."""
    box = AtWork(bench)
    for _ in range(20):
        box.ask()
    box.send()
    stopped = churn.family(box.launcher)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STOP)
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    box.answer()
    for _ in range(20):
        box.ask()
    assert box.end() == 5
    assert box.done == 42
    box.forget()


def comm(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
        return f.read().rstrip("\n")


def short_of_memory(pid):
    """From now on it gets no more of it than it has."""
    resource.prlimit(pid, resource.RLIMIT_AS, (4096, 4096))


@pytest.mark.parametrize("who", ("usbox", "usbox-net", "usbox-fs", *(("usbox-net-agent", "usbox-fs-agent", "usbox-init") if STOP > 10 else ())))
def test_out_of_memory(bench, who):
    """It goes on with what it has, or the run ends with one word of whose end it was; never by a signal of its own."""
    box = AtWork(bench)
    pids = [pid for pid in churn.family(box.launcher) if comm(pid) == who and (who != "usbox" or pid == box.launcher)]
    assert pids, who
    for pid in pids:
        short_of_memory(pid)
    try:
        for _ in range(30):
            box.ask()
        # A verb's own errors are another matter; the launcher answers it.
        bench.world.usbox("exec", "x", "--", "sh", "-c", "for i in $(seq 40); do mkdir d$i; echo $i >d$i/f; done; cat d*/f >cat; ls -R >ls")
    except OSError:
        pass
    status, known = box.end(), box.said()
    if status != 5:
        assert status == 125 and who.replace("usbox-init", "init") in known["error"] and "signal" not in known["error"], (status, known)
    box.forget()
