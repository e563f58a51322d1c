# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many short boxes of mixed kinds, some of whose processes are killed or stopped at random, and what there is afterwards: a day's use in minutes.

Beside them two boxes live through all of it, one by itself and one in a pod: commands are executed in the one, boxes come and go in the pod of the other, and both
are spoken to. What their launchers and helpers have open, how much memory they take and what they have not reaped is looked at as well."""
import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
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
    ("--pod=house",),
    ("--pod=house", "--overlay=kernel"),
)
PAYLOADS = ("true", "echo x >f; sleep 0.05", "sleep 0.2", "mkdir d; cd d; for i in 1 2 3 4 5 6 7 8 9; do echo $i >$i; done; rm 3", "(sleep 100 &) ; exit 3")
# In a box that stays nothing may stay of it. Of what the second asks the stack of the network refuses one, and the other has no one who answers.
EXECUTED = ("true", "echo x >f; sleep 0.05", "exec 3<>/dev/tcp/10.0.2.2/9; exec 3<>/dev/tcp/127.0.0.1/9")
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
    if rng.random() < 0.2:
        command = [usbox, "exec", "stays", "--", "bash", "-c", rng.choice(EXECUTED)]
    else:
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


def kept(tops):
    """Bytes and names below, beside a janitor that may be removing some; without the events, of which bounded files are kept."""
    total, n = 0, 0
    for top in tops:
        for root, dirs, files in os.walk(top):
            names = [name for name in files if name not in ("last", "events", "events.1")]
            n += len(dirs) + len(names)
            for name in names:
                try:
                    total += os.lstat(os.path.join(root, name)).st_size
                except FileNotFoundError:
                    pass
    return total, n


def keys():
    """Of the caller's 200 (proc(5), key-users). The kernel counts one until it has collected it, some seconds later."""
    with open("/proc/key-users", encoding="ascii") as f:
        return sum(int(line.split()[3].split("/")[0]) for line in f if line.split()[0] == f"{os.getuid()}:")


def sockets():
    """Of the user's, of TCP and UDP; and all of this network namespace. What the processes that stay have open of them are descriptors of theirs."""
    of_user = 0
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as f:
                of_user += sum(1 for line in f if line.split()[7] == str(os.getuid()))
        except FileNotFoundError:  # no IPv6
            pass
    with open("/proc/net/sockstat", encoding="ascii") as f:
        return of_user, int(f.readline().split()[2])


