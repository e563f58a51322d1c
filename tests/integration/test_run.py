# SPDX-License-Identifier: LGPL-2.1-or-later
"""`usbox run` as a command: statuses, --timeout, --status-fd, --pidfile, --dry-run, profiles, doctor, help."""
import json
import os
import resource
import signal
import subprocess
import time

import pytest

from conftest import USBOX, assert_refused, own_processes


@pytest.mark.slice
@pytest.mark.parametrize("status", [0, 1, 2, 3, 124, 125, 126, 127, 255])
def test_own_status(box, status):
    result = box.sh(f"exit {status}")
    assert result.rc == status and result.err == ""


@pytest.mark.slice
def test_not_found_and_not_executable(no_kept):
    no_kept.write("plain", "x", 0o644)
    (no_kept.dir / "directory").mkdir()
    for command, status in (("no-such-command", 127), ("/no/such/command", 127), ("./plain", 126), ("./directory", 126), ("/etc", 126)):
        result = no_kept.run("--rm", "--", command)
        assert result.rc == status, (command, result)
        errors = [x for x in result.err.splitlines() if x.startswith("usbox: ")]
        assert len(errors) == 1 and command in errors[0], result


def test_missing_interpreter_is_named(box):
    box.write("script", "#!/no/such/interpreter\n", 0o755)
    result = box.run("--rm", "--", "./script")
    assert result.rc in (126, 127) and "script" in result.err, result


def test_command_is_searched_in_the_boxes_path(box):
    box.write("bin/usbox-only-here", "#!/bin/sh\necho found\n", 0o755)
    assert box.run("--rm", "-e", f"PATH={box.dir}/bin:/usr/bin:/bin", "--", "usbox-only-here").ok().out == "found\n"


def test_script_without_a_first_line(box):
    box.write("script", "echo plain\n", 0o755)
    result = box.run("--rm", "--", "./script")
    assert result.rc == 126 or result.out == "plain\n", result


@pytest.mark.slice
def test_timeout(no_kept):
    start = time.monotonic()
    result = no_kept.run("--rm", "--timeout=1", "--", "sleep", "1000")
    assert result.rc == 124 and 0.9 < time.monotonic() - start < 8, result
    assert no_kept.run("--rm", "--timeout=30s", "--", "sh", "-c", "exit 3").rc == 3
    assert no_kept.run("--rm", "--timeout=300ms", "--", "sleep", "1000").rc == 124


def test_timeout_of_one_that_will_not_end(no_kept):
    """The stop signal first, then SIGKILL ten seconds later. The time is one in which bash has its trap also on a machine with other work."""
    start = time.monotonic()
    result = no_kept.run("--rm", "--timeout=3s", "--", "bash", "-c", "trap 'echo asked' TERM; while :; do sleep 0.1; done")
    assert result.rc == 124 and "asked" in result.out and 12 < time.monotonic() - start < 30, result


def test_stop_signal(no_kept):
    result = no_kept.run("--rm", "--timeout=3s", "--stop-signal=USR1", "--", "bash", "-c", "trap 'echo usr1; exit 0' USR1; while :; do sleep 0.1; done")
    assert result.rc == 124 and result.out == "usr1\n", result


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5.2", "5 parsecs", "99999999999999999999"])
def test_bad_timeout(no_kept, value):
    assert_refused(no_kept.run(f"--timeout={value}", "--", "true"), "--timeout", hint=False)


def events(box, *argv):
    r, w = os.pipe()
    result = box.usbox("run", "--rm", "--status-fd", str(w), *argv, pass_fds=[w])
    os.close(w)
    with os.fdopen(r, encoding="utf-8") as f:
        return result, [json.loads(line) for line in f.read().splitlines()]


