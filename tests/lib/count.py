#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Count the tests in JUnit files (pytest's, meson's): prints "PASSED FAILED SKIPPED".

A skip must say what the machine lacks ("this machine cannot ..."): any other is counted as a failure, so that no test
goes missing quietly.
"""
import sys
import xml.etree.ElementTree as ET

MACHINE = "this machine cannot"


def main(paths):
    passed = failed = skipped = 0
    for path in paths:
        for case in ET.parse(path).iter("testcase"):
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is None:
                passed += 1
            else:
                # meson puts the reason of a TAP skip beside it, pytest into it
                reason = (skip.get("message") or "") + (case.findtext("system-out") or "")
                if MACHINE in reason:
                    skipped += 1
                else:
                    failed += 1
                    print(f"skipped without a reason of the machine's: {case.get('name')}: {reason}", file=sys.stderr)
    print(passed, failed, skipped)


main(sys.argv[1:])
