# SPDX-License-Identifier: LGPL-2.1-or-later
"""A suite as the subreaper of what its tests leave behind, so that this can be told from other people's; and it reaps. A plugin of pytest.

A box of a killed launcher ends as an orphan. Where nobody reaps these they are thousands after a while, and whoever looks over /proc, a
test or a launcher, looks at all of them.
"""
import ctypes
import os
import pathlib
import subprocess

PR_SET_CHILD_SUBREAPER = 36
started = set()  # who somebody here waits for himself


def who(pid):
    """Pid and start: numbers are used again. None: it is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid, stat.rpartition(")")[2].split()[19]


def noted(start, pid_of):
    """start, which makes a process, and then notes who it is."""
    def wrapper(*args, **kw):
        result = start(*args, **kw)
        started.add(who(pid_of(result, *args)))
        return result
    return wrapper


def pytest_configure(config):
    del config
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.fork = noted(os.fork, lambda pid: pid)
    os.forkpty = noted(os.forkpty, lambda pair: pair[0])
    subprocess.Popen.__init__ = noted(subprocess.Popen.__init__, lambda _none, popen, *_args: popen.pid)


def pytest_runtest_logfinish():
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        for pid in map(int, path.read_text(encoding="ascii").split()):
            if who(pid) not in started:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