@pytest.mark.slice
def test_status_fd(box):
    result, seen = events(box, "--", "sh", "-c", "exit 4")
    assert result.rc == 4
    assert [e["event"] for e in seen] == ["started", "exited"]
    assert (seen[1]["signal"], seen[1]["oom"]) == (None, None)
    assert seen[1]["status"] == 4 and not seen[1]["timeout"] and "usage" in seen[1] and seen[0]["pid"] > 0
    result, seen = events(box, "--", "sh", "-c", "kill -TERM $$")
    assert result.rc == 143 and seen[1]["signal"] == 15
    result, seen = events(box, "--timeout=300ms", "--", "sleep", "100")
    assert result.rc == 124 and seen[1]["timeout"]
    assert "ports" not in seen[0]
    _, seen = events(box, "-p", "127.0.0.1:0:80", "--", "true")
    assert [(p["protocol"], p["host_address"], p["box_port"]) for p in seen[0]["ports"]] == [("tcp", "127.0.0.1", 80)] and seen[0]["ports"][0]["host_port"] > 0


def test_status_fd_of_a_failure(box):
    result, seen = events(box, "-v", "/no/such/source:/mnt", "--", "true")
    assert result.rc == 125
    assert [e["event"] for e in seen] == ["failed"] and seen[0]["errno"] == 2 and seen[0]["step"], seen
    result, seen = events(box, "--", "/no/such/command")
    assert result.rc == 127 and seen[-1]["event"] in ("failed", "exited")
    # Before there is a box: an option's value, options that exclude each other, no command, what is read first of all.
    for argv in (["--ulimit", "x", "--", "true"], ["--network", "none", "--mtu", "1400", "--", "true"], ["--network", "none"],
                 ["--seccomp", "/no/such/profile", "--", "true"]):
        result, seen = events(box, *argv)
        assert result.rc == 125
        assert [e["event"] for e in seen] == ["failed"] and seen[0]["step"] and seen[0]["message"] in result.err, (argv, seen)


@pytest.mark.parametrize("where", ["full", "closed", "unread"])
def test_status_fd_that_takes_nothing(box, where):
    """Nobody is told what came of the box, and that is said, once; the command is none the worse for it."""
    reader = -1
    if where == "full":
        writer, why = os.open("/dev/full", os.O_WRONLY), "No space left on device"
    else:
        reader, writer = os.pipe()
        why = "Broken pipe" if where == "closed" else "nobody reads it"
        os.set_blocking(writer, False)
        if where == "closed":
            os.close(reader)
        else:
            try:
                while True:
                    os.write(writer, b"x" * 65536)
            except BlockingIOError:
                pass
    result = box.usbox("run", "--rm", "--network=none", "--status-fd", str(writer), "--", "sh", "-c", "exit 4", pass_fds=[writer])
    assert (result.rc, result.err) == (4, f"usbox: --status-fd {writer}: {why}: nothing more is written to it\n"), result
    os.close(writer)


def test_status_fd_does_not_reach_the_box(box):
    r, w = os.pipe()
    out = box.usbox("run", "--rm", "--status-fd", str(w), "--", "sh", "-c", f"(echo intruder >&{w}) 2>/dev/null; ls /proc/self/fd", pass_fds=[w]).out
    os.close(w)
    with os.fdopen(r) as f:
        assert "intruder" not in f.read()
    assert str(w) not in out.split()


@pytest.mark.parametrize("value", ["x", "-3", "99", ""])
def test_bad_status_fd(no_kept, value):
    assert_refused(no_kept.run(f"--status-fd={value}", "--", "true"), "--status-fd", hint=False)


