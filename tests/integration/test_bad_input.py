# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong is said in one line, with what mends it; exit 125; nothing runs, nothing is left behind."""
import functools
import json
import os
import re
import subprocess

import pytest

from conftest import HOME, TOP, USBOX, Result, assert_refused, cannot, has_subids


@pytest.fixture(autouse=True)
def nothing_left(box):
    box.kept = 0
    yield
    assert not box.boxes.is_dir() or os.listdir(box.boxes) == []


@pytest.mark.slice
@pytest.mark.parametrize("typed,nearest", [("--netwrok=none", "--network"), ("--hostnam=x", "--hostname"), ("--overlays=none", "--overlay"),
                                           ("--time-ofset=x", "--time-offset"), ("--readonly", "--read-only")])
def test_unknown_option_names_the_nearest(box, typed, nearest):
    assert_refused(box.run(typed, "--", "true"), typed.split("=")[0], nearest, hint=False)


@pytest.mark.parametrize("argv", [["--xyzzy-plugh"], ["-Z"], ["---"], ["--=x"], ["--rm=maybe"], ["--hostname"], ["--network"]])
def test_unknown_options(box, argv):
    assert_refused(box.run(*argv), hint=False)


def test_unknown_verb(box):
    result = box.usbox("rnu", "--", "true")
    assert_refused(result, "rnu", "run", hint=False)
    assert box.usbox().rc != 0
    for word, hint in (("start", "--name NAME"), ("shell", "usbox exec BOX"), ("images", "--rootfs DIR"), ("ls", "usbox ps -a")):
        assert_refused(box.usbox(word), f"unknown verb '{word}'", hint)


def test_option_before_the_verb(box):
    for word, hint in (("--rm", "usbox run --rm ..."), ("-it", "usbox run -it ..."), ("--network=none", "usbox run --network=none ..."), ("-v", "usbox --version"),
                       ("--xyzzy-plugh", "usbox help lists the verbs"), ("-", "usbox help lists the verbs")):
        assert_refused(box.usbox(word, "run", "true"), f"'{word}' stands where a verb is to be", hint)


def test_unknown_option_of_a_verb(box):
    for argv, hint in ((("ps", "--jsn"), "did you mean --json?"), (("commit", "--dry", "last"), "did you mean --dry-run?"), (("diff", "--jso=x"), "did you mean --json?"),
                       (("kill", "-9", "web"), "usbox kill -s 9 BOX"), (("kill", "-HUP", "web"), "usbox kill -s HUP BOX"), (("kill", "-x", "web"), "usbox help kill"),
                       (("stop", "-9", "web"), "usbox help stop"), (("ps", "--xyzzy-plugh"), "usbox help ps"),
                       (("ps", "--format={{.ID}}"), "--json is for programs"), (("stop", "--filter", "x"), "usbox help stop")):
        assert_refused(box.usbox(*argv), f"{argv[0]}: unknown option '{argv[1]}'", hint)


@pytest.mark.parametrize("argv", [[], ["--"], ["--rm"], ["--rm", "--"]])
def test_missing_command(box, argv):
    assert_refused(box.run(*argv), "command", hint=False)


def test_empty_command(box):
    result = box.run("--rm", "--", "")
    assert result.rc in (125, 127) and result.err.count("usbox: ") == 1, result


def test_directory_as_command(box):
    result = box.run("--rm", "--", "/usr")
    assert result.rc == 126 and "/usr" in result.err and result.err.count("usbox: ") == 1, result


def test_not_executable(box):
    box.write("plain", "x", 0o644)
    result = box.run("--rm", "--", "./plain")
    assert result.rc == 126 and "plain" in result.err and result.err.count("usbox: ") == 1, result


