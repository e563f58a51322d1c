# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL, SIGTERM and SIGSTOP to each process of a box at steps of its start, run and end: nothing stays, the upper layer is whole, and
the status says whose fault it was."""
import concurrent.futures
import hashlib
import os
import random
import re
import statistics
import time

import pytest

import faults

SEED = int(os.environ.get("USBOX_FAULT_SEED", "1"))
FEW = 2
STEPS = int(os.environ.get("USBOX_FAULT_STEPS", FEW))  # of each process
SOON_MS = 2000


def steps_of(judge, who):
    """Some calls of that process, one of its first and one of its last among them."""
    for _ in range(20):  # a janitor may be dismissed before it has its name
        calls = [c for c in judge.calls() if judge.name(c.role) == who]
        if calls:
            break
        judge.look_again()
    assert calls, (who, judge.good.names)
    rng = random.Random(f"{SEED} {who}")
    return sorted({calls[0], calls[-1], *rng.sample(calls, min(STEPS, len(calls)))}, key=calls.index)


def rest_ms(run):
    return int(run.lines["rest"][0]) if run.lines["rest"] else faults.GRACE_MS


def look(judge, run, call, statuses):
    """Findings."""
    bench = judge.bench
    found = [f"{why}: {line}" for why in ("left", "hang") for line in run.lines[why]]
    made = bench.made()
    if made not in (None, "", "made\n"):
        found.append(f"the upper layer has {made!r}")
    if (bench.world.dir / "made").exists():
        found.append("the host has the file that the box made")
    if run.rc not in statuses:
        found.append(f"status {run.rc}")
    if run.rc == 125 and len(faults.error_lines(run.err)) != 1:
        found.append("no error line, or more than one")
    if run.rc == 0:
        found += judge.differs(run, judge.portrait.splitlines())
    # What the janitor could not remove goes with the next box.
    left = bench.left(run)
    if left:
        left = bench.left(bench.run([bench.usbox, "run", "--rm", "--network=none", "--overlay=none", "true"]))
    return [f"{call}: {f} | {run.err.strip()[:300]}" for f in found + left]


# Of whose end the error line speaks; what an agent is for, its helper is.
NAMED = {"usbox-init": "init", "usbox-net": "usbox-net", "usbox-net-agent": "usbox-net", "usbox-fs": "usbox-fs", "usbox-fs-agent": "usbox-fs"}
WHO = ("usbox", "usbox-init", "usbox-net", "usbox-net-agent", "usbox-fs", "usbox-fs-agent", "usbox-janitor", "usbox-unmount")


@pytest.mark.parametrize("who", [pytest.param(who, marks=[pytest.mark.slice] if who in ("usbox", "usbox-fs") else []) for who in WHO])
def test_killed(bench, who):
    judge, wrong, rests = faults.Judge(bench, "fuse"), [], []
    for call in steps_of(judge, who):
        for sig, number in (("SIGKILL", 9), ("SIGTERM", 15)):
            bench.clean()
            run = bench.run(judge.command, "--fault", f"{call}:{sig}")
            if not run.lines["fault"]:
                continue
            # The launcher's own, or the command's, whose process has init's name until its exec; a helper's end is the box's; of init's and the
            # janitor's either the run knows nothing, or says so.
            statuses = {128 + number, 125, 0} if who == "usbox" else {125, 0, 137, 128 + number, *faults.PAYLOAD_FAILED}
            wrong += look(judge, run, f"{call} {sig}", statuses)
            if run.rc == 125 and NAMED.get(who, "") not in run.err:
                wrong.append(f"{call} {sig}: not said that it was {who}: {run.err}")
            rests.append(rest_ms(run))
    assert not wrong, "\n".join(wrong)
    # Where none of the calls came again, as those of a janitor that is dismissed at another moment, there is nothing to be said.
    assert not rests or statistics.median(rests) < SOON_MS, rests


def test_init_is_named(bench):
    """usbox-fs ends with the mount that was init's, and is not said to have ended by itself."""
    judge = faults.Judge(bench, "fuse")
    own = [c for c in judge.calls() if judge.name(c.role) == "usbox-init" and judge.good.names.get(c.role.rpartition(".")[0]) != "usbox-init"]
    begin = max(i for i, c in enumerate(own) if c.name == "fsmount")
    end = next(i for i, c in enumerate(own) if c.name == "pivot_root")
    assert begin < end
    for call in own[begin:end + 1:max(1, (end - begin) // 6)]:
        bench.clean()
        run = bench.run(judge.command, "--fault", f"{call}:SIGKILL")
        assert not run.lines["fault"] or (run.rc == 125 and "init was killed by signal 9" in run.err and not bench.left(run)), (call, run)


def launchers(judge):
    """Roles of those that have boxes or pods."""
    return sorted({role.rpartition(".")[0] for role, name in judge.good.names.items() if name in ("usbox-init", "usbox-maker") and
                   judge.good.names.get(role.rpartition(".")[0]) not in ("usbox-init", "usbox-maker")})


def killed_after(ms, roles):
    """Arguments of the injector: these are killed so long after the fault."""
    return [word for role in roles for word in ("--then", f"{ms}:SIGKILL:{role}")]


def try_all(judge, tries):
    """tries: of (call, what, arguments of the injector, statuses). Findings; none of a call that does not come this time."""
    wrong = []
    for call, what, arguments, statuses in tries:
        judge.bench.clean()
        run = judge.bench.run(judge.command, *arguments)
        if run.lines["fault"]:
            wrong += look(judge, run, f"{judge.name(call.role)} {call} {what}", statuses)
    return wrong


def check_stopped(judge, calls, then, statuses):
    """At each of these calls its process is stopped, and then comes what the injector is told."""
    wrong = try_all(judge, [(call, "SIGSTOP", ("--fault", f"{call}:SIGSTOP", *then), statuses) for call in calls])
    assert not wrong, "\n".join(wrong)


def prepares(judge, call, above):
    """It comes of a launcher, and has had time to prepare for that one's end: who is at his first call, or about to execute a program, or is being loaded, has not."""
    own = [c for c in judge.good.calls if c.role == call.role]
    if re.match(r"usbox(#\d+)?(\.|$)", call.role):
        below = any(call.role.startswith(one + ".") for one in above) and call != own[0] and not any(c.name == "execve" for c in own)
        return call.role in above or below
    return judge.begins_main(call) and ("." not in call.role or call != own[0])


def tries(judge):
    """Each process of usbox's, threads aside, at steps of it, by each signal: (call, what, arguments of the injector, statuses)."""
    above = launchers(judge)
    killed = killed_after(300, above)
    # Who called for a detached box, or a pod, may end: that is there then, or comes to be there.
    callers = {role.rpartition(".")[0] for role in above}
    assert killed
    calls = [c for c in judge.calls() if "~" not in c.role]
    for role in sorted({c.role for c in calls}):
        own = [c for c in calls if c.role == role]
        rng = random.Random(f"{SEED} {role}")
        for call in sorted({own[0], own[-1], *rng.sample(own, min(STEPS, len(own)))}, key=own.index):
            for sig in ("SIGKILL", "SIGTERM") if role not in callers else ():
                yield call, sig, ("--fault", f"{call}:{sig}"), {0, 125, 137, 143, *faults.PAYLOAD_FAILED}
            if call.name == "execve":  # and is another process for the injector after that
                continue
            # Who does something in a pod's pid namespace, and is stopped there by another box, is ended.
            in_pod = judge.good.names.get(role.rpartition(".")[0]) == "usbox-maker"
            yield call, "SIGSTOP SIGCONT", ("--fault", f"{call}:SIGSTOP", "--then", f"300:SIGCONT:{role}"), {0, 125} if in_pod else {0}
            if prepares(judge, call, above):
                yield call, "SIGSTOP, launchers killed", ("--fault", f"{call}:SIGSTOP", *killed), {0, 125, 137, *faults.PAYLOAD_FAILED}


def test_stopped_while_it_takes_a_box_into_a_pod(bench):
    """The maker has what the box's init waits at; so it ends with its launcher, stopped or not."""
    judge = faults.Judge(bench, "pod")
    own = [c for c in judge.calls() if judge.name(c.role) == "usbox-maker"]
    entered = next(i for i, c in enumerate(own) if c.name == "setns")
    calls = [own[entered - 1], own[-1], *[c for c in own if c.name == "sendmsg"]]
    check_stopped(judge, dict.fromkeys(calls), killed_after(300, launchers(judge)), {125, 137})


def test_stopped_on_its_way_into_a_box(bench):
    """The joiner of usbox exec is let go on when its launcher is killed, so nothing is left, and who waits for the command is told."""
    judge = faults.Judge(bench, "exec-kernel")
    above = launchers(judge)
    # Its command, which is a fork of it, has the name, too.
    own = [c for c in judge.calls() if judge.name(c.role) == "usbox-exec" and c.role.rpartition(".")[0] in above]
    entered = next(i for i, c in enumerate(own) if c.name == "setns")
    check_stopped(judge, (own[1], own[entered - 1], own[entered + 2], own[-1]), killed_after(300, above), {0, 125, 137})


def test_stopped_while_it_is_loaded(bench):
    """Before its main() usbox-fs cannot ask to be told of its launcher's end; the janitor lets it go on."""
    judge = faults.Judge(bench, "fuse")
    loaded = [c for c in judge.calls() if c.role == "usbox-fs" and not judge.begins_main(c)]
    # By then there is a janitor.
    check_stopped(judge, [loaded[len(loaded) // 2]], killed_after(4000, ["usbox"]), {125, 137})


def test_stopped_when_it_has_just_begun(bench):
    """A janitor's first steps: what it does then the kernel tells it of."""
    judge = faults.Judge(bench, "fuse")
    own = [c for c in judge.calls() if judge.name(c.role) == "usbox-janitor"]
    check_stopped(judge, own[1:4], killed_after(0, ["usbox"]), {0, 125, 137})


def test_stopped_while_it_compiles(bench):
    """The compiler of --seccomp=FILE ends with its launcher, which waits for nothing else then."""
    judge = faults.Judge(bench, "much")
    own = [c for c in judge.calls() if c.role == "usbox-seccomp" and judge.begins_main(c)]
    check_stopped(judge, (own[0], own[-1]), killed_after(300, ["usbox"]), {137})


@pytest.mark.parametrize("kind", [kind for kind in faults.KINDS if kind != "fuse"])
def test_kinds(bench, kind):
    """The same in boxes of the other kinds, and at what comes and goes with them: two draws of each, the same in each run; with more steps all of it."""
    judge = faults.Judge(bench, kind)
    every = list(tries(judge))
    if STEPS == FEW:
        every = sorted(every, key=lambda x: hashlib.sha256(f"{SEED} {x[0]} {x[1]}".encode()).digest())[:2]
    wrong = try_all(judge, every)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind, who", (("bare", "usbox"), ("kernel", "usbox"), ("exec-kernel", "usbox#2")))
def test_terminal(bench, kind, who):
    """It is as it was, even where the launcher, or `usbox exec`, is killed while it is raw. After its error line, so the end of all is waited for."""
    judge, wrong = faults.Judge(bench, kind), []
    # The launcher's own calls are others with a terminal.
    judge.good = bench.run(judge.command, on_terminal=True)
    assert judge.good.rc == 0 and "not as it was" not in judge.good.err, judge.good.err
    raw = [c for c in judge.calls() if c.role == who][-40:]
    # Of its last ones each: there it has taken half of it back.
    calls = raw[::max(1, len(raw) // (2 * STEPS))] + [c for c in raw if c.name == "ioctl"][-4:] + steps_of(judge, "usbox-init")
    for call in calls:
        for sig in ("SIGKILL", "SIGTERM"):
            bench.clean()
            run = bench.run(judge.command, "--fault", f"{call}:{sig}", on_terminal=True)
            if run.lines["fault"] and ("not as it was" in run.err or run.lines["left"] or run.lines["hang"]):
                wrong.append(f"{call} {sig}: {run.rc} {run.err[-200:]} {run.lines['left']} {run.lines['hang']}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("who", WHO)
def test_stopped(bench, who):
    """Stopped for a while, as by a suspend: as if nothing had been. Stopped when the launcher is killed: nothing stays."""
    judge, wrong, rests = faults.Judge(bench, "fuse"), [], []
    # A program that is still being loaded has had no time to prepare for anything.
    calls = steps_of(judge, who)
    begun = [c for c in calls if judge.begins_main(c)]
    for call in begun[-STEPS:]:
        bench.clean()
        run = bench.run(judge.command, "--fault", f"{call}:SIGSTOP", "--then", f"300:SIGCONT:{call.role}")
        if run.lines["fault"]:
            wrong += look(judge, run, f"{call} SIGSTOP SIGCONT", {0})
        bench.clean()
        run = bench.run(judge.command, "--fault", f"{call}:SIGSTOP", "--then", "300:SIGKILL:usbox")
        if run.lines["fault"]:
            wrong += look(judge, run, f"{call} SIGSTOP, launcher killed", {137, 0})
            rests.append(rest_ms(run))
    assert not wrong, "\n".join(wrong)
    assert not rests or statistics.median(rests) < SOON_MS, rests


@pytest.mark.parametrize("rm", [[], ["--rm"]], ids=["kept", "rm"])
def test_asked_while_it_ends(bench, rm):
    """The launcher stops between any two names that it removes; who asks at that moment how the box has ended is told, also where nothing of it is left."""
    run = [bench.usbox, "run", *rm, "--name=x", "--network=none", "--overlay=none", "--", "sh", "-c", "exit 5"]
    bench.clean()
    removals = [c for c in bench.run(run).calls if c.role == "usbox" and c.name == "unlinkat"][-7:]
    assert len(removals) == 7
    n_told = 0
    for call in removals:
        bench.clean()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(bench.run, run, "--fault", f"{call}:SIGSTOP", "--then", "500:SIGCONT:usbox")
            asked = []
            while not stopped.done():
                if bench.world.boxes.is_dir() and bench.world.usbox("ps", "-a", "-q").out == "x\n":
                    asked.append(bench.world.popen("wait", "x"))
                time.sleep(0.02)
            assert stopped.result().rc == 5 and stopped.result().lines["fault"]
        answers = [(proc.communicate(timeout=60), proc.returncode) for proc in asked]
        told = [answer for answer in answers if answer == ((b"5\n", b""), 0)]
        # With --rm it may be gone before it is asked, and its name with it or not yet.
        gone = [answer for answer in answers if rm and (b"no box 'x'" in answer[0][1] or b"box x ended is not known: it left nothing" in answer[0][1])]
        assert (told or rm) and len(told) + len(gone) == len(answers), (call, answers)
        n_told += len(told)
    assert n_told > 0


def test_killed_while_it_shows_the_box(bench):
    """At each call from the making of the box's runtime directory to its having its name: the next box removes what is there, at once."""
    judge, wrong = faults.Judge(bench, "bare"), []
    calls = [c for c in judge.calls() if c.role == "usbox"]
    begin = next(i for i, c in enumerate(calls) if c.name == "mkdirat")
    end = max(i for i, c in enumerate(calls) if c.name == "renameat")
    names = [c.name for c in calls[begin:end + 1]]
    assert names.count("renameat") >= 2 and "listen" in names, names
    for call in calls[begin:end + 1]:
        bench.clean()
        run = bench.run(judge.command, "--fault", f"{call}:SIGKILL")
        if run.lines["fault"]:
            wrong += look(judge, run, f"{call} SIGKILL", {137})
    assert not wrong, "\n".join(wrong)
