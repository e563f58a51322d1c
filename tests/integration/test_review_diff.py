# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox diff: what a box changed, as a list, as JSON, as counts and as a patch."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import HOME, SANITIZED, USBOX, assert_refused

OVERLAYS = ("fuse", "kernel")

CHANGES = r"""
set -e
echo four >>src/a.c
rm -r old
ln -sfn other link
chmod 755 tool
printf '\0bin2' >bin
printf 'new\n' >'new
line'
printf 'esc\n' >"$(printf 'esc\033[31m')"
echo x >>'ä b'
mkdir d
printf 'no newline' >d/1
rm kind
mkdir kind
touch kind/in
rm becomes
ln -s src/a.c becomes
mkdir .vscode
echo '{}' >.vscode/tasks.json
setfattr -n user.note -v hello noted
"""


@pytest.fixture(params=OVERLAYS)
def tree(box, request):
    """A box that changed a tree in every way."""
    box.options = ["--network=none", f"--overlay={request.param}"]
    box.write("src/a.c", "one\ntwo\nthree\n")
    for name in ("old/deep/x", "old/k", "tool", "ä b", "kind", "becomes", "noted", "untouched"):
        box.write(name, f"{name}\n")
    box.write("bin", b"\0bin")
    (box.dir / "link").symlink_to("src/a.c")
    box.write(".git/config", "[core]\n")
    box.script = CHANGES
    return box


def changed(box, script=None):
    result = box.run("--", "sh", "-c", script or box.script).ok()
    assert "nothing of it is on the host" in result.err, result
    return box


def diff(box, *argv, **kw):
    return box.usbox("diff", "last", *argv, **kw)


def by_path(box, *argv):
    top = str(box.dir) + "/"
    return {line["path"].removeprefix(top): line for line in map(json.loads, diff(box, "--json", *argv).lines())}


@pytest.mark.slice
def test_list(tree):
    changed(tree)
    top = tree.dir
    assert diff(tree).lines() == [
        "Project hooks, which other programs run or obey without being asked:",
        f"A  {top}/.vscode/",
        f"A  {top}/.vscode/tasks.json",
        "Other changes:",
        f"T  {top}/becomes  (symlink, was file, symlink to src/a.c)",
        f"M  {top}/bin",
        f"A  {top}/d/",
        f"A  {top}/d/1",
        f'A  "{top}/esc\\033[31m"',
        f"T  {top}/kind/  (dir, was file)",
        f"A  {top}/kind/in",
        f"M  {top}/link  (symlink to other)",
        f'A  "{top}/new\\nline"',
        f"M  {top}/noted  (xattr)",
        f"D  {top}/old/",
        f"M  {top}/src/a.c",
        f"M  {top}/tool  (mode 0755, was 0644)",
        f"M  {top}/ä b"]
    assert diff(tree, "src", "d").lines() == [f"A  {top}/d/", f"A  {top}/d/1", f"M  {top}/src/a.c"]
    assert diff(tree, "sr").lines() == [] and diff(tree, "--", top / "tool").lines() == [f"M  {top}/tool  (mode 0755, was 0644)"]


def test_json(tree):
    lines = by_path(changed(tree))
    assert list(lines)[:2] == [".vscode", ".vscode/tasks.json"] and all(lines[n]["hook"] for n in list(lines)[:2])
    assert {n: line["change"] for n, line in lines.items()} == {
        ".vscode": "A", ".vscode/tasks.json": "A", "becomes": "T", "bin": "M", "d": "A", "d/1": "A", "esc\x1b[31m": "A", "kind": "T", "kind/in": "A",
        "link": "M", "new\nline": "A", "noted": "M", "old": "D", "src/a.c": "M", "tool": "M", "ä b": "M"}
    assert lines["tool"]["what"] == ["mode"] and lines["noted"]["what"] == ["xattr"] and lines["src/a.c"]["what"] == ["content", "time"]
    assert lines["tool"]["mode"] == "0755" and lines["tool"]["lower"]["mode"] == "0644"
    assert lines["old"]["lower"]["type"] == "dir" and "type" not in lines["old"]