def status_of(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
            return {line.split(":")[0]: line.split(":")[1].strip() for line in f}
    except (FileNotFoundError, ProcessLookupError):
        return {}


def descriptors(pid):
    """How many it has open; of a process that nobody may look into, for how many it ever had room at once (proc(5), FDSize)."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return int(status_of(pid)["FDSize"])
    except FileNotFoundError:
        return -1


def opened(pid, what):
    """Whether it has such a thing open."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if what in os.readlink(f"/proc/{pid}/fd/{fd}"):
                return True
        except FileNotFoundError:
            pass
    return False


def usage(world, lasting=None):
    """What a user would miss, as numbers; lasting: pid → the name of a process that is there before and after."""
    with open("/proc/sys/fs/file-nr", encoding="ascii") as f:
        files = int(f.read().split()[0])
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = {line.split(":")[0]: int(line.split()[1]) for line in f}
    runtime = world.runtime / "usbox"
    n_bytes, names = kept((world.data, world.runtime))
    of_user, of_all = sockets()
    now = {
        "processes": sum(1 for pid in filter(str.isdigit, os.listdir("/proc")) if mine(pid)),
        # Without upper/ likewise (the sweep of state.c).
        "boxes": len([n for n in os.listdir(world.boxes) if (world.boxes / n / "upper").exists()]) if world.boxes.is_dir() else 0,
        "runtime": len([n for n in os.listdir(runtime) if n not in ("last", "events", "events.1")]) if runtime.is_dir() else 0,
        "mounts": open("/proc/self/mountinfo", encoding="utf-8").read().count("usbox"),
        "bytes": n_bytes,
        "names": names,
        "descriptors of the caller": descriptors("self"),
        "keys": keys(),
        "TCP's and UDP's sockets of the user": of_user,
        "sockets of the machine": of_all,
        "open files of the machine": files,
        # Namespaces, file systems in memory, stacks and tables of processes.
        "KiB of the machine that nobody reclaims": sum(memory[what] for what in ("SUnreclaim", "Shmem", "KernelStack", "PageTables", "Percpu")),
    }
    for pid, name in (lasting or {}).items():
        status = status_of(pid)
        now[f"descriptors of {name}"] = descriptors(pid)
        now[f"children of {name}"] = len(children(pid))  # those that it has not waited for, too
        now[f"threads of {name}"] = int(status.get("Threads", -1))
        now[f"KiB of {name}"] = sum(int(status.get(what, "0").split()[0]) for what in ("RssAnon", "RssShmem"))
    return now


# How much more may be there afterwards. What is not named is the whole user's or machine's, and for who looks at a run that is alone on it.
FLAT = {"processes": 0, "boxes": 0, "runtime": 0, "mounts": 0, "bytes": 65536, "names": 40, "descriptors": 0, "children": 0, "threads": 0, "KiB": 1024}
# Of these nothing is made for good with the first boxes.
PASSING = ("processes", "boxes", "runtime")


def may_grow(what):
    """By so much; infinity: it is not looked at."""
    word, _, whose = what.partition(" of ")
    return float("inf") if whose.startswith("the machine") else FLAT.get(word, float("inf"))


class Household:
    """What is there all the time."""

    def __init__(self, usbox, world):
        self.usbox, self.world, self.lasting = usbox, world, {}

    def begin(self):
        self.call("run", "-d", "--name=stays", "--publish=127.0.0.1:0:9", "--", "sleep", "100000")
        self.call("pod", "create", "house")
        self.call("run", "-d", "--name=lodges", "--pod=house", "--", "sleep", "100000")
        self.port = int(self.call("port", "stays").split()[-1].rpartition(":")[2])
        for name, verb in (("stays", ()), ("lodges", ()), ("house", ("pod",))):
            launcher = int(json.loads(self.call(*verb, "inspect", name))[0]["launcher"])
            for pid in family(launcher):
                self.lasting[pid] = f"{' '.join([*verb, name])}: {status_of(pid)['Name']} {len(self.lasting)}"
            # It opens one more file when it has run for a second: what tells it of new name servers. The second box's network is its pod's.
            end = time.monotonic() + 60
            while name != "lodges" and not opened(launcher, "inotify") and time.monotonic() < end:
                time.sleep(0.05)

    def call(self, *argv):
        return subprocess.run([self.usbox, *argv], env=self.world.env, cwd=self.world.dir, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True).stdout

    def knock(self):
        """At the port, behind which nobody listens."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as link:
                link.recv(1)
        except ConnectionResetError:
            pass

    def end(self):
        for argv in (("rm", "-f", "stays", "lodges"), ("pod", "rm", "-f", "house")):
            subprocess.run([self.usbox, *argv], env=self.world.env, cwd=self.world.dir, check=False, capture_output=True)


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
    wrong, n = [], 0
    household = Household(usbox, world)
    try:
        household.begin()
        first = usage(world, household.lasting)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            def some(numbers):
                household.knock()
                return [found for found in pool.map(lambda i: one_box(usbox, world, i, seed), numbers) if found]
            # What grows or is learnt by the first of each kind is there then.
            wrong += some(range(-4 * jobs, 0))
            before, begin = settled(usbox, world, household.lasting, {what: first[what] for what in PASSING}), time.monotonic()
            while n < boxes and time.monotonic() - begin < seconds:
                step = min(2 * jobs, boxes - n)
                wrong += some(range(n, n + step))
                n += step
        return wrong, n, before, settled(usbox, world, household.lasting, before)
    finally:
        household.end()


def settled(usbox, world, lasting, first):
    """After the next boxes, which remove what killed ones have left, and when the kernel has let go."""
    for _ in range(6):
        subprocess.run([usbox, "run", "--rm", "--network=none", "--overlay=kernel", "--", "true"], env=world.env, cwd=world.dir, check=True, capture_output=True)
    end = time.monotonic() + 60
    while grown(first, now := usage(world, lasting)) and time.monotonic() < end:
        time.sleep(0.1)
    return now


def grown(before, after):
    """What is there that was not."""
    return [f"{what}: {count}, then {after[what]}" for what, count in before.items()
            if after[what] > count + may_grow(what) or after[what] < 0]
