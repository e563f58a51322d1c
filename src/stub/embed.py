#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""embed.py FILE NAME: FILE as a C array, on stdout."""
import sys

with open(sys.argv[1], "rb") as file:
    data = file.read()
print("/* SPDX-License-Identifier: LGPL-2.1-or-later */")
print("static const unsigned char %s[] = {" % sys.argv[2])
for at in range(0, len(data), 20):
    print("        " + ", ".join("%d" % byte for byte in data[at:at + 20]) + ",")
print("};")
