#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at the built programs for what the build promises: hardening.py BUILD PROGRAM...; prints what is missing, and exits with 1 then.

CET is looked for in our own objects: a program is marked for it only if the C library's start files are, and Debian's are not.
"""
import glob
import os
import re
import subprocess
import sys


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], capture_output=True, text=True, check=True).stdout


def program(path):
    """What a program lacks."""
    head, dynamic, symbols = readelf("-hl", path), readelf("-d", path), readelf("-s", path)
    stack = re.search(r"GNU_STACK.*", head)
    if "DYN (Position-Independent Executable file)" not in head:
        yield "not position-independent"
    if "GNU_RELRO" not in head or "BIND_NOW" not in dynamic:
        yield "relocations stay writable (relro, now)"
    if not stack or "RWE" in stack.group():
        yield "the stack is executable"
    if re.search(r"LOAD .*RWE", head):
        yield "a segment is writable and executable"
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        yield "libraries by a path of the build (rpath)"
    if "TEXTREL" in dynamic:
        yield "relocations in the text"
    if "__stack_chk_fail" not in symbols:
        yield "no stack protector"
    if not re.search(r"\w_chk\b", symbols):
        yield "not fortified"


def stub(path):
    """What is wrong with the one that has no library: its place is fixed, so there is to be nothing in it that can be written."""
    head = readelf("-hl", path)
    stack = re.search(r"GNU_STACK.*", head)
    if re.search(r"LOAD .* RW", head) or not re.search(r"LOAD .* R", head):
        yield "a segment is writable"
    if not stack or "RWE" in stack.group():
        yield "the stack is executable"
    if "INTERP" in head or "DYNAMIC" in head:
        yield "it is linked with something"


def objects(build):
    """Objects of the product without marks for CET. The stub has no library, no stack to protect and no indirect call."""
    names = [name for name in sorted(glob.glob(f"{build}/**/*.p/*.o", recursive=True)) if "/tests/" not in name and "/stub/" not in name]
    if not names:
        yield f"{build}: no object"
    for name in names:
        if "IBT, SHSTK" not in readelf("-n", name):
            yield name


def main():
    build, *programs = sys.argv[1:]
    bad = 0
    with_cet = os.uname().machine == "x86_64"
    for name in programs:
        if not os.path.exists(f"{build}/{name}"):
            print(f"{name}: not built")
            bad += 1
            continue
        for lack in (stub if name.endswith("/usbox-stub") else program)(f"{build}/{name}"):
            print(f"{name}: {lack}")
            bad += 1
    for name in objects(build) if with_cet else ():
        print(f"{name}: not built for CET")
        bad += 1
    return 1 if bad else 0


sys.exit(main())
