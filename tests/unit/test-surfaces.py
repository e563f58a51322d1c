#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that is made from the option table says the same: rows in the source, --help, completions, man page, profile keys.

test-surfaces.py USBOX SOURCE_DIR BASH ZSH FISH MAN
What is expected comes from the rows as they stand in the source, read here without the program's help.
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

USBOX, SOURCE, BASH, ZSH, FISH, MAN = map(os.path.abspath, sys.argv[1:7])


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*argv, **more):
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **more)


def rows():
    """name → {short, alias, two, profile} from the initializers of all tables in src/."""
    found = {}
    for name in sorted(os.listdir(SOURCE + "/src")):
        if not name.endswith(".c"):
            continue
        for table in re.findall(r"^const Option \w+_options\[\] = \{\n(.*?)^\};", read(SOURCE + "/src/" + name), re.S | re.M):
            for row in re.split(r"^        (?=\{ \.name|ROW_MOUNT)", table, flags=re.M)[1:]:
                option = re.search(r'(?:\.name = |ROW_MOUNT\()"([^"]+)"', row).group(1)
                short, alias = re.search(r"\.short_name = '(.)'", row), re.search(r'\.alias = "([^"]+)"', row)
                found[option] = {
                    "short": short and short.group(1),
                    "alias": alias and alias.group(1),
                    "two": "OPTION_TWO" in row,
                    "profile": "OPTION_NO_PROFILE" not in row and "OPTION_TWO" not in row,
                }
    return found


ROWS = rows()
LONG = {"--" + name for name in ROWS}
SHORT = {"-" + row["short"] for row in ROWS.values() if row["short"]}
ALIAS = {"--" + row["alias"] for row in ROWS.values() if row["alias"]}
TABLE = json.loads(run(USBOX, "help", "--json").stdout)
VERBS = [verb["name"] for verb in TABLE["verbs"]]
CHOICES = {o["name"]: o["choices"].split("|") for o in TABLE["options"] if o["complete"] == "choices"}


# Between the answers to several questions to one shell.
MARK = "--- next"

# zsh's own functions, as far as ours call them; what they offer is printed.
ZSH_SCRIPT = r"""
path=($1 $path); file=$2; shift 2
words=("$@"); CURRENT=$#; PREFIX=$words[CURRENT]
compadd() {
        local -a offered
        if [[ $1 == -a ]]; then offered=(${(P)2}); else [[ $1 == -- ]] && shift; offered=("$@"); fi
        print -rl -- ${(M)offered:#$PREFIX*}
}
_call_program() { shift; eval "$@" }
_files() { print FILES }
_normal() { print COMMAND }
source $file
"""


@contextlib.contextmanager
def own_boxes(**boxes):
    """A user's directories in which there are boxes of these names that have ended, with these facts, and an empty working directory."""
    with tempfile.TemporaryDirectory() as folder:
        for n, (name, facts) in enumerate(boxes.items()):
            where = "%s/usbox/boxes/%s" % (folder, str(n) * 12)
            os.makedirs(where + "/upper", mode=0o700)
            for mark, text in (("held", ""), ("name", name), ("state.json", json.dumps(facts))):
                with open(where + "/" + mark, "w", encoding="utf-8") as file:
                    file.write(text)
        os.chmod(folder + "/usbox/boxes", 0o700)
        os.mkdir(folder + "/run", 0o700)
        os.mkdir(folder + "/here")
        kept, cwd = dict(os.environ), os.getcwd()
        os.environ.update(XDG_DATA_HOME=folder, XDG_RUNTIME_DIR=folder + "/run")
        os.chdir(folder + "/here")
        try:
            yield
        finally:
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(kept)


