#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Read a compiler's or clang-tidy's output on stdin; print each warning once, but for those of known-warnings.txt.
filter_warnings.py SOURCE-TREE; exit 1 if one is left."""
import os
import re
import sys

FORM = re.compile(r"^(/?[^:\s]+\.[ch]):(\d+):\d+: (?:warning|error): (.*?) \[([^\]]+)\]$")


def in_tree(top, path):
    """The path below top. What a compiler prints is relative to where it ran, somewhere in a build directory."""
    parts = [p for p in path.split("/") if p not in ("", "..")]
    for i in range(len(parts)):
        if os.path.isfile(os.path.join(top, *parts[i:])):
            return "/".join(parts[i:])
    return path


def main():
    top = os.path.realpath(sys.argv[1])
    known = set()
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "known-warnings.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                known.add(tuple(line.split(None, 2)[:2]))
    left = set()
    for line in sys.stdin:
        line = re.sub(r"\x1b\[[0-9;]*[mK]", "", line).rstrip("\n")
        match = FORM.match(line)
        if not match:
            if "error:" in line or line.startswith("FAILED"):
                left.add(line)
            continue
        path, number, text, checks = match.groups()
        name = in_tree(top, path)
        check = re.sub(r"^-Werror=", "-W", re.sub(r",-warnings-as-errors$", "", checks))
        check = next((c for c in check.split() if c.startswith("-Wanalyzer")), check)
        if (name, check) not in known:
            left.add(f"{name}:{number}: {text} [{check}]")
    for line in sorted(left):
        print(line)
    return 1 if left else 0


sys.exit(main())
