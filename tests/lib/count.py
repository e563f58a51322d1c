#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Count single tests: in pytest's JUnit files (.xml) and in meson's logs (testlog.json). Prints "PASSED FAILED SKIPPED".

A skip must say what the machine lacks ("this machine cannot ..."): any other is counted as a failure, so that no test
goes missing quietly.
"""
import json
import re
import sys
import xml.etree.ElementTree as ET

MACHINE = "this machine cannot"
counts = {"passed": 0, "failed": 0, "skipped": 0}


def skipped(name, reason):
    if MACHINE in reason:
        counts["skipped"] += 1
    else:
        counts["failed"] += 1
        print(f"skipped without a reason of the machine's: {name}: {reason}", file=sys.stderr)


def junit(path):
    for case in ET.parse(path).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skip is None:
            counts["passed"] += 1
        else:
            skipped(case.get("name"), skip.get("message") or "")


def meson(path):
    """One JSON object per test program; GLib's (and our Python ones) print TAP, one line for each test in it."""
    with open(path, encoding="utf-8") as f:
        for line in f:
            program = json.loads(line)
            passed = 0
            for ok, number, rest in re.findall(r"^(ok|not ok) (\d+)(.*)$", program.get("stdout") or "", re.M):
                name, _, directive = rest.partition("# ")
                if ok != "ok":
                    counts["failed"] += 1
                elif directive.upper().startswith("SKIP"):
                    skipped(f"{program['name']} {number}{name}", directive)
                    passed += 1
                else:
                    counts["passed"] += 1
                    passed += 1
            if program["result"] == "SKIP" and not passed:
                skipped(program["name"], program.get("stdout") or "")
            elif program["result"] in ("OK", "EXPECTEDFAIL"):
                counts["passed"] += 0 if passed else 1
            elif program["result"] != "SKIP":
                counts["failed"] += 1


for path in sys.argv[1:]:
    (meson if path.endswith(".json") else junit)(path)
print(counts["passed"], counts["failed"], counts["skipped"])
