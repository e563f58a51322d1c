# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sanitizer the programs under test have, which tests cannot be run on such programs and why, and what of the rest ./check takes. A plugin of pytest.

Of each file of tests ./check runs on sanitized programs what is marked as its slice; ./check --long runs all but those in CANNOT.
"""
import os
import pathlib
import re

TESTS = pathlib.Path(__file__).resolve().parents[1]
SUITES = ("integration", "attack", "faults", "fs")
ALL = ("address", "thread")

BY_ADDRESSES = "memory ends by RLIMIT_AS, and a sanitizer, which has a malloc(3) of its own, takes terabytes of addresses"

BY_CALLS = "which call fails is left to chance, and a sanitizer ends the process where it was one of its own (mmap)"

BY_LEAKS = "the leak sanitizer starts a process of its own"

# (sanitizers, file below tests/ or file::test or file::test[parameters, with * as in a shell], why)
CANNOT = [
    (ALL, "faults/test_at_work.py::test_out_of_memory", BY_ADDRESSES),
    (ALL, "faults/test_calls.py::test_sample", BY_CALLS),
    (ALL, "faults/test_commit.py::test_commit[errno]", BY_CALLS),
    (ALL, "faults/test_shortage.py::test_limits[*-address space]", BY_ADDRESSES),
    (["address"], "integration/test_doctor.py::test_tells_what_the_shell_has_set[processes]", BY_LEAKS),
    (["address"], "integration/test_network_real.py::test_10000_connections_leave_nothing", "memory that was freed is kept for a while"),
    (["address"], "integration/test_process.py::test_no_process_left", BY_LEAKS),
    (["address"], "integration/test_usbox_net_netns.py::test_nothing_of_the_caller_is_where_frames_are_read", "all memory is read, terabytes of shadow with it"),
    (ALL, "fs/test_hostile.py::test_out_of_memory_a_request_fails_and_no_more", BY_ADDRESSES),
    (ALL, "fs/test_long.py", "takes an hour, and tests/fs/long runs it"),
]
# file below tests/: why nothing of it is in the slice
NO_SLICE = {"fs/test_root.py": "it runs the slice itself, once more"}


def sanitizer(program):
    """What it was built with: "address" (with undefined), "thread", or ""."""
    data = pathlib.Path(program).read_bytes() if os.path.exists(program) else b""
    return "address" if b"__asan_init" in data else "thread" if b"__tsan_init" in data else ""


def reason(which, nodeid):
    """Why that test is not run under that sanitizer; None where it is."""
    for sanitizers, pattern, why in CANNOT:
        regex = "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", pattern))
        if which in sanitizers and re.fullmatch(regex + r"(::.*|\[.*)?", nodeid):
            return why
    return None


def faults():
    """What is wrong with the table and the marks: an entry for what is not there, a file without a slice."""
    for _sanitizers, pattern, _why in CANNOT:
        file, _, test = pattern.partition("::")
        if not (TESTS / file).exists() or f"def {test.partition('[')[0]}" not in (TESTS / file).read_text(encoding="utf-8"):
            yield f"tests/lib/sanitized.py: there is no {pattern}"
    for suite in SUITES:
        for path in sorted((TESTS / suite).glob("test_*.py")):
            name, text = f"{suite}/{path.name}", path.read_text(encoding="utf-8")
            if not ("mark.slice" in text or "pytestmark = pytest.mark.limits" in text or name in NO_SLICE or reason("address", name)):
                yield f"tests/{name}: no test of it is marked as its slice"


def pytest_configure(config):
    import pytest  # which what runs in a laboratory (net_lab.py) does without
    config.addinivalue_line("markers", "slice: also run on the sanitized build, by ./check; the others by ./check --long")
    wrong = list(faults())
    if wrong:
        raise pytest.UsageError("\n".join(wrong))


def pytest_collection_modifyitems(config, items):
    which = sanitizer(pathlib.Path(os.environ.get("USBOX_BUILD", TESTS.parent / "build"), "fsoverlay", "usbox-fs"))
    if not which:
        return
    left_out = [item for item in items if reason(which, f"{item.path.relative_to(TESTS)}::{item.nodeid.partition('::')[2]}")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
