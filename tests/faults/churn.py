# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many short boxes of mixed kinds, some of whose processes are killed or stopped at random, and what there is afterwards: a day's use in minutes."""
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import time

KINDS = (
    ("--network=none", "--overlay=none"),
    ("--network=none", "--overlay=kernel"),
    ("--network=none",),
    ("--userns=self",),
    ("--user=root",),
    ("--network=none", "--overlay=kernel", "-t"),
    ("--network=none", "--overlay=none", "--pid=host"),
)
PAYLOADS = ("true", "echo x >f; sleep 0.05", "sleep 0.2", "mkdir d; cd d; for i in 1 2 3 4 5 6 7 8 9; do echo $i >$i; done; rm 3", "(sleep 100 &) ; exit 3")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(word) for word in f.read().split()]
    except OSError:
        return []


def family(pid):
    found = [pid]
    for one in found:
        found += children(one)
    return found


def hurt(pid, rng):
    """One process of the box, the launcher as likely as any other; who is stopped goes on, or its launcher is killed."""
    victim, sig = rng.choice(family(pid)), rng.choice(SIGNALS)
    try:
        os.kill(victim, sig)
        if sig == signal.SIGSTOP:
            time.sleep(0.05)
            if rng.random() < 0.5:
                os.kill(pid, signal.SIGKILL)
            os.kill(victim, signal.SIGCONT)
    except (ProcessLookupError, PermissionError):
        pass


def one_box(usbox, world, number, seed):
    """A status that no run may have, with what it said; or None."""
    rng = random.Random(f"{seed} {number}")
    command = [usbox, "run", "--rm", *rng.choice(KINDS), "--", "sh", "-c", rng.choice(PAYLOADS)]
    proc = subprocess.Popen(command, env=world.env, cwd=world.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    hurts = rng.random() < 0.4
    if hurts:
        time.sleep(rng.random() ** 2 * 0.3)
        hurt(proc.pid, rng)
    try:
        _, err = proc.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.communicate()
        return f"{number}: {command}: hangs"
    # The payload's own: 1 and 2 where its root is read-only, or gone under it; SIGBUS, too.
    allowed = (0, 1, 2, 3, 125, 126, 127, 135, 137, 139, 143, -9, -15) if hurts else (0, 1, 2, 3)
    return None if proc.returncode in allowed else f"{number}: {command}: {proc.returncode} {err[-300:]!r}"


def kept_bytes(top):
    """Beside a janitor that may be removing it."""
    total = 0
    for root, _dirs, files in os.walk(top):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                pass
    return total


def keys():
    """Of the caller's 200 (proc(5), key-users). The kernel counts one until it has collected it, some seconds later."""
    with open("/proc/key-users", encoding="ascii") as f:
        return sum(int(line.split()[3].split("/")[0]) for line in f if line.split()[0] == f"{os.getuid()}:")


def usage(world):
    """What a user would miss, as numbers. Of the events a bounded file is kept."""
    with open("/proc/sys/fs/file-nr", encoding="ascii") as f:
        files = int(f.read().split()[0])
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = {line.split(":")[0]: int(line.split()[1]) for line in f}
    runtime = world.runtime / "usbox"
    return {
        "processes": sum(1 for pid in filter(str.isdigit, os.listdir("/proc")) if mine(pid)),
        # Without upper/ likewise (the sweep of state.c).
        "boxes": len([n for n in os.listdir(world.boxes) if (world.boxes / n / "upper").exists()]) if world.boxes.is_dir() else 0,
        "runtime": len([n for n in os.listdir(runtime) if n not in ("last", "events", "events.1")]) if runtime.is_dir() else 0,
        "mounts": open("/proc/self/mountinfo", encoding="utf-8").read().count("usbox"),
        "bytes": kept_bytes(world.data),
        "keys": keys(),
        "open files of the machine": files,
        # Namespaces, file systems in memory, stacks and tables of processes.
        "KiB of the machine that nobody reclaims": sum(memory[what] for what in ("SUnreclaim", "Shmem", "KernelStack", "PageTables", "Percpu")),
    }


def mine(pid):
    """A process of the caller's that is one of usbox's."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            head, _, tail = f.read().rpartition(")")
        return os.stat(f"/proc/{pid}").st_uid == os.getuid() and tail.split()[0] != "Z" and "(usbox" in head
    except (FileNotFoundError, ProcessLookupError):
        return False


def forget_half_made(world):
    for name in os.listdir(world.boxes):
        if not (world.boxes / name / "upper").exists():
            shutil.rmtree(world.boxes / name)


def churn(usbox, world, boxes, seconds, seed, jobs=8):
    """So many boxes, or as many as go into the time. What went wrong, how many there were, usage before and after."""
    wrong, n, others = [], 0, usage(world)["processes"]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        def some(numbers):
            return [found for found in pool.map(lambda i: one_box(usbox, world, i, seed), numbers) if found]
        wrong += some(range(-2 * jobs, 0))
        before, begin = settled(usbox, world, others), time.monotonic()
        while n < boxes and time.monotonic() - begin < seconds:
            step = min(2 * jobs, boxes - n)
            wrong += some(range(n, n + step))
            n += step
    return wrong, n, before, settled(usbox, world, others)


def settled(usbox, world, others):
    """After the next boxes, which remove what killed ones have left, and when the kernel has let go."""
    for _ in range(6):
        subprocess.run([usbox, "run", "--rm", "--network=none", "--overlay=kernel", "--", "true"], env=world.env, cwd=world.dir, check=True, capture_output=True)
    end = time.monotonic() + 15
    while (now := usage(world)) and (now["processes"] > others or now["boxes"] or now["runtime"]) and time.monotonic() < end:
        time.sleep(0.1)
    return now


def grown(before, after):
    """What is there that was not. What the whole machine has is for who looks at a run that is alone on it."""
    found = [f"{what}: {after[what]}" for what in ("processes", "boxes", "runtime", "mounts") if after[what] > before[what]]
    return found + ([f"bytes: {before['bytes']}, then {after['bytes']}"] if after["bytes"] > before["bytes"] + 65536 else [])