def test_pidfile(box):
    path = box.top / "pid"
    proc = box.popen("run", "--rm", f"--pidfile={path}", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    pid = int(path.read_text(encoding="ascii"))
    assert os.path.exists(f"/proc/{pid}")
    os.kill(proc.pid, signal.SIGTERM)
    proc.communicate(timeout=20)
    assert_refused(box.run(f"--pidfile={box.top}/no/such/dir/pid", "--", "true"), "--pidfile", hint=False)


def test_dry_run_does_nothing(no_kept):
    before = no_kept.state()
    result = no_kept.run("--dry-run", "-v", "/usr:/mnt:ro", "--hostname=dry", "--", "touch", "made")
    text = result.ok().out
    assert "dry" in text and "/mnt" in text and "touch" in text
    assert no_kept.state() == before and not (no_kept.dir / "made").exists()
    assert not own_processes()


def test_dry_run_tells_of_what_nobody_asked_for(no_kept):
    """The denials that are in force by default, after the rules; and what is of the box itself."""
    described = no_kept.run("--dry-run=json", "--", "true").json()
    assert described["network"]["otherwise"] == ["deny host", "deny metadata", "allow any"] and described["network"]["rules"] == []
    assert described["box"]["detach"] is False and "log_size" not in described["box"]
    described = no_kept.run("--dry-run=json", "--name=n", "-d", "--log-size=1M", "--allow=example.org", "--", "true").json()
    assert described["network"]["otherwise"] == ["deny host", "deny metadata", "deny any"] and described["network"]["rules"] == ["allow example.org"]
    assert (described["box"]["name"], described["box"]["detach"], described["box"]["log_size"]) == ("n", True, 1 << 20)
    text = no_kept.run("--dry-run", "--", "true").ok().out
    assert text.index("deny host") < text.index("deny metadata") < text.index("allow any"), text


def test_dry_run_judges(no_kept):
    assert no_kept.run("--dry-run", "--no-such-option", "--", "true").rc == 125


def test_dry_run_judges_limits(no_kept):
    """As the run does, in the same words; whether anybody gives the user a cgroup is for the run to find out."""
    limit = ["--pids-limit=100", "--network=none", "--overlay=none", "--rm"]
    dry = no_kept.run("--dry-run", *limit, "--", "true")
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        assert "pids.max=100" in dry.ok().out
        return
    assert_refused(dry, "usbox: limits: ", "--best-effort=limits")
    assert dry.err == no_kept.run(*limit, "--", "true").err
    dry = no_kept.run("--dry-run", "--best-effort=limits", *limit, "--", "true").ok()
    assert "usbox: without limits: " in dry.err and "pids.max=100" in dry.out
    assert_refused(no_kept.usbox("pod", "create", "--dry-run", "--pids-limit=100", "p"), "usbox: limits: ")


def test_dry_run_judges_what_is_to_be_hidden(no_kept):
    for options in (["--hide", "*.key"], ["--hide", no_kept.dir / "secret"]):
        refused = no_kept.run("--dry-run", "--rw", ".", *options, "--", "true")
        assert_refused(refused, "does not reach into what --rw . gives", "--best-effort=hide")
        assert refused.err == no_kept.run("--rw", ".", *options, "--", "true").err
        assert no_kept.run("--dry-run", "--rw", ".", "--best-effort=hide", *options, "--", "true").ok().out
        assert no_kept.run("--dry-run", *options, "--", "true").ok().out
    assert no_kept.run("--dry-run", "--ro", "/no/such/place", "--hide", "*.key", "--", "true").ok().out


def test_verbose_shows_where_the_time_goes(box):
    result = box.run("--rm", "--verbose", "--", "true")
    assert result.rc == 0 and len(result.err.splitlines()) >= 4 and " ms" in result.err, result


def test_profile_from_the_users_directory(box):
    box.write("usbox/profiles/mine.conf", "[usbox]\nhostname=from-profile\nenv=A=1;B=2\nread-only=true\n", where=box.config)
    out = box.sh("hostname; echo $A$B; touch f 2>/dev/null || echo read-only", "--profile=mine").lines()
    assert out == ["from-profile", "12", "read-only"]
    assert box.sh("hostname", "--profile=mine", "--hostname=mine-wins").ok().out == "mine-wins\n"
    assert box.sh("hostname", "--hostname=mine-wins", "--profile=mine").ok().out == "mine-wins\n"


def test_profile_inherits(box):
    box.write("usbox/profiles/base.conf", "[usbox]\nhostname=base\nenv=A=base\n", where=box.config)
    box.write("usbox/profiles/derived.conf", "[usbox]\ninherits=base\nhostname=derived\n", where=box.config)
    assert box.sh("hostname; echo $A", "--profile=derived").lines() == ["derived", "base"]


def test_profile_by_path_only_from_the_working_directory(box):
    box.write("local.conf", "[usbox]\nhostname=local\n")
    assert box.sh("hostname", "--profile=./local.conf").ok().out == "local\n"
    assert_refused(box.run("--profile=local", "--", "true"), "local", hint=False)


@pytest.mark.parametrize("text", ["[usbox]\nno-such-key=1\n", "hostname=x\n", "[usbox\n", "[usbox]\ninherits=looping\n", "[usbox]\nread-only=maybe\n", "[other]\na=b\n",
                                  "\xff\x00", "[usbox]\nmemory=1\n", "[usbox]\ndry-run=true\n"])
def test_bad_profiles(no_kept, text):
    path = no_kept.config / "usbox" / "profiles" / "looping.conf"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    result = no_kept.run("--profile=looping", "--", "true")
    assert_refused(result, "looping", hint=False)
    assert "did you mean looping" not in result.err


def test_who_inherits_what_is_not_there(no_kept):
    no_kept.write("usbox/profiles/heir.conf", "[usbox]\ninherits=nobody\n", where=no_kept.config)
    assert_refused(no_kept.run("--profile=heir", "--", "true"), "heir.conf: inherits: no profile 'nobody'")


def test_few_open_files(no_kept):
    """Whatever of it fails by that, the limit is named."""
    said = []
    for n in (8, 12, 16, 20, 24):
        result = no_kept.run("--rm", "--", "true", preexec_fn=lambda n=n: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))
        if "Too many open files\n" in result.err:
            said.append(result)
            assert "ulimit -n" in result.err, result
    assert said


