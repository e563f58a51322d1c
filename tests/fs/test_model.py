# SPDX-License-Identifier: LGPL-2.1-or-later
"""The model checker (model.c) on random layers: one lower and several, with remounts, with kills, with threads, with an upper that becomes a lower.

Seeds are fixed, so that a run is the same each time. MODEL_SEED=N MODEL_OPS=N -k long tries others; a failing sequence is cut down and written to
$USBOX_TEST_WORK/model-*.txt (MODEL_SHRINK=SECONDS, 60), which MODEL_REPLAY=FILE -k replay runs again (with the MODEL_SEED that the file's name has)."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

import layers
from conftest import BUILD, SLOW, WORK, assert_same, snapshot, used

MODEL = BUILD / "tests" / "fs" / "fs-model"
WITHOUT = [x for x in os.environ.get("MODEL_WITHOUT", "").split(",") if x]


def run_model(overlay, oracle, *options, without=(), timeout=300):
    """→ what went wrong, or None."""
    proc = subprocess.Popen([MODEL, *map(str, options), "--without", ",".join(["-", *WITHOUT, *without]), str(overlay.mnt), str(oracle)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="backslashreplace")
    try:
        end = time.monotonic() + timeout * SLOW
        signal.signal(signal.SIGALRM, lambda *_: proc.kill())
        signal.alarm(int(timeout * SLOW) + 1)
        for line in proc.stdout:
            if line == "remount\n":
                overlay.remount()
            elif line == "kill\n":
                overlay.crash()
            else:
                continue
            try:
                proc.stdin.write("ok\n")
                proc.stdin.flush()
            except BrokenPipeError:
                break
        signal.alarm(0)
        proc.stdin.close()
        err = proc.stderr.read()
        if proc.wait() == 0:
            return None
        return err or f"the model checker ended with {proc.returncode}" + (" (it took too long)" if time.monotonic() > end else "")
    except BaseException:
        proc.kill()
        raise
    finally:
        signal.alarm(0)
        proc.wait()


class Scene:
    """Layers made from a seed, mounted; can be had anew for each try of a sequence."""

    def __init__(self, make_overlay, seed, lowers, links, options=()):
        self.make_overlay, self.seed, self.lowers, self.links, self.options = make_overlay, seed, lowers, links, options

    def set_up(self):
        self.overlay = self.make_overlay(self.lowers)
        self.oracle = self.overlay.top / "oracle"
        self.oracle.mkdir()
        layers.build(self.overlay, self.oracle, self.seed, links=self.links and "link" not in WITHOUT)
        self.before = [snapshot(x) for x in self.overlay.lowers]
        self.overlay.mount(*self.options)
        return self.overlay, self.oracle

    def lowers_unchanged(self):
        for before, layer in zip(self.before, self.overlay.lowers):
            assert_same(snapshot(layer), before)


def what_failed(error):
    """The kind of a failure, to tell whether a shorter sequence shows the same one."""
    last = error.strip().splitlines()[-1]
    return re.sub(r"^\s*\S.*?: (?=its |it |stat|open|read|lacks|has|byte|directory)", "", re.sub(r"\d+", "N", last))


def shrink(scene, lines, error, seconds=int(os.environ.get("MODEL_SHRINK", "60"))):
    """Delta debugging, within that time: the shortest sequence found that fails the same way."""
    end = time.monotonic() + seconds
    kind = what_failed(error)
    path = WORK / f"shrink-{os.getpid()}.txt"

    def fails(sequence):
        path.write_text("".join(sequence), encoding="ascii")
        overlay, oracle = scene.set_up()
        try:
            found = run_model(overlay, oracle, "--replay", path)
        finally:
            overlay.kill()
        shutil.rmtree(overlay.top, ignore_errors=True)
        return found if found and what_failed(found) == kind else None
    parts = 2
    if not lines[-1].startswith("!"):
        lines = [*lines, "!compare\n"] if fails([*lines, "!compare\n"]) else lines
    while len(lines) > 1 and time.monotonic() < end:
        size = max(1, len(lines) // parts)
        for start in range(len(lines) - size, -1, -size):
            shorter = lines[:start] + lines[start + size:]
            if time.monotonic() > end:
                break
            if found := fails(shorter):
                lines, error, parts = shorter, found, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(lines))
    return lines, error


def check(scene, name, *options, **kw):
    """Run, and where it fails say with which shortest sequence."""
    overlay, oracle = scene.set_up()
    log = WORK / f"{name}.log"
    error = run_model(overlay, oracle, "--seed", scene.seed, "--log", log, *options, **kw)
    if error is None:
        overlay.umount()
        scene.lowers_unchanged()
        log.unlink(missing_ok=True)
        return overlay, oracle
    dead = overlay.server is not None and overlay.server.poll()
    messages = overlay.messages()
    overlay.kill()
    lines = log.read_text(encoding="ascii").splitlines(True) if log.exists() else []
    text = f"{error}\nserver: {'alive' if dead in (None, False) else f'ended with {dead}'}\n{messages}"
    if lines and "MODEL_NO_SHRINK" not in os.environ:
        lines, last = shrink(scene, lines, error)
        kept = WORK / f"model-{name}-{scene.seed}.txt"
        kept.write_text("".join(lines), encoding="ascii")
        text += f"\ncut down to {len(lines)} operations, in {kept}:\n{''.join(lines[-40:])}{last}"
    pytest.fail(text)


EACH = 9000


@pytest.mark.parametrize("seed", range(1, 15))
def test_one_lower_layer(make_overlay, seed):
    check(Scene(make_overlay, seed, 1, True), "one", "--ops", EACH, "--compare", 1000, "--remount", 2000, "--kill", 4000)


@pytest.mark.parametrize("seed", range(101, 105))
def test_three_lower_layers(make_overlay, seed):
    check(Scene(make_overlay, seed, 3, False), "three", "--ops", EACH, "--compare", 1000, "--remount", 3000, "--kill", 5000)


@pytest.mark.slice
def test_a_slice_of_it(make_overlay):
    check(Scene(make_overlay, 7, 2, False), "slice", "--ops", 3000, "--compare", 500, "--remount", 1000, "--kill", 2000)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_in_subtrees_of_their_own(make_overlay, threads):
    class Many(Scene):
        def set_up(self):
            self.overlay = self.make_overlay(self.lowers)
            self.oracle = self.overlay.top / "oracle"
            self.oracle.mkdir()
            (self.overlay.top / "one").mkdir()
            for i in range(threads):
                part = layers_of(self.overlay, i)
                (self.oracle / f"t{i}").mkdir()
                layers.build(part, self.oracle / f"t{i}", self.seed + i, entries=120, links="link" not in WITHOUT)
            self.before = [snapshot(x) for x in self.overlay.lowers]
            return self.overlay.mount() and (self.overlay, self.oracle)

    class layers_of:
        def __init__(self, overlay, number):
            self.lowers = [x / f"t{number}" for x in overlay.lowers]
            for x in self.lowers:
                x.mkdir()
    scene = Many(make_overlay, 201 + threads, 1, True)
    overlay, oracle = scene.set_up()
    error = run_model(overlay, oracle, "--seed", scene.seed, "--threads", threads, "--ops", 24000, "--compare", 4000, "--remount", 8000, "--kill", 12000)
    assert error is None, f"{error}\n{overlay.messages()}"
    overlay.umount()
    scene.lowers_unchanged()


def test_an_upper_becomes_a_lower(make_overlay):
    """What one box made is the next one's lower layer, three times over: whiteouts, opaque and moved directories in the middle."""
    scene = Scene(make_overlay, 301, 1, False)
    overlay, oracle = check(scene, "stack", "--ops", 4000, "--compare", 1000, without=["link", "tmpfile"])
    for i in range(3):
        overlay.lowers.insert(0, overlay.upper)
        overlay.upper, overlay.work = overlay.top / f"upper{i}", overlay.top / f"work{i}"
        overlay.upper.mkdir()
        overlay.work.mkdir()
        before = [snapshot(x) for x in overlay.lowers]
        overlay.mount()
        error = run_model(overlay, oracle, "--seed", 302 + i, "--ops", 4000, "--compare", 1000, "--remount", 2000, without=["link", "tmpfile"])
        assert error is None, f"layer {i}: {error}\n{overlay.messages()}"
        overlay.umount()
        for layer, was in zip(overlay.lowers, before):
            assert_same(snapshot(layer), was)