def files_of(top):
    """path → mode as git knows it and content, of files and symlinks outside of .git."""
    found = {}
    for root, dirs, files in os.walk(top):
        dirs[:] = [d for d in dirs if d != ".git"]
        for name in files + [d for d in dirs if os.path.islink(os.path.join(root, d))]:
            path = os.path.join(root, name)
            if os.path.islink(path):
                found[os.path.relpath(path, top)] = ("link", os.readlink(path))
            else:
                with open(path, "rb") as f:
                    found[os.path.relpath(path, top)] = (os.stat(path).st_mode & 0o100, f.read())
    return found


def apply(box, patch):
    copy = box.top / "copy"
    shutil.copytree(box.dir, copy, symlinks=True)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=patch, cwd=copy, check=True, timeout=60)
    found = files_of(copy)
    shutil.rmtree(copy)
    return found


@pytest.mark.slice
def test_patch_applies(tree):
    """git apply on the host's tree makes of it what the box has, but for what the patch says to be without."""
    changed(tree, tree.script + "tar -cf seen.tar --exclude=seen.tar . && echo y >>.git/config")
    result = diff(tree, "--patch", ".").ok()
    assert "2 changes cannot be said" not in result.err and re.search("changes? cannot be said in a patch", result.err), result
    patch = result.stdout
    assert b"# +y\n" in patch and b"# b/bin: binary, 4 to 5 bytes\n" in patch
    upper = next(tree.boxes.glob("*/upper")) / str(tree.dir).lstrip("/")
    box_tree = tree.top / "box"
    box_tree.mkdir()
    subprocess.run(["tar", "-xf", upper / "seen.tar", "-C", box_tree], check=True, timeout=60)
    want = files_of(box_tree)
    want["bin"] = (0, b"\0bin")
    assert apply(tree, patch) == want
    # Without a path names are those of "/".
    assert f"+++ b{tree.dir}/d/1\n" in diff(tree, "--patch").out


RENAMES = {
    "in another's place": "mv a t; mv b a; rm a/2; echo more >>a/3; echo new >a/1",
    "two changed places": "mv a t; mv b a; mv t b; rm a/1; echo new >b/5",
    "in a file's place": "rm f; mv a f; rm f/1; mkdir f/2d; mv b f/2d/b",
    "a part in another": "mv a t; mv b a; mv t/s a/s; rm a/s/1; mv c a/s/2d",
    "and back": "mv a t; echo more >>t/1; rm t/2; mv t a",
}


@pytest.mark.parametrize("overlay", ["fuse", "kernel"])
@pytest.mark.parametrize("script", RENAMES.values(), ids=RENAMES)
def test_patch_of_renamed_directories(box, script, overlay):
    """What a directory stands in the place of goes."""
    box.write("f", "f\n")
    for directory in ("a", "b", "c", "a/s"):
        for name in "123":
            box.write(f"{directory}/{name}", f"{directory}/{name}\n")
    box.run("--network=none", f"--overlay={overlay}", "--", "sh", "-c", f"set -e; {script}; tar -cf seen.tar --exclude=seen.tar .").ok()
    seen, = box.boxes.glob("*/upper" + str(box.dir / "seen.tar"))
    box_tree = box.top / "box"
    box_tree.mkdir()
    subprocess.run(["tar", "-xf", seen, "-C", box_tree], check=True, timeout=60)
    assert apply(box, diff(box, "--patch", ".").ok().stdout) == files_of(box_tree)


def test_patch_of_many_edits(box):
    """Long files, edits at both ends, files without a newline at the end, empty ones."""
    box.options = ["--network=none"]
    lines = [f"line {i}" for i in range(3000)]
    box.write("long", "\n".join(lines) + "\n")
    box.write("bare", "a\nb")
    box.write("empty")
    box.write("emptied", "x\n")
    box.write("crlf", "a\r\nb\r\n")
    script = ("import re; t = open('long').read().split('\\n'); t[0] = 'first'; del t[1500:1510]; t[2500:2500] = ['--- x', '+++ y', '@@ z']; "
              "open('long', 'w').write('\\n'.join(t)); open('bare', 'a').write('c'); open('empty', 'w').write('now'); open('emptied', 'w'); "
              "open('crlf', 'ab').write(b'c\\r\\n'); open('-- strange name', 'w').write('x')")
    box.run("--", "/usr/bin/python3", "-c", script).ok()
    found = apply(box, diff(box, "-p", box.dir).ok().stdout)
    upper = next(box.boxes.glob("*/upper")) / str(box.dir).lstrip("/")
    assert {n: v for n, v in found.items() if n != "untouched"} == files_of(upper)
    stat = diff(box, "--stat").lines()
    assert f" {box.dir}/long            | 15 ++++-----------" in stat and f" {box.dir}/emptied         | 1 -" in stat, stat
    assert stat[-1] == " 6 files changed, 8 insertions(+), 13 deletions(-)"