@pytest.mark.slice
def test_workdirs(box):
    (box.dir / "closed").mkdir(0o700)
    (box.dir / "closed" / "in").mkdir()
    (box.dir / "closed").chmod(0)
    try:
        assert_refused(box.run("-w", f"{box.dir}/closed/in", "--", "true"), "closed", hint=False)
    finally:
        (box.dir / "closed").chmod(0o700)
    assert_refused(box.run("-w", "/no/such/dir", "--", "true"), "/no/such/dir", "-v DIR:/no/such/dir")
    assert_refused(box.run("--ro-bind", "/", "/", "--", "true"), "--ro-bind: the box's root itself", "copy-on-write (--read-only")
    assert_refused(box.run("-w", "/etc/passwd", "--", "true"), "/etc/passwd", hint=False)
    assert_refused(box.run("-w", "relative", "--", "true"), "relative", hint=False)


def test_working_directory_that_was_removed(box):
    gone = box.top / "gone"
    gone.mkdir()
    script = 'run() { "$0" run --rm -- true; echo $?; }; cd "$1" && rmdir "$1" && run && mkdir "$1" && run && cd . && run'
    proc = subprocess.run(["sh", "-c", script, USBOX, str(gone)], env=box.env, cwd=box.dir, capture_output=True, timeout=60, check=False)
    assert proc.stdout == b"125\n125\n0\n", proc
    said, hint, _, again = proc.stderr.decode().splitlines()
    assert said == "usbox: caller: the working directory: No such file or directory" and hint == "hint: go to a directory that exists: cd /", proc
    assert again == "hint: it was removed, and made again: cd . goes to the new one", proc


def test_bind_source_missing(box):
    assert_refused(box.run("-v", "/no/such/source:/mnt", "--", "true"), "/no/such/source", "No such file", hint=False)


def test_bind_source_closed(box):
    if os.access("/root", os.X_OK):
        cannot("show a directory that is closed to this user")
    assert_refused(box.run("-v", "/root/x:/mnt", "--", "true"), "/root", hint=False)


def test_target_under_a_hidden_path(box):
    """A volume below a name that does not exist in the box: the user must say which of the two he wants."""
    box.write("secret/x", "x")
    result = box.run(f"--hide={box.dir}/secret", "-v", f"/usr:{box.dir}/secret/deep:ro", "--", "true")
    assert_refused(result, "secret")


def test_workdir_under_a_hidden_path(box):
    box.write("secret/x", "x")
    assert_refused(box.run(f"--hide={box.dir}/secret", "-w", f"{box.dir}/secret", "--", "true"), "secret", hint=False)


def test_uid_outside_the_maps(box, subids):
    assert_refused(box.run("--user=4000000", "--", "true"), "4000000", hint=False)
    assert_refused(box.run("--uidmap=0:5:1", "--gidmap=0:5:1", "--user=0", "--", "true"), hint=False)


@pytest.mark.parametrize("user", ["-1", "4294967295", "4294967296", "99999999999999999999", "", "nobody-such", "1:2:3", ":", "1:", "0x0", " 0", "1 "])
def test_bad_users(box, user):
    result = box.run(f"--user={user}", "--", "id", "-u")
    assert_refused(result, "--user", hint=False)


@pytest.mark.parametrize("value", ["", "0", "0:1", "0:1:0", "0:1:-1", "a:b:c", "0:4294967295:2", "0:1:1:1", "0:1:4294967296"])
def test_bad_maps(box, value):
    assert_refused(box.run(f"--uidmap={value}", "--", "true"), "--uidmap", hint=False)


HINTED = [(["--user=5000000", "--userns=subids"], "--uidmap"), (["--uidmap=0:0:1"], "/etc/subuid"), (["--workdir=/etc/passwd"], "-w DIR"),
          (["--pidfile=/no/such/x"], "a directory"), (["--pcap=/no/such/x"], "a directory"), (["--net-log=/no/such/x"], "a directory"),
          (["--trace-files=/no/such/x"], "a directory"), (["--rootfs=/etc/passwd"], "mmdebstrap"), (["--seccomp=/etc/passwd"], "--seccomp=default"),
          (["--status-fd=99"], "99>FILE"), (["--file", "99", "/tmp/x"], "99<FILE")]


@pytest.mark.parametrize("argv,hint", HINTED)
def test_what_mends_it_is_said(box, argv, hint):
    if argv[0][:6] in ("--user", "--uidm") and not has_subids():
        cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")
    result = box.run("--rm", *argv, "--", "true")
    assert_refused(result, argv[0].split("=")[0].removeprefix("--"))
    assert hint in result.err.split("\nhint: ")[1], result