class Surfaces(unittest.TestCase):
    maxDiff = None

    def test_rows_were_found(self):
        self.assertGreater(len(ROWS), 50)
        self.assertTrue({"network", "bind", "seccomp", "env", "time-offset"} <= set(ROWS))

    def test_table(self):
        self.assertEqual({o["name"] for o in TABLE["options"]}, set(ROWS))
        for option in TABLE["options"]:
            row = ROWS[option["name"]]
            self.assertEqual({"short": option.get("short"), "alias": option.get("alias"), "two": option["two"],
                              "profile": option["profile"]}, row, option["name"])

    def test_help(self):
        for argv in (["help", "run"], ["run", "--help"], ["run", "--rm", "-h", "--nonsense"]):
            text = run(USBOX, *argv).stdout
            heads = re.findall(r"^  (?:(-.), |    )(--[a-z0-9-]+)", text, re.M)
            self.assertEqual({long for _, long in heads}, LONG)
            self.assertEqual({short for short, _ in heads if short}, SHORT)
            self.assertLessEqual(max(map(len, text.splitlines())), 100)
        overview = run(USBOX, "help").stdout
        for verb in VERBS:
            self.assertRegex(overview, r"(?m)^  %s +\w" % verb)
            self.assertIn("usage: usbox " + verb, run(USBOX, "help", verb).stdout)

    def test_man(self):
        options = read(MAN).split(".SH OPTIONS", 1)[1].split("\n.SH ", 1)[0].replace("\\-", "-")
        # The line that names an option, not those that mention one.
        heads = "\n".join(line for line in options.splitlines() if line.startswith("\\fB-"))
        names = set(re.findall(r"\\fB(-[^\\]+)\\fR", heads))
        self.assertEqual(names, LONG | SHORT | ALIAS)

    def test_profile_keys(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/keys.conf"
            for name, row in ROWS.items():
                with open(path, "w", encoding="utf-8") as file:
                    file.write("[usbox]\n%s=\n" % name)
                os.chmod(path, 0o600)
                error = run(USBOX, "run", "--profile", path, "--dry-run", "true").stderr
                self.assertNotIn("unknown key", error)
                self.assertEqual("is not for profiles" not in error, row["profile"], name + ": " + error)

    def bash(self, *words, **more):
        script = 'PATH=$1:$PATH; source "$2"; shift 2; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _usbox 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
        result = run("bash", "--norc", "-c", script, "bash", os.path.dirname(USBOX), BASH, *words, **more)
        return set(result.stdout.splitlines()) - {""}

    def test_bash(self):
        self.assertEqual(self.bash("usbox", "run", "-"), LONG | SHORT | ALIAS)
        self.assertEqual(self.bash("usbox", ""), set(VERBS))
        self.assertEqual(self.bash("usbox", "run", "--", "-"), set())
        for name, values in CHOICES.items():
            self.assertEqual(self.bash("usbox", "run", "--rm", "--" + name, ""), set(values), name)
            self.assertEqual(self.bash("usbox", "run", "--" + name, "=", values[0][:2]) & set(values),
                             {v for v in values if v.startswith(values[0][:2])}, name)
        profiles = set(run(USBOX, "profile", "list", "--quiet").stdout.split())
        self.assertTrue({"agent", "build", "ci", "desktop"} <= profiles)
        self.assertEqual(self.bash("usbox", "run", "-it", "--profile", ""), profiles)
        # Behind the values of options the command begins, however many they are.
        for name, row in ROWS.items():
            takes = 2 if row["two"] else 1 if "arg" in next(o for o in TABLE["options"] if o["name"] == name) else 0
            self.assertIn("basename", self.bash("usbox", "run", "--" + name, *["x"] * takes, "basenam"), name)

    def test_bash_names_of_files(self):
        """A name is one word, whatever is in it, and nothing of it is run or taken for a pattern."""
        names = {"a b", "z*", "zz", "$(touch run)", "`touch run`", "'"}
        with tempfile.TemporaryDirectory() as top:
            for name in names:
                os.mkdir(os.path.join(top, name))
            for words in (("diff", "last"), ("run", "--env-file"), ("run", "--workdir"), ("run", "--", "cat")):
                self.assertEqual(self.bash("usbox", *words, "", cwd=top), names, words)
            self.assertEqual(self.bash("usbox", "run", "--profile", "./", cwd=top), {"./" + name for name in names})
            self.assertEqual(set(os.listdir(top)), names)

    def test_verbs_of_boxes(self):
        """Their options and the boxes are offered, by every shell's file; of exec what follows the box is a command."""
        own = {v["name"]: {"--" + o["name"] for o in v["options"]} | {"-" + o["short"] for o in v["options"] if "short" in o}
               for v in TABLE["verbs"] if v["options"]}
        self.assertTrue({"ps", "exec", "logs", "stop", "rm"} <= set(own))
        for verb, names in own.items():
            self.assertEqual(self.bash("usbox", verb, "-"), names, verb)
            self.assertIn("__usbox_verb_is %s'" % verb, read(FISH))
            self.assertRegex(read(ZSH), r"(?m)^        %s\)$" % verb)
        self.assertEqual(self.bash("usbox", "pod", "create", "--network", ""), {"user", "none"})
        self.assertEqual(self.bash("usbox", "pod", "create", "--network", "=", "n"), {"none"})
        self.assertEqual(self.bash("usbox", "pod", "create", "--share", ""), {"pid"})
        self.assertIn("agent", self.bash("usbox", "pod", "create", "--profile", "ag"))
        self.assertIn("basename", self.bash("usbox", "exec", "-e", "A=1", "-t", "box", "basenam"))
        self.assertIn("basename", self.bash("usbox", "exec", "box", "--", "basenam"))
        self.assertEqual(self.bash("usbox", "kill", "-s", "SIGTER"), {"SIGTERM"})
        self.assertEqual(self.bash("usbox", "kill", "-s", "TER"), {"TERM"})
        self.assertEqual(self.bash("usbox", "run", "--stop-signal", "TER"), {"TERM"})
        self.assertFalse([name for name in self.bash("usbox", "kill", "-s", "") if "JUNK" in name or name == "EXIT"])

    def fish(self, *lines):
        """For each line what fish offers at its end."""
        if not shutil.which("fish"):
            self.skipTest("fish is not installed (tests/lib/packages.txt)")
        with tempfile.TemporaryDirectory() as home:
            env = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home, PATH=os.path.dirname(USBOX) + ":" + os.environ["PATH"])
            script = 'source $argv[1]; for line in $argv[2..]; complete -C $line; echo "%s"; end' % MARK
            parts = run("fish", "-c", script, FISH, *lines, env=env).stdout.split(MARK + "\n")
        self.assertEqual(len(parts), len(lines) + 1)
        return [{entry.split("\t")[0] for entry in part.splitlines()} for part in parts[:-1]]

    def zsh(self, *words):
        """What the function offers; zsh's own completion system is not asked."""
        if not shutil.which("zsh"):
            self.skipTest("zsh is not installed (tests/lib/packages.txt)")
        result = run("zsh", "-f", "-c", ZSH_SCRIPT, "zsh", os.path.dirname(USBOX), ZSH, *words)
        self.assertEqual(result.stderr, "")
        return set(result.stdout.split())

    def test_boxes_are_offered(self):
        """By every shell, for every verb that has boxes; pods, too, for those that are about either."""
        verbs = [v["name"] for v in TABLE["verbs"] if v["box"]]
        self.assertTrue({"exec", "logs", "diff", "commit", "explore", "drop", "rm", "net", "stats"} <= set(verbs))
        with own_boxes(web={}, db={}, pod={"kind": "pod"}):
            for verb in verbs:
                for shell in (self.bash, self.zsh):
                    offered = shell("usbox", verb, "")
                    self.assertEqual(offered - {"pod", "FILES"}, {"web", "db"}, verb)
                    self.assertEqual("pod" in offered, verb in ("inspect", "net", "pause", "port", "stats", "unpause", "update"), verb)
                    self.assertEqual(shell("usbox", verb, "w") - {"FILES"}, {"web"}, verb)
            for shell in (self.bash, self.zsh):
                self.assertEqual(shell("usbox", "rm", "web", "d"), {"db"})
                for verb in "diff", "commit":
                    self.assertEqual(shell("usbox", verb, "--json", ""), {"web", "db"}, verb)
                    self.assertFalse(shell("usbox", verb, "--json", "web", "") & {"web", "db"}, verb)
                self.assertEqual(shell("usbox", "port", "--json", "d"), {"db"})
                self.assertEqual(shell("usbox", "net", "web", ""), {"allow", "deny", "publish", "unpublish"})
                self.assertEqual(shell("usbox", "net", "web", "allow", ""), set())
                self.assertEqual(shell("usbox", "pod", "rm", ""), {"pod"})
            for verb, offered in zip(verbs, self.fish(*("usbox %s " % verb for verb in verbs))):
                self.assertTrue({"web", "db"} <= offered, verb)
            self.assertEqual(self.fish("usbox rm web d", "usbox pod rm "), [{"db"}, {"pod"}])

    def test_fish(self):
        text = read(FISH)
        lines = [line for line in text.splitlines() if "-n __usbox_in_options " in line]
        names = {"--" + name for line in lines for name in re.findall(r" -l (\S+)", line.split(" -d ")[0])}
        shorts = {"-" + name for line in lines for name in re.findall(r" -s (\S+)", line.split(" -d ")[0])}
        self.assertEqual(names | shorts, LONG | SHORT | ALIAS)
        options, values, argument, command = self.fish("usbox run --", "usbox run --network ", "usbox run --rm ls --al", "usbox run --bind /a /b ls --")
        self.assertEqual(options, LONG | ALIAS)
        self.assertEqual(values, set(CHOICES["network"]))
        self.assertIn("--almost-all", argument)
        self.assertFalse(command & {"--rw-hooks"})

    def test_zsh(self):
        text = read(ZSH)
        specs = re.findall(r"^                '(?:\*|\([^)]*\))(-[^'\[]*)\[", text, re.M)
        self.assertEqual({spec.rstrip("+=-") if spec.startswith("--") else spec.rstrip("+") for spec in specs}, LONG | SHORT | ALIAS)
        if shutil.which("zsh"):
            self.assertEqual(run("zsh", "-n", ZSH).stderr, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
