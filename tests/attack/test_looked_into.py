# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looking into usbox's own processes, by every way that the kernel has: for the same user outside, to whom what has the box's content or rights over it
is closed since it is not dumpable (PR_SET_DUMPABLE); for the command, which with --pid=host sees them."""
import json
import subprocess
import sys

import pytest

from conftest import own_processes

# Prints what came through at each process whose number is given, or, where none is, of the box that this runs in; and at a child of its own, as "own", so
# that none is closed by a mistake.
LOOK = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
def opened(pid, name):
    os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
def called(result, fine=()):
    if result < 0 and ctypes.get_errno() not in fine:
        raise OSError(ctypes.get_errno(), "")
def vm_read(pid):  # of address 1, where nothing is
    vector = Vector(1, 1)
    called(libc.process_vm_readv(pid, ctypes.byref(Vector(ctypes.addressof(ctypes.create_string_buffer(1)), 1)), 1, ctypes.byref(vector), 1, 0), [errno.EFAULT])
def descriptor(pid):
    pidfd = os.pidfd_open(pid)
    called(libc.syscall(438, pidfd, 0, 0), [errno.EBADF])  # pidfd_getfd
WAYS = {**{name: lambda pid, name=name: os.readlink(f"/proc/{pid}/{name}") for name in ("exe", "cwd", "root", "ns/mnt", "fd/0")},
        **{name: lambda pid, name=name: opened(pid, name) for name in ("environ", "maps", "mem", "auxv")},
        "process_vm_readv": vm_read, "pidfd_getfd": descriptor, "PTRACE_SEIZE": lambda pid: called(libc.ptrace(0x4206, pid, 0, 0))}
def reached(pid):
    found = []
    for name, way in WAYS.items():
        try:
            way(pid)
            found.append(name)
        except OSError as e:
            assert e.errno in (errno.EPERM, errno.EACCES), (pid, name, e)
    return found
ours, theirs = os.pipe()
own = os.fork()
if own == 0:
    os.close(theirs)
    os._exit(len(os.read(ours, 1)))
def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
def children(pid):
    found = [int(n) for n in open(f"/proc/{pid}/task/{pid}/children").read().split() if int(n) != os.getpid()]
    return found + [below for child in found for below in children(child)]
def name(pid):
    return open(f"/proc/{pid}/comm").read().strip()
launcher = parent(os.getppid()) if len(sys.argv) == 1 else 0
pids = [launcher, *children(launcher)] if launcher else [int(pid) for pid in sys.argv[1:]]
print(json.dumps({"own": [0, reached(own)], **{pid: [name(pid), reached(pid)] for pid in pids}}))
"""

# What the launcher's user may look into, as each is not more than that user is; all others of a box are closed.
OPEN = {"usbox", "usbox-janitor", "usbox-scope"}
CLOSED = {"usbox-net", "usbox-net-agent", "usbox-fs", "usbox-fs-agent", "usbox-init", "usbox-exec"}


def look(*argv):
    """Name of a process → what came through at it; more than one of a name: at any."""
    return read(subprocess.run([sys.executable, "-c", LOOK, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=True).stdout)


def read(text):
    found = {}
    for pid, (name, ways) in json.loads(text).items():
        found.setdefault(name or pid, set()).update(ways)
    return found


def test_by_the_same_user_outside(no_kept, subids):
    before = own_processes()
    run = no_kept.popen("run", "--name=x", "--rm", "--", "sh", "-c", "echo up; read line", stdin=subprocess.PIPE)
    assert run.stdout.readline() == b"up\n"
    command = no_kept.popen("exec", "x", "--", "sh", "-c", "echo up; read line", stdin=subprocess.PIPE)
    assert command.stdout.readline() == b"up\n"
    found = look(*(str(pid) for pid in own_processes() if pid not in before))
    for proc in (command, run):
        proc.communicate(b"\n", timeout=240)
    assert CLOSED | {"usbox"} <= set(found) <= CLOSED | OPEN | {"own", "sh"}, found
    own = found["own"]
    assert {"exe", "environ", "fd/0"} <= own
    assert {name: ways for name, ways in found.items() if name in CLOSED} == dict.fromkeys(CLOSED, set())
    # By nothing but that: where there is Yama, it takes of these ways those that attach, from who is none of the ancestors.
    assert {"exe", "environ", "fd/0"} <= found["usbox"] <= own


@pytest.mark.slice
@pytest.mark.parametrize("options", [[], ["--user=root", "--cap-add=all"]], ids=["self", "root"])
def test_by_the_command(no_kept, options, subids):
    """Without a filter, with the host's processes in sight."""
    found = read(no_kept.python(LOOK, "--pid=host", "--seccomp=off", *options).ok().out)
    assert (CLOSED | {"usbox"}) - {"usbox-exec"} <= set(found), found
    assert {"exe", "environ", "fd/0", "mem", "process_vm_readv"} <= found.pop("own")
    assert {name: ways for name, ways in found.items() if ways} == {}
