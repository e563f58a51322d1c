#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every file of the tree must keep to; one line for each fault. With --shell, lists the shell scripts instead."""
import os
import re
import subprocess
import sys

NO_SPDX = {"LICENSE"}
# JSON has no comments; a corpus file is what a parser reads, byte for byte.
NO_SPDX_RE = re.compile(r"\.json$|^tests/fuzz/corpus/|\.golden$|^tests/.*/data/")
MAX_COLUMNS = 160  # 120 is the rule; what is read better in one line may go over, up to here
# Of the programs: it converts from the locale's character set, by a module from whatever tree the process is in then (src/base/error.h).
CONVERTS = re.compile(r"\bg_str(error|signal)\(|\bg_locale_|\biconv_open\(|\bsetlocale\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def tracked(top):
    """The files of git, or of the directory where it is no repository (a copy made for the test user)."""
    git = ["git", "-c", "safe.directory=*", "-C", top, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        out = subprocess.run(git, check=True, capture_output=True).stdout
        names = [os.fsdecode(n) for n in out.split(b"\0") if n]
    except (subprocess.CalledProcessError, FileNotFoundError):
        names = []
        for root, dirs, files in os.walk(top):
            dirs[:] = [d for d in dirs if d not in (".git", "__pycache__") and not d.startswith("build")]
            names += [os.path.relpath(os.path.join(root, f), top) for f in files]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(top, n)))


def is_shell(path, data):
    return path.endswith((".sh", ".bash")) or re.match(rb"#!/(usr/)?bin/(env )?(ba)?sh\b", data) is not None


def faults(name, data):
    if b"\0" in data:
        return
    text = data.decode("utf-8", "replace")
    if "\ufffd" in text and not NO_SPDX_RE.search(name):
        yield 1, "is not UTF-8"
    if name not in NO_SPDX and not NO_SPDX_RE.search(name):
        if "SPDX-License-Identifier: LGPL-2.1-or-later" not in "\n".join(text.split("\n", 4)[:4]):
            yield 1, "has no SPDX line at its top"
    if NO_SPDX_RE.search(name) or name == "LICENSE":
        return
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "does not end with a newline"
    code = name.endswith((".c", ".h"))
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield number, "has trailing blanks"
        if code and "\t" in line:
            yield number, "has a tab"
        if code and len(line) > MAX_COLUMNS:
            yield number, f"has {len(line)} columns"
        if code and not name.startswith("tests/") and CONVERTS.search(line) and not line.lstrip().startswith("*"):
            yield number, "converts between character sets: err_text() says what an errno means"
        if name != "tests/lib/style.py" and UNFINISHED.search(line):
            yield number, "is marked as unfinished"
    if name.endswith(".c"):
        head = text.split("\n", 2)
        if len(head) < 3 or not head[1].startswith("/*"):
            yield 2, "does not open with a comment that says what it is for"


def main():
    args = sys.argv[1:]
    shell = args and args[0] == "--shell"
    top = args[-1]
    found = 0
    for name in tracked(top):
        with open(os.path.join(top, name), "rb") as f:
            data = f.read()
        if shell:
            if is_shell(name, data):
                print(name)
            continue
        for number, what in faults(name, data):
            print(f"{name}:{number}: {what}")
            found += 1
    return 1 if found else 0


sys.exit(main())