@pytest.mark.parametrize("name", ["build", "agent", "ci", "desktop"])
def test_built_in_profiles(box, name):
    assert box.run("--dry-run", f"--profile={name}", "--", "true").ok().out
    assert box.usbox("profile", "show", name).ok().out


def test_profile_list(box):
    out = box.usbox("profile", "list").ok().out
    for name in ("build", "agent", "ci", "desktop"):
        assert name in out
    shown = box.usbox("profile", "show", "default").ok().out
    assert ".cargo" in shown and ".ssh" in shown


def test_doctor(box):
    result = box.usbox("doctor")
    assert result.rc == 0 and "ok" in result.out, result
    report = box.usbox("doctor", "--json").json()
    text = json.dumps(report)
    for what in ("user", "tun", "fuse", "newuidmap", "cgroup", "overlay"):
        assert what in text.lower(), (what, report)


def test_doctor_finds_what_is_missing(box):
    """Without newuidmap in the path it says so, and which command mends it."""
    tools = box.top / "tools"
    tools.mkdir()
    for name in ("true", "sh"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    result = box.usbox("doctor", env={"PATH": str(tools)})
    assert "uidmap" in result.out, result


def test_version_and_help(box):
    assert box.usbox("version").ok().out.strip()
    text = box.usbox("help").ok().out
    assert "run" in text and "doctor" in text
    text = box.usbox("run", "--help").ok().out
    for option in ("--network", "--volume", "--user", "--hide", "--seccomp", "--timeout", "--status-fd", "--nested", "--time-offset"):
        assert option in text, option
    assert not [line for line in text.splitlines() if len(line) > 120]


def test_help_to_a_closed_pipe(box):
    proc = subprocess.run(["sh", "-c", '"$0" run --help | head -1', USBOX], env=box.env, cwd=box.dir, capture_output=True, timeout=20, check=False)
    assert proc.returncode == 0 and b"error" not in proc.stderr, proc


def test_no_colour_without_a_terminal(box):
    assert "\x1b" not in box.usbox("doctor").out + box.run("--no-such").err + box.usbox("help").out


def test_no_color_on_a_terminal(box):
    with box.pty("run", "--no-such-option", "--", "true", env={"NO_COLOR": "1"}) as t:
        assert t.wait() == 125
        assert b"\x1b[" not in t.seen


def test_installed_helper_is_found(box):
    """Without the override the helper is looked for beside the installed tree, and its absence is said."""
    env = {k: v for k, v in box.env.items() if k != "USBOX_LIBEXECDIR"}
    proc = subprocess.run([USBOX, "run", "--rm", "--", "echo", "ran"], env=env, cwd=box.dir, capture_output=True, text=True, timeout=60, check=False)
    if proc.returncode == 0:
        assert proc.stdout == "ran\n"  # an installed tree
    else:
        assert proc.returncode == 125 and "usbox-net" in proc.stderr, proc  # the first that is started