def test_overlapping_maps(box, subids):
    first = next(int(x.split(":")[1]) for x in open("/etc/subuid", encoding="utf-8") if x.startswith(box.env["USER"] + ":"))
    assert_refused(box.run(f"--uidmap=0:{first}:10", f"--uidmap=5:{first + 100}:10", "--", "true"), "overlap", hint=False)


def in_machine(script, box, *argv):
    """Run usbox in a mount namespace of this test's own, where files of the machine can be shadowed: as the same ids,
    mapped one to one, since it takes a user namespace to get there."""
    uid, gid = os.getuid(), os.getgid()
    inner = f'{script}\nexec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"'
    proc = subprocess.run(["unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--keep-caps", "--mount", "--", "sh", "-ec", inner, "sh",
                           USBOX, *argv], env=box.env, cwd=box.dir, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    return Result(proc.returncode, proc.stdout, proc.stderr)


def test_machine_with_shadowed_files_still_runs(box):
    """The ground under the tests below: nothing shadowed, and a box runs there."""
    assert in_machine(":", box, "run", "--rm", "--network=none", "--userns=self", "--", "echo", "ran").ok().out == "ran\n"


def test_place_for_boxes_on_an_overlay(box):
    """As the root of a container is: the kernel lets no overlay write to another, which the root by FUSE does without, but not project hooks."""
    box.write("tree/.git/hooks/pre-commit", "x")
    for name in ("low", "up", "work"):
        (box.dir / name).mkdir()
    box.boxes.parent.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t overlay none -o userxattr,lowerdir={box.dir}/low,upperdir={box.dir}/up,workdir={box.dir}/work {box.boxes.parent}"
    run = ["run", "--rm", "--network=none", "--userns=self"]
    assert in_machine(mount, box, *run, "--", "sh", "-c", "echo x >file; cat file").ok().out == "x\n"
    for option in (["--rw=tree"], ["--overlay=kernel"]):
        result = in_machine(mount, box, *run, *option, "--", "true")
        # By the kernel's overlay a tree beside the home that can do without an upper may come first, and is a note.
        result.err = "".join(line for line in result.err.splitlines(True) if "it is read-only in the box" not in line)
        assert_refused(result, "upperdir", "export XDG_DATA_HOME")


def test_no_subuid_range(box):
    box.write("empty", "")
    result = in_machine(f"mount --bind {box.dir}/empty /etc/subuid", box, "run", "--user=root", "--", "true")
    assert_refused(result, "/etc/subuid", "--add-subuids", box.env["USER"])


def test_newuidmap_missing(box):
    if not has_subids():
        cannot("miss newuidmap: it is not there")
    real = os.path.realpath("/usr/bin/newuidmap")
    box.write("not-a-program", "", 0o644)
    result = in_machine(f"mount --bind {box.dir}/not-a-program {real}", box, "run", "--user=root", "--", "true")
    assert_refused(result, "newuidmap")
    assert "uidmap" in result.err


def test_newuidmap_gains_no_rights(box, subids):
    """A CI runner that systemd starts with NoNewPrivileges=yes: a box goes without the ranges that nobody can map, and one that needs them says why it cannot be."""
    bound = ["setpriv", "--no-new-privs", USBOX]
    run = functools.partial(subprocess.run, env=box.env, cwd=box.dir, capture_output=True, text=True, timeout=60, check=False)
    for overlay in ("fuse", "kernel"):
        proc = run([*bound, "run", "--rm", f"--overlay={overlay}", "--network=none", "--", "id", "-u"])
        assert (proc.returncode, proc.stdout, proc.stderr) == (0, f"{os.getuid()}\n", ""), proc
    for option in ("--user=root", "--userns=subids"):
        proc = run([*bound, "run", "--rm", "--network=none", option, "--", "true"])
        assert proc.returncode == 125 and "newuidmap" in proc.stderr and "hint: no_new_privs is set" in proc.stderr, proc
    checks = {x["id"]: x for x in json.loads(run([*bound, "doctor", "--json"]).stdout)}
    assert checks["newuidmap"]["state"] == "degraded" and "no_new_privs" in checks["newuidmap"]["found"], checks["newuidmap"]


@pytest.mark.parametrize("group,mend", [(1, "newgrp"), (None, f"useradd --no-create-home --uid {os.getuid()} ")])
def test_newuidmap_serves_not_everybody(box, group, mend):
    """In a shell of newgrp or sg, and for a uid without an account: a box goes without the ranges, and one that needs them says why it cannot be."""
    if not has_subids():
        cannot("be refused by newuidmap: it is not there")
    with open("/etc/passwd", encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line.split(":")[2:3] != [str(os.getuid())]]
    if group:
        lines.append(f"somebody:x:{os.getuid()}:{os.getgid() + group}::/nonexistent:/bin/sh")
    box.write("passwd", "\n".join(lines) + "\n")
    box.write("login.defs", "UMASK 022\n")
    # Of ids that there are in that namespace, which are no others than one's own.
    box.write("subuid", f"{os.getuid()}:{os.getuid()}:1\n")
    box.write("subgid", f"{os.getuid()}:{os.getgid()}:1\n")
    shadow = "; ".join(f"mount --bind {box.dir}/{name} /etc/{name}" for name in ("passwd", "subuid", "subgid"))
    if os.path.exists("/etc/login.defs"):
        shadow += f"; mount --bind {box.dir}/login.defs /etc/login.defs"
    run = ["run", "--rm", "--network=none", "--overlay=fuse"]
    assert in_machine(shadow, box, *run, "--", "id", "-u").ok().out == f"{os.getuid()}\n"
    for option in ("--user=root", "--userns=subids"):
        assert_refused(in_machine(shadow, box, *run, option, "--", "true"), "newuidmap", mend, "--userns=self")
    box.write("subuid", "")
    box.write("subgid", "")
    if not group:
        assert_refused(in_machine(shadow, box, *run, "--user=root", "--", "true"), mend)


def test_newuidmap_without_its_privilege(box):
    if not has_subids():
        cannot("take newuidmap's privilege: it is not there")
    copy = box.write("newuidmap-plain", open("/usr/bin/newuidmap", "rb").read(), 0o755)
    result = in_machine(f"mount --bind {copy} /usr/bin/newuidmap", box, "run", "--user=root", "--", "true")
    assert_refused(result, "newuidmap")


@pytest.mark.slice
def test_user_namespaces_disabled(box):
    """By the limit that a namespace of this test's own sets for its children."""
    result = in_machine("echo 0 >/proc/sys/user/max_user_namespaces", box, "run", "--", "true")
    assert_refused(result, "user namespace", "max_user_namespaces")
    doctor = in_machine("echo 0 >/proc/sys/user/max_user_namespaces", box, "doctor")
    assert doctor.rc == 1 and "max_user_namespaces" in doctor.out, doctor


def test_network_namespaces_disabled(box):
    """It is the payload's process that makes it, while init builds the root: one error all the same."""
    result = in_machine("echo 0 >/proc/sys/user/max_net_namespaces", box, "run", "--", "true")
    assert_refused(result, "network namespace", "max_net_namespaces")


@pytest.mark.slice
def test_tun_missing(box):
    result = in_machine("mount -t tmpfs none /dev/net", box, "run", "--", "true")
    assert_refused(result, "/dev/net/tun")
    assert in_machine("mount -t tmpfs none /dev/net", box, "run", "--rm", "--network=none", "--userns=self", "--", "true").rc == 0


def test_helper_missing(box):
    empty = box.top / "empty-libexec"
    empty.mkdir()
    env = {"USBOX_LIBEXECDIR": str(empty)}
    assert_refused(box.run("--overlay=kernel", "--", "true", env=env), "usbox-net")
    assert_refused(box.run("--network=none", "--", "true", env=env), "usbox-fs")


def with_helper(box, name, body):
    """An environment where that helper is a script."""
    fake = box.top / "fake-libexec"
    fake.mkdir()
    for helper in box.libexec.iterdir():
        (fake / helper.name).symlink_to(helper.resolve())
    (fake / name).unlink()
    box.write(name, f"#!/bin/sh\n{body}\n", 0o755, where=fake)
    return {"USBOX_LIBEXECDIR": str(fake)}


@pytest.mark.parametrize("body", ["exit 3", "kill -9 $$", "sleep 0.2; exit 0", "exec cat"])
def test_helper_that_fails_at_once(box, body):
    result = box.run("--", "true", env=with_helper(box, "usbox-net-stack", body), timeout=45)
    assert_refused(result, "usbox-net", hint=False)


# usbox-net as somebody has it who has taken it over: it says that it is ready, and then that of which it says a little else, for ever.
TAKEN_OVER = """
import socket, struct, sys
wire = socket.socket(fileno=3)
for _ in ("NET_CONFIG", "NET_TAP"):
    wire.recv(1 << 16)
wire.send(struct.pack("=I", int(sys.argv[1])))
denied = struct.pack("=I", int(sys.argv[2])) + b"x\\0y\\0\\2"  # (ss), and where the first ends
try:
    while True:
        wire.send(denied)
except OSError:
    pass
"""


def test_usbox_net_that_was_taken_over(box):
    """What it says was denied is kept until the end: no more than is said."""
    text = (TOP / "src" / "base" / "wire.h").read_text(encoding="utf-8")
    numbers = {name: number for number, name in enumerate(re.findall(r"^ +(WIRE_\w+)[ ,]", text, re.MULTILINE), 1)}
    script = box.write("taken-over.py", TAKEN_OVER, where=box.top)
    env = with_helper(box, "usbox-net-stack", f"exec /usr/bin/python3 {script} {numbers['WIRE_NET_READY']} {numbers['WIRE_NET_DENIED']}")
    result = box.run("--rm", "--", "sleep", "1000", env=env)
    assert result.rc == 125, result
    # Beside what the command says whose root goes while it is being loaded.
    assert [line for line in result.err.splitlines() if line.startswith("usbox: ")] == [
        "usbox: denied by policy: x, x, x, x, x and at least 59 more; to allow: y",
        "usbox: network: usbox-net said NET_DENIED more than 64 times: Protocol error"], result


@pytest.mark.parametrize("body", ["exit 3", "head -c 1 <&3 >/dev/null; exit 3", "sleep 0.01", "sleep 0.2"])
def test_limits_that_fail_at_any_moment(box, body):
    """Whether the launcher hears of it by the helper's end, or first as it tells it of the box's processes, or both at once."""
    env = with_helper(box, "usbox-scope", body)
    assert_refused(box.run("--memory=100M", "--", "true", env=env), "usbox-scope")
    for _ in range(10):
        result = box.run("--rm", "--memory=100M", "--best-effort=limits", "--", "echo", "on", env=env).ok()
        assert result.out == "on\n" and "without limits" in result.err, result
    (box.top / "fake-libexec" / "usbox-scope").unlink()
    assert_refused(box.run("--memory=100M", "--", "true", env=env), "usbox-scope")
    assert box.run("--rm", "--memory=100M", "--best-effort=limits", "--", "echo", "on", env=env).ok().out == "on\n"


def test_state_directory_that_cannot_be_made(box):
    blocked = box.write("blocked", "a file\n")
    assert_refused(box.run("--", "touch", "f", env={"XDG_DATA_HOME": str(blocked)}), "blocked")


def test_state_directory_of_another(box):
    result = box.run("--", "touch", "f", env={"XDG_DATA_HOME": "/proc/1"})
    assert_refused(result, "/proc/1", hint=False)


def test_hostile_names_are_quoted_in_errors(box):
    for name in ("\x1b[31mred", "new\nline", "bell\x07", "\u202eright-to-left"):
        for argv in (["-v", f"/no/{name}:/mnt", "--", "true"], [f"--{name}"], [f"--profile={name}", "--", "true"], ["-w", f"/no/{name}", "--", "true"], ["--", f"/no/{name}"]):
            result = box.run(*argv)
            assert result.rc in (125, 127), (argv, result)
            assert "\x1b" not in result.err and "\x07" not in result.err and "\u202e" not in result.err, (argv, result)
            assert len([x for x in result.err.splitlines() if x.startswith("usbox: ")]) == 1, (argv, result)


@pytest.mark.parametrize("options", [["--network=wire"], ["--overlay=magic"], ["--userns=maybe"], ["--home=some"], ["--seccomp="], ["--groups=few"], ["--ipc=both"],
                                     ["--mtu=1"], ["--mtu=x"], ["--mtu=70000"], ["-p", "x"], ["-p", "1:2:3:4"], ["-p", "70000:1"], ["-p", "0"], ["-p", "80:80/sctp"],
                                     ["--dns=name"], ["--dns="], ["--add-host=x"], ["--add-host=x:y"], ["--add-host=a b:1.2.3.4"], ["--best-effort=luck"],
                                     ["--stop-signal=NONE"], ["--stop-signal=0"], ["--stop-signal=99"], ["--hide="], ["--oom-score-adj=2000"],
                                     ["--network=none", "-p", "8080:80"], ["--network=host", "-p", "8080:80"], ["--sysctl=x"], ["--sysctl="], ["--profile="], ["--rootfs="]])
def test_bad_values(box, options):
    result = box.run(*options, "--", "true")
    assert_refused(result, hint=False)
    assert options[0].split("=")[0].lstrip("-")[0] in result.err, result


def test_too_much_environment_for_the_kernel(box):
    """More than one exec takes (a quarter of the stack's limit): said as what it is."""
    files = [box.write(f"env{k}", "".join(f"V{k}_{i}={'e' * 100000}\n" for i in range(9))) for k in range(12)]
    long = box.write("long", f"V={'e' * (32 * os.sysconf('SC_PAGE_SIZE'))}\n")
    for given in (files, [long]):
        result = box.run("--rm", *[f"--env-file={f}" for f in given], "--", "true")
        assert result.rc == 126 and "usbox: exec: true: Argument list too long\nhint: " in result.err, (result.rc, result.err[:300])
        assert result.err.count("usbox: ") == 1, result.err[:300]


def test_what_a_mount_cannot_be(box):
    """A directory over a file and the other way round, the machine's root, a device by podman's two names."""
    box.write("file")
    for options, words in (["--bind", box.dir, "/etc/passwd"], "/etc/passwd in the box: Not a directory"), (["--ro-bind", box.dir / "file", "/etc"], "/etc in the box: Is a directory"):
        assert_refused(box.run("--rm", "--network=none", *options, "--", "true"), words, hint=False)
    for options in (["--rw", "."], ["--ro", "/"], ["--rw", "/etc/.."], ["--profile=agent"]):
        assert_refused(box.run("--rm", *options, "--", "true", cwd="/"), "this machine's root itself", "hint: go to the directory that is meant")
    assert_refused(box.run("--rm", "--device", "/dev/null:/dev/nil", "--", "true"), "No such file", "--dev-bind SRC DST")


def test_the_whole_home_by_another_name(box):
    """As where homes are symlinks to another file system."""
    for name, target in (("home", HOME), ("above", HOME.parent), ("root", "/")):
        (box.dir / name).symlink_to(target)
        for options in (["--rw", name], ["--rw", f"{name}/."], ["--rw", box.dir / name]):
            assert_refused(box.run("--rm", *options, "--", "true"), "that is your whole home", "hint: go to the project's directory")
    (box.dir / "project").mkdir()
    (box.dir / "link").symlink_to("project")
    box.run("--rm", "--network=none", "--rw", "link", "--", "touch", "link/f").ok()
    assert (box.dir / "project/f").exists()


def test_too_many_of_an_option(box):
    """What a helper is told is one message, which has an end."""
    hide = [f"--hide=/no/{'n' * 200}/{i}" for i in range(4000)]
    assert_refused(box.run("--rm", "--network=none", *hide, "--", "true"), "4000 times --hide are too much")
    hosts = [f"--add-host={'n' * 60}.{'n' * 60}.{i}:192.0.2.1" for i in range(8000)]
    assert_refused(box.run("--rm", "--overlay=none", *hosts, "--", "true"), "8000 times --add-host are too much")


def test_profiles_where_one_may_not_look(box):
    box.write("usbox/profiles/mine.conf", "[usbox]\n", where=box.config)
    (box.config / "usbox").chmod(0)
    try:
        assert_refused(box.run("--profile=agent", "--", "true"), "agent.conf: Permission denied", "hint: a profile of yours", "XDG_CONFIG_HOME")
    finally:
        (box.config / "usbox").chmod(0o700)


@pytest.mark.parametrize("script", ["mount --rbind /proc /mnt", "mount --rbind /sys /mnt", "mount -t tmpfs none /mnt; mkdir /mnt/d; mount --rbind /dev /mnt/d",
                                    "mount -t tmpfs none /mnt; chmod 700 /mnt", "mount --bind /etc/passwd /etc/hostname"])
def test_machine_with_other_mounts(box, script):
    """What chroots, builders and containers leave in a machine's mount table is no reason not to run."""
    assert in_machine(script, box, "run", "--rm", "--network=none", "--userns=self", "--", "echo", "ran").ok().out == "ran\n"


def test_out_of_descriptors_is_not_out_of_boxes(box):
    """Whatever the number, either the box is found or it is said what was in the way."""
    box.usbox("run", "-d", "--name", "there", "--overlay=none", "--network=none", "--", "sh", "-c", "echo said").ok()
    box.usbox("wait", "there").ok()
    outcomes = set()
    for n in range(4, 16):
        result = subprocess.run(["prlimit", f"--nofile={n}", "--", USBOX, "logs", "there"], env=box.env, cwd=box.dir, capture_output=True, text=True, check=False)
        assert "no box" not in result.stderr and (result.stdout == "said\n" if result.returncode == 0 else "Too many open files" in result.stderr), (n, result)
        outcomes.add(result.returncode)
    assert outcomes == {0, 125}
    box.usbox("rm", "there").ok()


def test_hints_that_lead_on(box):
    assert_refused(box.run("--rootfs", "/nonesuch", "--", "true"), "--rootfs /nonesuch: No such file or directory", "hint: it is a directory with a system in it")
    box.usbox("run", "-d", "--name", "only", "--overlay=none", "--network=none", "--", "true").ok()
    assert_refused(box.run("--pod", "only", "--", "true"), "only is a box, not a pod", "usbox pod create")
    box.usbox("rm", "-f", "only").ok()
    assert_refused(box.usbox("exec"), "hint: usbox exec [OPTION...] BOX [--] COMMAND")
    assert_refused(box.run("--env-file", "nope", "--", "true"), "--env-file: nope: No such file", "hint: it is a file of this machine")
    assert_refused(box.run("--user", "nobody", "--", "true"), "'nobody' is not", "hint: id says")
    for command, hint in (("debian", "There are no images"), ("docker.io/library/debian", "There are no images"), ("", "an empty word"),
                          ("ls -la", "given as one word"), ("echo a/b | cat", "given as one word"), ("/no/My Program", "it is not there in the box"),
                          (" ", "There are no images")):
        result = box.run("--network=none", "--overlay=none", command)
        assert result.rc == 127 and f"usbox: exec: {command or repr(command)}: No such file" in result.err and hint in result.err, result


def test_who_stands_at_home_is_told_what_is_there(box):
    """On a terminal, and only there: a newcomer's first look is often at the home, which is nearly empty."""
    said = {}
    for where in (HOME, box.dir):
        for options in ([], ["--home=all"]):
            ours, theirs = os.openpty()
            argv = [USBOX, "run", "--rm", "--network=none", "--overlay=none", *options, "--", "true"]
            assert subprocess.run(argv, env=box.env, cwd=where, stdin=subprocess.DEVNULL, stderr=theirs, check=False).returncode == 0
            os.write(theirs, b"end\n")
            text = ""
            while not text.endswith("end\r\n"):
                text += os.read(ours, 4096).decode()
            said[where, *options] = text
            os.close(ours)
            os.close(theirs)
    assert "of your home directory the box has toolchains alone" in said.pop((HOME,)), said
    assert set(said.values()) == {"end\r\n"}, said
    assert box.run("--rm", "--network=none", "--overlay=none", "--", "true", cwd=HOME).ok().err == ""
