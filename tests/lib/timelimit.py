# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test that hangs is one that fails, with a traceback and a list of what runs, and not the end of the whole suite. A plugin of pytest.

$USBOX_TEST_SECONDS is how long each part of a test may take (set-up, call, the way back), 0 as long as it likes; what it names is far more than
the longest needs on a slow machine. $USBOX_TEST_PROGRESS is a file for the name of the test that runs (tests/vm/guest/watch).
"""
import faulthandler
import os
import signal
import sys
import threading

import pytest


def seconds():
    """What the variable says; where tests were asked to take hours, no end; the machine of tests/vm has a time limit of its own."""
    asked_for_more = any(name.startswith("USBOX_FAULT") for name in os.environ)
    usual = 0 if asked_for_more else 300 if "USBOX_TEST_LIMITS" in os.environ else 1800
    return float(os.environ.get("USBOX_TEST_SECONDS", usual))


def word(path):
    try:
        with open(path, "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError as e:
        return e.strerror


def processes():
    """A line for each of this user's: what it is, and what it waits for, where the kernel tells us."""
    for entry in os.scandir("/proc"):
        try:
            if not entry.name.isdigit() or entry.stat().st_uid != os.getuid():
                continue
            stat = word(entry.path + "/stat")
            state, parent = stat.rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ValueError):
            continue
        yield f"{entry.name} child of {parent} {state} in {word(entry.path + '/wchan')}, call {word(entry.path + '/syscall')}: " \
              f"{word(entry.path + '/cmdline') or stat.rpartition(')')[0]}"


def too_long(*_):
    print(f"The processes of this user after {seconds():g} s:", *processes(), sep="\n", file=sys.stderr, flush=True)
    if threading.active_count() > 1:
        faulthandler.dump_traceback()
    pytest.fail(f"took more than {seconds():g} s")


def limited():
    signal.setitimer(signal.ITIMER_REAL, seconds())
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup():
    yield from limited()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call():
    yield from limited()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown():
    yield from limited()


def progress(text):
    if path := os.environ.get("USBOX_TEST_PROGRESS"):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text + "\n")


def pytest_runtest_logstart(nodeid):
    progress(nodeid)


def pytest_sessionfinish():
    progress("the tests have ended")


def pytest_configure():
    signal.signal(signal.SIGALRM, too_long)
