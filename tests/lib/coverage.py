#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests ran of the product: coverage.py SOURCE BUILD COUNTERS OUT PROGRAM....

BUILD was made with -Dcoverage=COUNTERS. Prints a row for each directory; OUT gets a row for each file, the functions that never ran, and the error paths that
never ran: lines that make an error, or that give one up, with their text.
"""
import collections
import glob
import os
import re
import subprocess
import sys

PARTS = ["src", "src/base", "netstack", "fsoverlay", "scope", "seccomp"]
ERROR_PATH = re.compile(r"\berr_\w+\(|\breturn (false|NULL|-1|-E[A-Z]+|-errno)\b|\blog_(error|note)\(|\b_exit\(")


def export(build, counters, programs):
    """Line counts: {file: {line: times}} and functions that ran or not: {file: {name: (line, times)}}."""
    merged = f"{counters}/all.profdata"
    raw = glob.glob(f"{counters}/*.profraw")
    if not raw:
        sys.exit(f"coverage.py: nothing was counted in {counters}")
    # A file that another build left there, or that was never written to, is no reason to give up the others.
    subprocess.run(["llvm-profdata", "merge", "-sparse", "-failure-mode=all", "-o", merged, *raw], check=True)
    programs = [f"{build}/{p}" for p in programs]
    programs += [p for p in sorted(glob.glob(f"{build}/tests/unit/test-*")) if os.path.isfile(p) and os.access(p, os.X_OK)]
    command = ["llvm-cov", "export", "-format=lcov", f"-instr-profile={merged}", programs[0]]
    for name in programs[1:]:
        command += ["-object", name]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines, functions = collections.defaultdict(dict), collections.defaultdict(dict)
    name = None
    for line in text.splitlines():
        kind, _, rest = line.partition(":")
        if kind == "SF":
            name = rest
        elif kind == "DA":
            number, times = (int(x) for x in rest.split(",")[:2])
            lines[name][number] = max(times, lines[name].get(number, 0))
        elif kind == "FN":
            number, function = rest.split(",", 1)
            functions[name][function.rpartition(":")[2]] = [int(number), 0]
        elif kind == "FNDA":
            times, function = rest.split(",", 1)
            functions[name][function.rpartition(":")[2]][1] += int(times)
    return lines, functions


def main():
    source, build, counters, out, *programs = sys.argv[1:]
    lines, functions = export(build, counters, programs)
    rows = collections.defaultdict(lambda: [0, 0])
    files, unused, unreached = [], [], []
    for name in sorted(lines):
        short = os.path.relpath(os.path.join(source, name), source)
        directory = os.path.dirname(short)
        if directory not in PARTS:
            continue
        ran = sum(1 for times in lines[name].values() if times)
        rows[directory][0] += ran
        rows[directory][1] += len(lines[name])
        files.append(f"{100 * ran / len(lines[name]):5.1f} %  {short}")
        unused += [f"{short}:{number}: {function}()" for function, (number, times) in sorted(functions[name].items(), key=lambda f: f[1]) if not times]
        # What the build made is with it.
        where = f"{source}/{short}" if os.path.exists(f"{source}/{short}") else f"{build}/{short}"
        with open(where, encoding="utf-8") as f:
            text = f.read().splitlines()
        for number, times in sorted(lines[name].items()):
            if not times and ERROR_PATH.search(text[number - 1]):
                unreached.append(f"{short}:{number}: {text[number - 1].strip()}")
    if not rows:
        sys.exit("coverage.py: no file of the product was counted")
    for directory in PARTS:
        ran, all_lines = rows[directory]
        print(f"{directory:<10} {100 * ran / max(all_lines, 1):5.1f} % of {all_lines} lines")
    ran, all_lines = (sum(r[i] for r in rows.values()) for i in (0, 1))
    print(f"{'all':<10} {100 * ran / all_lines:5.1f} % of {all_lines} lines; {len(unused)} functions and {len(unreached)} lines of error paths did not run")
    with open(out, "w", encoding="utf-8") as f:
        for title, list_ in (("Files", files), ("Functions that did not run", unused), ("Error paths that did not run", unreached)):
            print(f"# {title}", *list_, "", sep="\n", file=f)


main()
