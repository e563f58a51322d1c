# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each system call of usbox's own processes fails once, in turn: a clear error and nothing left, or a box that is as it should be.

Here all calls that confine, what was wrong once, and of each kind of box a few more, the same in each run; USBOX_FAULT_SEED chooses others, USBOX_FAULTS
more of them. All of them by tests/faults/long."""
import hashlib
import os
import re

import pytest

import faults

SEED = os.environ.get("USBOX_FAULT_SEED", "1")
SAMPLE = int(os.environ.get("USBOX_FAULTS", "1"))

# To go on without one of these is to go on with less confinement.
CONFINES = set("seccomp capset pivot_root mount_setattr landlock_restrict_self landlock_add_rule setresuid setresgid setgroups setns unshare chroot setsid"
               " umount2".split())
# But for what the command line says may be missing, or is asked for once more by another way.
TOLERATED = {
    # Then there is no agent, which published ports alone need.
    "usbox-net-agent": {"setns", "capset", "seccomp"},
    "usbox-net": {"landlock_restrict_self", "landlock_add_rule"},  # where the kernel has none
}


def try_all(judge, calls, what=None):
    wrong = []
    for call in calls:
        errno = what or faults.errno_of(call.name)
        run, found = judge.try_fault(call, errno)
        wrong += [f"{call} {errno}: {f} | {run.err.strip()[:300]}" for f in found or []]
    assert not wrong, "\n".join(wrong)


def drawn(call):
    """A call's lot. It depends on nothing but itself: some are made more often in one run than in another, and the others keep theirs."""
    return hashlib.sha256(f"{SEED} {call}".encode()).digest()


@pytest.mark.parametrize("kind", faults.KINDS)
def test_sample(bench, kind):
    """A call that is not made this time has not failed, and neither is that a failure."""
    judge = faults.Judge(bench, kind)
    print(f"again: USBOX_FAULTS={SAMPLE} USBOX_FAULT_SEED={SEED}")
    try_all(judge, sorted(judge.calls(), key=drawn)[:SAMPLE])


@pytest.mark.parametrize("kind", ("bare", "fuse"))
def test_confinement(bench, kind):
    """None of these is ignored."""
    judge = faults.Judge(bench, kind)
    ignored = []
    calls = [c for c in judge.calls() if c.name in CONFINES]
    assert len(calls) > 8
    for call in calls:
        run, found = judge.try_fault(call, "EPERM")
        if found is None or call.name in TOLERATED.get(judge.name(call.role), ()):
            continue
        if run.rc != 125:
            ignored.append(f"{call}: status {run.rc} | {run.err.strip()[:300]}")
        ignored += [f"{call}: {f} | {run.err.strip()[:300]}" for f in found]
    assert not ignored, "\n".join(ignored)


# What was wrong once: the kind of box, whose call, its name, what it says.
FOUND = {
    "init asks for its children and waits for ever": ("bare", "usbox-init", "wait4", "ECHILD"),
    "the payload ends without a word": ("bare", "usbox-init", "recvfrom", "ENOBUFS"),
    "changes that cannot be counted are none": ("kernel", "usbox", "getdents64", "EIO"),
    "half of a listing is taken for the whole": ("bare", "usbox", "getdents64", "EIO"),
    "a home that cannot be found is no home": ("fuse", "usbox", "readlink", "EIO"),
    "a name beside that of the last box stays": ("bare", "usbox", "renameat", "ENOSPC"),
    "the janitor takes an error for the launcher's end": ("kernel", "usbox-janitor", "read", "EIO"),
    "an answer of usbox-fs is lost, and who asked waits for ever": ("fuse", "usbox-fs~", "writev", "ENOMEM"),
    "usbox-fs waits for an agent that has ended": ("fuse", "usbox-fs-agent", "write", "EIO"),
    "one umask for all threads": ("fuse", "usbox-fs~", "unshare", "ENOMEM"),
    "the caller waits for a box that it was not told of": ("detach", "usbox", "recvmsg", "ENOBUFS"),
    "a command stays in the box though nobody knows of it": ("exec", "usbox.1", "pidfd_open", "EMFILE"),
    "the log is read to an end that does not come": ("detach", "usbox", "fcntl", "EMFILE"),
}
# Where it matters which one it is: all that the launcher makes when the box's init has ended. Those of the start are a listing each, too, and there are hundreds.
AT_THE_END = {"changes that cannot be counted are none"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slice] if n == 0 else []) for n, name in enumerate(FOUND)])
def test_found(bench, name):
    kind, who, call_name, errno = FOUND[name]
    judge = faults.Judge(bench, kind)
    for _ in range(20):  # a janitor may be dismissed before it has come to it
        calls = [c for c in judge.calls() if c.name == call_name and (judge.name(c.role).startswith(who) or c.role.startswith(who))]
        if calls:
            break
        judge.look_again()
    else:
        pytest.fail(f"no such call: {sorted({f'{c.role} {judge.name(c.role)} {c.name}' for c in judge.calls()})}")
    some = (calls[:3] + calls[-2:])[:5]
    if name in AT_THE_END:
        every = judge.good.calls
        ended = max(i for i, c in enumerate(every) if judge.name(c.role) == "usbox-init")
        after = [c for c in calls if every.index(c) > ended]
        assert len(after) > 5
        some = calls[:3] + after
    try_all(judge, some, errno)


# What is said, each with its step and with the errno once: the kind of box, whose call, its name, what it says; and the line.
SAID = (
    ("fuse", "usbox-fs-agent", "setns", "EPERM", "enter the box's user namespace: Operation not permitted"),
    ("bare", "usbox", "signalfd4", "EMFILE", "signals: signalfd: Too many open files"),
    ("bare", "usbox.1", "setsid", "EPERM", "namespaces: make a session: Operation not permitted"),
    ("bare", "usbox-init", "signalfd4", "EMFILE", "init: signalfd: Too many open files"),
)


@pytest.mark.parametrize("kind, who, call_name, errno, line", SAID, ids=[f"{row[1]}-{row[2]}" for row in SAID])
def test_said(bench, kind, who, call_name, errno, line):
    judge = faults.Judge(bench, kind)
    calls = [c for c in judge.calls() if c.name == call_name and (judge.name(c.role).startswith(who) or c.role.startswith(who))]
    assert calls
    said = []
    for call in calls:
        run, found = judge.try_fault(call, errno)
        assert not found, (call, found)
        said += faults.error_lines(run.err)
    assert any(re.fullmatch(f"usbox: ([a-z]+: )?{re.escape(line)}", x) for x in said), said