def test_strict_cache(make_overlay, needs_ours):
    check(Scene(make_overlay, 401, 2, False, ("cache=strict",)), "strict", "--ops", 6000, "--compare", 1000, "--remount", 3000)


@pytest.mark.parametrize("seed", [411, 412])
def test_what_is_counted_is_what_is_there(make_overlay, needs_ours, seed):
    """--disk: the sum of all changes, and a walk over the upper at the next start, come to the same; but for the block that ext4 takes, when it writes the file out, for
    the list of more than four extents."""
    scene = Scene(make_overlay, seed, 1, True, ("disk=10G",))
    overlay, oracle = scene.set_up()
    error = run_model(overlay, oracle, "--seed", seed, "--ops", 5000, "--compare", 2500)
    assert error is None, f"{error}\n{overlay.messages()}"
    before = used(overlay)
    overlay.remount()
    extents = sum(p.is_file() and not p.is_symlink() and p.stat().st_blocks > 32 for p in overlay.upper.rglob("*"))
    assert abs(used(overlay) - before) <= extents * 4096 < before / 5, (before, used(overlay), extents)


def test_one_thread(make_overlay, needs_ours):
    check(Scene(make_overlay, 402, 1, True, ("threads=1",)), "single", "--ops", 6000, "--compare", 1000, "--remount", 3000)


if "MODEL_OPS" in os.environ:
    @pytest.mark.limit(1 << 20)
    def test_long(make_overlay):
        seed = int(os.environ.get("MODEL_SEED", "1"))
        for at in range(int(os.environ["MODEL_OPS"]) // 10000 + 1):
            lowers = 1 + (seed + at) % 3
            check(Scene(make_overlay, seed + at, lowers, lowers == 1), "long", "--ops", 10000, "--compare", 1000, "--remount", 2000, "--kill", 4000)

if "MODEL_REPLAY" in os.environ:
    def test_replay(make_overlay):
        lowers = int(os.environ.get("MODEL_LOWERS", "1"))
        overlay, oracle = Scene(make_overlay, int(os.environ["MODEL_SEED"]), lowers, lowers == 1).set_up()
        error = run_model(overlay, oracle, "--replay", pathlib.Path(os.environ["MODEL_REPLAY"]))
        assert error is None, f"{error}\n{overlay.messages()}"
