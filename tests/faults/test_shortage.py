# SPDX-License-Identifier: LGPL-2.1-or-later
"""Too few descriptors, too little memory, no room, too many processes, for usbox and its helpers: a clear error and nothing left, or a right box."""
import pytest

import faults
from faults import STOP

SMALL = {
    "descriptors": ("n", (4, 6, 8, 10, 12, 14, 17, 20, 24, 30, 40)),
    "address space": ("v", (2000, 6000, 12000, 20000, 40000, 70000, 100000, 150000, 300000)),
    "file size": ("f", (0, 1)),
    "stack": ("s", (32, 64, 256)),
}


def limited(limit, value, command):
    return ["sh", "-c", f'ulimit -{limit} {value} && exec "$@"', "sh", *command]


@pytest.mark.parametrize("what", SMALL)
@pytest.mark.parametrize("kind", ("bare", "fuse"))
def test_limits(bench, kind, what):
    """What the limits of a shell leave too little of."""
    judge, wrong = faults.Judge(bench, kind), []
    limit, values = SMALL[what]
    for value in values:
        bench.clean()
        run = bench.run(limited(limit, value, judge.command))
        found = bench.left(run)
        # Before its main() a program cannot say a thing; a file of no size takes no error line either, where stderr is one.
        said = [line for line in run.err.splitlines() if line.strip()]
        if run.rc not in (0, 125, *faults.PAYLOAD_FAILED) and not (run.rc in (127, 134, 137, 139) and value == values[0]):
            found.append(f"status {run.rc}")
        if run.rc == 125 and not said:
            found.append("no word of it")
        wrong += [f"{what} {value}: {f} | {run.err.strip()[:300]}" for f in found]
    assert not wrong, "\n".join(wrong)


def calls_of(judge, program, *names):
    """Calls of usbox-fs while the box runs: those of its threads."""
    return [c for c in judge.calls() if c.role.startswith(f"{program}~") and c.name in names]


@pytest.mark.parametrize("errno, names", {
    "EIO": ("pread64", "readlinkat", "fstatat", "newfstatat", "getdents64", "splice"),
    "ESTALE": ("openat", "openat2", "newfstatat", "pread64", "splice"),  # as a lower by NFS says of a file that is no more
    "ENOSPC": ("openat", "mkdirat", "mknodat", "pwrite64", "renameat2"),
    "EDQUOT": ("openat", "mkdirat", "mknodat", "pwrite64", "renameat2"),
    "EROFS": ("openat", "mkdirat", "mknodat", "renameat2"),
}.items())
def test_file_system(bench, errno, names):
    """The layers of a running box fail: the command sees an error, or nothing; the upper has whole files; the box ends as ever."""
    judge, wrong = faults.Judge(bench, "fuse"), []
    calls = calls_of(judge, "usbox-fs", *names)
    for call in calls[::max(1, len(calls) // 4)]:
        _, found = judge.try_fault(call, errno)
        wrong += [f"{call} {errno}: {f}" for f in found or []]
    assert not wrong, "\n".join(wrong)


def test_suspended(bench):
    """All of a box stopped for a while, as when a machine sleeps; then it goes on."""
    judge = faults.Judge(bench, "fuse")
    roles = sorted({c.role for c in judge.calls() if "~" not in c.role and judge.name(c.role).startswith("usbox")})
    thens = [x for role in roles for x in ("--then", f"0:SIGSTOP:{role}", "--then", f"{round(STOP * 1000)}:SIGCONT:{role}")]
    for late in reversed([c for c in judge.calls() if c.role == "usbox-fs"]):
        bench.clean()
        run = bench.run(judge.command, "--fault", f"{late}:SIGSTOP", *thens, limit=round(faults.INJECT_LIMIT + STOP))
        # How often its first thread is asked a thing differs: the last call of one run need not come in the next.
        if run.lines["fault"]:
            break
    assert run.lines["fault"] and run.rc == 0 and not bench.left(run), (run.rc, run.err, bench.left(run))
    assert not judge.differs(run, judge.portrait.splitlines()) and bench.made() == "made\n"


LOWER = """import os, sys
seen = set()
for _ in range(400):
    try:
        seen.add(open("lower/file").read())
        seen.add(tuple(sorted(os.listdir("lower/dir"))).__len__() >= 0)
    except OSError as e:
        assert e.errno in (2, 5, 116), e
    with open("lower/own", "a") as f:
        f.write("x")
bad = [s for s in seen if isinstance(s, str) and s.strip("a") and s.strip("b")]
assert not bad, bad
print(os.path.getsize("lower/own"))
"""


@pytest.mark.slice
def test_lower_changes(bench):
    """The host replaces, cuts and removes what a box reads: each read is of one file, and what the box writes is whole."""
    import subprocess
    import threading
    world = bench.world
    bench.clean()
    lower = world.dir / "lower"
    (lower / "dir").mkdir(parents=True)
    (lower / "file").write_text("a" * 4096)
    (world.dir / "look.py").write_text(LOWER)
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            new = lower / "new"
            new.write_text("ab"[n % 2] * 4096)
            new.replace(lower / "file")
            (lower / "dir" / f"n{n % 7}").mkdir(exist_ok=True)
            if (lower / "dir" / f"n{(n + 3) % 7}").exists():
                (lower / "dir" / f"n{(n + 3) % 7}").rmdir()
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for overlay in ("fuse", "kernel"):
            result = world.usbox("run", "--rm", "--network=none", f"--overlay={overlay}", "--", "/usr/bin/python3", "look.py")
            assert result.ok().out == "400\n", (overlay, result)
    finally:
        stop.set()
        thread.join()
    assert not (lower / "own").exists()
    subprocess.run(["rm", "-rf", lower], check=True)


@pytest.mark.parametrize("kind, status", {"default": 0, "fuse": 125}.items())
def test_keys(bench, kind, status):
    """Of a user's 200 keys all are taken, by boxes of his: one that has other ids goes on by those, one that has his alone says what is wrong."""
    judge = faults.Judge(bench, kind)
    call = next(c for c in judge.calls() if c.name == "keyctl")
    run, found = judge.try_fault(call, "EDQUOT")
    assert found == [] and run.rc == status and (status == 0 or "session keyring: Disk quota exceeded" in run.err), (found, run.err)
