# SPDX-License-Identifier: LGPL-2.1-or-later
"""compile_once.py FROM TO: the compile_commands.json of a build without what is in it again. A source that goes into programs and into tests of it has a command
for each, and clang-tidy looks at it as often: once is enough where the preprocessor is told the same."""
import json
import os
import shlex
import sys


def what(entry):
    """Of a command, that by which the compiler sees something else: the file, and what is not a place of headers, an output or a dependency."""
    words = shlex.split(entry["command"])
    told = [word for word in words[1:] if word[:2] in ("-D", "-U", "-f", "-m", "-O") or word.startswith("-std")]
    return os.path.normpath(os.path.join(entry["directory"], entry["file"])), tuple(sorted(set(told)))


def main():
    build, to = sys.argv[1:]
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    with open(os.path.join(to, "compile_commands.json"), "w", encoding="utf-8") as f:
        json.dump(list({what(entry): entry for entry in reversed(entries)}.values()), f)


main()