def test_a_patch_is_not_kept_in_memory(box):
    """Each file's is written out as it is made, hooks' before all others'; a box says with little that it has much: by hard links."""
    (box.dir / "old" / ".vscode").mkdir(parents=True)
    (box.dir / "old" / ".vscode" / "settings.json").write_text("{}\n")
    box.run("--", "sh", "-c", "rm -r old; head -c 4000000 /dev/zero | tr '\\0' x | fold -w 99 >1; for i in $(seq 2 40); do ln 1 $i; done").ok()
    argv = [*([] if SANITIZED else ["prlimit", f"--as={96 << 20}", "--"]), USBOX, "diff", "last", "--patch"]
    with open(box.dir / "patch", "w", encoding="utf-8") as out:
        proc = subprocess.run(argv, env=box.env, cwd=box.dir, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (proc.returncode, proc.stderr) == (0, "")
    files = subprocess.run(["grep", "-a", "^diff --git", "patch"], cwd=box.dir, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(files) == 41 and files[0].endswith("/old/.vscode/settings.json"), files
    (box.dir / "patch").unlink()


def test_hidden_names_are_not_told(box):
    """What the host has by a hidden name is neither compared nor shown."""
    box.options = ["--network=none"]
    box.write(".env", "SECRET=host\n")
    box.run("--hide", "**/.env", "--", "sh", "-c", "echo SECRET=box >.env").ok()
    assert diff(box).lines() == [f"A  {box.dir}/.env  (the host has this name, hidden from the box)"]
    assert by_path(box)[".env"] == {"path": f"{box.dir}/.env", "change": "A", "type": "file", "mode": "0644", "size": 11, "hidden": True}
    for form in ("--patch", "--stat"):
        result = diff(box, form).ok()
        assert "SECRET" not in result.out and "host" not in result.out


def test_the_boxs_own_files(box):
    box.options = ["--network=none", "--user=root"]
    box.run("--", "sh", "-c", "echo 1.2.3.4 there >>/etc/hosts; true").ok()
    lines = [line for line in map(json.loads, diff(box, "--json").lines()) if line["path"] == "/etc/hosts"]
    assert lines and lines[0]["change"] == "A" and ("hidden" in lines[0]) == os.path.exists("/etc/hosts")


def test_colour(box):
    box.options = ["--network=none"]
    box.run("--", "sh", "-c", "echo 1 >a").ok()

    def shown(*argv, **env):
        with box.pty("diff", "last", *argv, env=env) as terminal:
            assert terminal.wait() == 0
            return terminal.seen.decode()
    assert "\x1b[32mA\x1b[0m  " in shown() and "\x1b[" not in shown(NO_COLOR="1")
    assert "\x1b[32m+1\x1b[0m" in shown("--patch") and "\x1b[" not in shown("--patch", NO_COLOR="1")
    assert "\x1b" not in diff(box).out


def test_a_files_escapes_are_shown_and_not_obeyed(box):
    """On a terminal, in colour or not; what goes elsewhere is what git apply takes."""
    box.options = ["--network=none"]
    box.run("--", "sh", "-c", r"printf 'a\033[2J\303\233c\302\2332J\342\200\256d\r\n' >a").ok()
    for env in {}, {"NO_COLOR": "1"}, {"TERM": "dumb"}:
        with box.pty("diff", "--patch", "last", env=env) as terminal:
            assert terminal.wait() == 0
            seen = terminal.seen.decode()
        assert "+a^[[2JÛc\\x{9b}2J\\x{202e}d^M" in seen and not re.search("\x1b\\[2J|[\x80-\x9f\u202e]", seen), seen
    assert b"\n+a\x1b[2J\xc3\x9bc\xc2\x9b2J" in diff(box, "--patch").stdout


def test_nothing_stands_behind_a_nul(box):
    """In a patch, which once ended there without a word, as git looks for it in the first 8000 bytes alone; in the file it does not end."""
    box.options = ["--network=none"]
    box.write("old.sh", "true\n" * 3000)
    script = "for name in ('old.sh', 'new.sh'):\n    open(name, 'w').write('true\\n' * 3000 + '\\0\\nfalse\\n')"
    box.run("--", "/usr/bin/python3", "-c", script).ok()
    result = diff(box, "--patch").ok()
    assert result.out.count(": binary, ") == 2 and "2 changes cannot be said in a patch" in result.err, result


HOSTILE = """
mkdir -p {upper}{dir}/sub; cd {upper}{dir}
ln -s /etc way; mkfifo fifo; ln -s /etc/passwd file; mkdir closed; echo x >closed/x; chmod 0 closed/x
rm -rf sub; ln -s /etc sub; touch .wh.keep; mkdir '...'; echo dots >.../x
setfattr -n user.overlay.redirect -v /../../etc closed
"""


def test_hostile_upper(box):
    """Nothing in an upper leads out of it, makes diff wait or is taken for what it is not."""
    box.options = ["--network=none"]
    box.write("sub/inner", "inner\n")
    box.write("keep", "kept\n")
    box.run("--", "sh", "-c", "echo 1 >a; echo 2 >sub/b").ok()
    upper = next(box.boxes.glob("*/upper"))
    subprocess.run(["sh", "-ec", HOSTILE.format(upper=upper, dir=box.dir)], check=True, timeout=60)
    for form in ("--json", "--stat", "--patch"):
        result = diff(box, form, timeout=20)
        assert "root:" not in result.out and "daemon" not in result.out, result
        assert result.rc == 1 and "closed" in result.err, result  # a redirect of no good form
    lines = {os.path.basename(path): line for path, line in
             ((line["path"], line) for line in map(json.loads, diff(box, "--json").out.splitlines()))}
    assert lines["sub"]["change"] == "T" and lines["way"]["type"] == "symlink" and lines["fifo"]["type"] == "fifo"
    assert lines["x"]["type"] == "file"


def test_bad_input(box):
    assert_refused(box.usbox("diff"), "missing")
    assert_refused(box.usbox("diff", "last", "--json", "--stat"), "one of")
    assert_refused(box.usbox("diff", "last", "--color"), "--color")
    assert_refused(box.usbox("diff", "last"), "last")
    assert_refused(box.usbox("diff", "no\x1b[31msuch"), "\\x1b")
    box.run("--network=none", "--", "sh", "-c", "echo 1 >a").ok()
    assert "no change of the box is at or below what is named" in box.usbox("diff", "last", "mistyped").ok().err and not box.usbox("diff", "last", "a").ok().err
    seen = next(box.boxes.glob("*/seen"))
    data = seen.read_bytes()
    for bad in (b"", data[:40], b"\xff" * len(data)):
        seen.write_bytes(bad)
        assert_refused(box.usbox("diff", "last"), "saw of the host")
    seen.unlink()
    assert_refused(box.usbox("diff", "last"), "saw of the host")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_explore(box, overlay):
    """A shell on the view that the box had, which goes on with what it changed; of an unnamed box, too, which stays unnamed."""
    box.write("sub/f", "f\n")
    box.write("sub/secret", "s\n")
    run = ["--network=none", f"--overlay={overlay}", "--hide", f"{box.dir}/sub/secret", "-e", "WORD=kept"]
    box.run(*run, "--", "sh", "-c", "echo 1 >a; rm f", cwd=box.dir / "sub").ok()
    result = box.usbox("explore", "last", input=b"pwd; ls ..; echo $WORD; cat a; echo 2 >b; ls\n").ok()
    assert result.out.split() == [f"{box.dir}/sub", "sub", "kept", "1", "a", "b"], result
    assert [(line["path"].rpartition("/")[2], line["change"]) for line in map(json.loads, diff(box, "--json").lines())] == [("a", "A"), ("b", "A"), ("f", "D")]
    box.run("--network=none", "--", "true").ok()
    assert_refused(box.usbox("explore", "last"), "last")
    box.run(*run, "--name", "named", "--", "sh", "-c", "echo 1 >a").ok()
    explored = box.usbox("explore", "named", input=b"cat a; echo 2 >>a\n").ok()
    assert explored.out == "1\n" and "usbox diff named shows it" in explored.err, explored
    assert box.run(*run, "--name", "named", "--", "cat", "a").ok().out == "1\n2\n"
    box.usbox("rm", "named").ok()


def test_the_shell_of_a_look_has_no_history(box):
    """It would be a change: of a name that is hidden from boxes, by which each commit of all was a conflict."""
    look = b"echo [${HISTFILE-none}]; HISTFILE=${HISTFILE-$HOME/.bash_history} bash --norc -i 2>/dev/null <<'END'\necho in it\nEND\n"
    home_file = str(HOME / ".bash_history")
    for options, has in (([], ""), (["--env-inherit"], ""), (["-e", "HISTFILE=/tmp/h"], "/tmp/h")):
        box.run("--network=none", *options, "--", "sh", "-c", "echo 1 >a", env={"HISTFILE": home_file}).ok()
        assert box.usbox("explore", "last", input=look, env={"HISTFILE": home_file}).ok().lines()[0] == f"[{has}]"
        assert [line["path"] for line in map(json.loads, diff(box, "--json").lines())] == [f"{box.dir}/a"]


def test_explore_where_the_working_directory_is_another(box):
    """By a symlink that the box has put there: a working directory is shown as it is."""
    box.write("proj/sub/f")
    box.write("keys/id", "secret\n")
    script = f"mkdir -p {box.dir}/new; mv {box.dir}/proj/sub {box.dir}/proj/s2; ln -s {box.dir}/keys {box.dir}/proj/sub"
    box.run("--network=none", "--rw", box.dir / "proj", "--", "sh", "-c", script, cwd=box.dir / "proj/sub").ok()
    assert_refused(box.usbox("explore", "last", input=b"cat id\n"), f"the box's working directory {box.dir}/proj/sub is {box.dir}/keys now, by a symlink")
    (box.dir / "proj/sub").unlink()
    assert_refused(box.usbox("explore", "last", input=b"ls\n"), f"the box's working directory {box.dir}/proj/sub: No such file", "usbox diff")
    (box.dir / "proj/s2").rename(box.dir / "proj/sub")
    assert box.usbox("explore", "last", input=b"ls\n").ok().out == "f\n"


def test_a_look_leaves_what_is_known_of_the_run(box):
    box.usbox("run", "-d", "--name", "job", "--network=none", "--", "sh", "-c", "echo out; echo 1 >a; exit 3").ok()
    assert box.usbox("wait", "job").lines() == ["3"]
    before = box.usbox("inspect", "job").json()[0]
    box.usbox("explore", "job", input=b"echo 2 >b\n").ok()
    after = box.usbox("inspect", "job").json()[0]
    assert before.pop("changed") == 1 and after.pop("changed") == 2
    for size in "bytes", "disk":
        assert before.pop(size) < after.pop(size)
    assert after == before and after["status"] == 3
    assert box.usbox("logs", "job").ok().out == "out\n"
    box.usbox("rm", "job").ok()


def test_a_look_is_not_written_down(box):
    """What the run wrote on the host of what it did stays what it is; a capture would begin anew."""
    records = {option: box.top / option for option in ("pcap", "net-log", "trace-files")}
    box.run(*[f"--{option}={path}" for option, path in records.items()], "--", "sh", "-c", "echo 1 >a").ok()
    before = {path: path.read_bytes() for path in records.values()}
    assert before[records["pcap"]] and before[records["trace-files"]]
    assert box.usbox("explore", "last", input=b"cat a; getent hosts example.invalid\n").out == "1\n"
    assert {path: path.read_bytes() for path in records.values()} == before
