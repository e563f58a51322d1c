#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""libFuzzer's dictionary for fuzz-option: every option and choice of `usbox help run --json`, as words of a command line."""
import json
import os
import subprocess
import sys

env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
table = json.loads(subprocess.run([sys.argv[1], "help", "run", "--json"], check=True, capture_output=True, env=env).stdout)
words = set()
for option in table["options"]:
    words |= {f"--{option['name']}\\x00", f"--{option['name']}="}
    words |= {f"{choice}\\x00" for choice in (option.get("choices") or "").split("|") if choice}
print("\n".join(f'"{word}"' for word in sorted(words)))
