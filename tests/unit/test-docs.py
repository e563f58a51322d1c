#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""README.md, ARCHITECTURE.md, SECURITY.md and docs/ say what the code has: messages, dependencies, options, files, functions.

test-docs.py USBOX SOURCE_DIR
"""
import json
import os
import re
import subprocess
import sys
import unittest

USBOX, TOP = sys.argv[1:3]
DOCS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "docs/security.md")
CODE_DIRS = ("src", "src/base", "src/stub", "netstack", "seccomp", "fsoverlay", "scope")
# Where a path of the tree may begin; a path of another form is the machine's.
TREE = ("src/", "netstack/", "seccomp/", "fsoverlay/", "scope/", "tests/", "man/", "data/", "completions/", ".ci/")


def read(name):
    with open(os.path.join(TOP, name), encoding="utf-8") as file:
        return file.read()


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def blocks(text):
    """The code blocks: indented by four (not within a list), or between lines of ```."""
    found, fenced, before = [], False, ""
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and (not before or before.startswith("    "))):
            found.append(line.strip())
        before = line
    return found


def spans(text):
    """What stands between backquotes in running text."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", "\n".join(line for line in text.split("\n") if not line.startswith("    ")))


def table(text, first):
    """The rows of the table whose first heading is that one, each a list of cells."""
    lines = text.split("\n")
    at = next(i for i, line in enumerate(lines) if re.match(r"\|\s*%s\s*\|" % re.escape(first), line))
    rows = []
    for line in lines[at + 2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def code_files():
    for folder in filter(lambda f: os.path.isdir(os.path.join(TOP, f)), CODE_DIRS):
        for name in sorted(os.listdir(os.path.join(TOP, folder))):
            if name.endswith((".c", ".h", ".json")):
                yield folder + "/" + name


def options():
    """Every spelling of an option of `run`, and of the other verbs."""
    names = set()
    table = json.loads(run(USBOX, "help", "--json"))
    for option in table["options"] + [option for verb in table["verbs"] for option in verb["options"]]:
        names.add("--" + option["name"])
        if "short" in option:
            names.add("-" + option["short"])
        if "alias" in option:
            names.add("--" + option["alias"])
    return names


TEXT = {name: read(name) for name in DOCS}
FILES = {name: read(name) for name in code_files()}


class Docs(unittest.TestCase):
    maxDiff = None

    def test_messages(self):
        source = FILES["src/base/wire.c"]
        rows = re.findall(r'\[WIRE_\w+\] = \{ "(\w+)", "([^"]*)", (\d+), "([^"]*)", "([^"]*)"(?:, (\d+))? \}', source)
        types = re.findall(r"^\s+WIRE_(\w+)(?: = 1)?,", FILES["src/base/wire.h"], re.M)
        self.assertGreater(len(types), 10)
        self.assertEqual({row[0] for row in rows}, set(types))
        written = [tuple(cell.strip("`") for cell in row[:5]) for row in table(TEXT["ARCHITECTURE.md"], "message")]
        rows = [(name, body, f"{fds} to {int(fds) + int(more)}" if more else fds, sender, receiver) for name, body, fds, sender, receiver, more in rows]
        self.assertEqual(sorted(written), sorted(rows))

    def test_dependencies(self):
        wanted = set()
        for folder, folders, names in os.walk(TOP):
            folders[:] = [f for f in folders if not f.startswith((".", "build"))]
            if "meson.build" in names:
                with open(os.path.join(folder, "meson.build"), encoding="utf-8") as file:
                    wanted |= set(re.findall(r"\b(?:dependency|find_program|find_library)\('([^']+)'", file.read()))
        self.assertTrue({"glib-2.0", "slirp", "scdoc"} <= wanted)
        column = "\n".join(row[0] for row in table(TEXT["README.md"], "what (Debian)"))
        for name in sorted(wanted):
            self.assertIn("`" + name + "`", column)
        # And what the scripts install, by Debian's names.
        for line in read("tests/lib/packages.txt").split("\n"):
            if line and not line.startswith("#"):
                self.assertRegex(column, r"(?<![\w.-])%s(?![\w-])" % re.escape(line.split()[1]))

    def options_of_runs(self, text):
        """The options of every `usbox run` in the code blocks: what stands before the command."""
        lines = blocks(text)
        for line, answer in zip(lines, lines[1:] + [""]):
            if answer.startswith("usbox: options: unknown option"): # that is what it shows
                continue
            for call in re.findall(r"\busbox run (.*)", line):
                for word in call.split():
                    if word == "--":
                        break
                    if word.startswith("-"):
                        yield word

    def test_options(self):
        known = options()
        scripts = {name: run(os.path.join(TOP, name), "--help") for name in ("bootstrap", "check")}
        n = 0
        for name, text in TEXT.items():
            words = list(self.options_of_runs(text))
            for span in spans(text):
                script = re.match(r"\./(bootstrap|check) (--[a-z-]+)", span)
                if script:
                    self.assertIn(script.group(2), scripts[script.group(1)], f"{name}: `{span}`")
                elif span.startswith("usbox run "):
                    words += [w for w in span.split(" -- ")[0].split() if w.startswith("-")]
                elif re.match(r"-[a-z-]", span):
                    words.append(span.split()[0])
            for word in words:
                option = word.split("=")[0]
                if option in ("--prefix", "--list"): # the scripts'
                    continue
                self.assertIn(option, known, f"{name}: {word}")
                n += 1
        self.assertGreater(n, 40)

    def test_a_wrong_option_would_be_seen(self):
        text = "    $ usbox run --rm --no-such -- ls --color\n"
        self.assertEqual(list(self.options_of_runs(text)), ["--rm", "--no-such"])

    def test_verbs(self):
        verbs = {verb["name"] for verb in json.loads(run(USBOX, "help", "--json"))["verbs"]}
        for name, text in TEXT.items():
            called = {m for code in spans(text) + blocks(text) for m in re.findall(r"^(?:\$ )?usbox ([a-z]\w*)\b", code)}
            self.assertTrue(called <= verbs, f"{name}: {called - verbs}")

    def test_profiles(self):
        profiles = set(run(USBOX, "profile", "list", "--quiet").split())
        for text in TEXT.values():
            for name in re.findall(r"--profile ([a-z]+)", text):
                self.assertIn(name, profiles)

    def test_files_exist(self):
        base = {os.path.basename(name) for name in FILES}
        n = 0
        for name, text in TEXT.items():
            for span in spans(text):
                if span.startswith(TREE) or span in ("bootstrap", "check") or re.fullmatch(r"[A-Z]+\.md|\./[a-z]+", span):
                    self.assertTrue(os.path.exists(os.path.join(TOP, span)), f"{name}: `{span}`")
                    n += 1
                elif name == "ARCHITECTURE.md" and re.fullmatch(r"[a-z][a-z-]*\.(c|h|json)", span):
                    self.assertIn(span, base, f"{name}: `{span}`")
                    n += 1
        self.assertGreater(n, 80)

    def test_links(self):
        for name, text in TEXT.items():
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                path, _, anchor = target.partition("#")
                path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else ""
                self.assertTrue(os.path.exists(os.path.join(TOP, path or name)), f"{name}: {target}")
                if anchor:
                    heads = re.findall(r"^#+ (.*)$", read(path or name), re.M)
                    self.assertIn(anchor, [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads], f"{name}: {target}")

    def test_every_source_has_a_line(self):
        rows = " ".join(row[0] for row in table(TEXT["ARCHITECTURE.md"], "file"))
        named = set(re.findall(r"`([^`]+)`", rows))
        for path in FILES:
            if path.endswith(".c"):
                self.assertTrue({path, os.path.basename(path)} & named, f"{path} has no line in the table of files in ARCHITECTURE.md")

    def test_functions_exist(self):
        every = "\n".join(FILES.values())
        names = {m for span in spans(TEXT["ARCHITECTURE.md"]) for m in re.findall(r"^(\w+)\(\)$", span)}
        self.assertGreater(len(names), 30)
        for name in sorted(names):
            self.assertRegex(every, r"\b%s\(" % name)

    def test_lists_exist(self):
        for name in ("home_tools", "home_tool_secrets", "home_hidden", "proc_masked", "sys_masked"):
            self.assertIn("`" + name + "`", TEXT["ARCHITECTURE.md"])
            self.assertRegex("\n".join(FILES.values()), r"\b%s\[\] = \{" % name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
