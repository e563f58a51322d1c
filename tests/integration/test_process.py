# SPDX-License-Identifier: LGPL-2.1-or-later
"""The payload as a process: credentials, environment, descriptors, limits, keyrings."""
import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from conftest import SLOW, USBOX, assert_refused, cannot

ZERO = "0" * 16


def status_of(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.slice
def test_no_capability_in_any_set(box):
    status = status_of(box.sh("cat /proc/self/status").ok().out)
    assert {k: status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), ZERO)
    assert status["NoNewPrivs"] == "1"


def test_roots_capabilities_are_few(box, subids):
    status = status_of(box.sh("cat /proc/self/status", "--user=root").ok().out)
    effective = int(status["CapEff"], 16)
    for number, name in ((12, "net_admin"), (13, "net_raw"), (16, "sys_module"), (17, "sys_rawio"), (19, "sys_ptrace"), (21, "sys_admin"), (22, "sys_boot"),
                         (25, "sys_time"), (27, "mknod"), (34, "syslog"), (38, "perfmon"), (39, "bpf")):
        assert not effective & 1 << number, name
    for number, name in ((0, "chown"), (1, "dac_override"), (3, "fowner"), (6, "setgid"), (7, "setuid")):
        assert effective & 1 << number, name
    assert int(status["CapBnd"], 16) & ~effective == 0
    assert status["CapInh"] == ZERO and status["CapAmb"] == ZERO and status["NoNewPrivs"] == "1"


def test_cap_add_and_drop(box, subids):
    assert int(status_of(box.sh("cat /proc/self/status", "--user=root", "--cap-drop=all").ok().out)["CapEff"], 16) == 0
    assert int(status_of(box.sh("cat /proc/self/status", "--user=root", "--cap-drop=chown").ok().out)["CapEff"], 16) & 1 == 0
    assert int(status_of(box.sh("cat /proc/self/status", "--user=root", "--cap-add=CAP_KILL").ok().out)["CapEff"], 16) & 1 << 5
    assert_refused(box.run("--cap-add=flying", "--", "true"), "flying", hint=False)


def test_set_id_programs_gain_nothing(box):
    out = box.sh("for p in /usr/bin/su /usr/bin/passwd /usr/bin/newuidmap /usr/bin/sudo; do test -u $p && cp $p /tmp/p && break; done; "
                 "/usr/bin/newuidmap $$ 0 0 1 2>&1; grep ^Uid: /proc/self/status").out
    assert f"Uid:\t{os.getuid()}\t{os.getuid()}" in out


@pytest.mark.slice
def test_environment_is_scrubbed(box):
    secret = {"AWS_SECRET_ACCESS_KEY": "s3cr3t-aws", "GITHUB_TOKEN": "s3cr3t-gh", "LD_PRELOAD": "", "FOO": "s3cr3t-foo", "BASH_ENV": "/x",
              "LC_TIME": "C", "TZ": "UTC", "EDITOR": "vi", "PAGER": "cat", "COLORTERM": "truecolor"}
    env = dict(line.split("=", 1) for line in box.run("--rm", "--", "env", env=secret).lines())
    assert "s3cr3t" not in str(env)
    allowed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TERM", "COLORTERM", "EDITOR", "PAGER", "USBOX", "USBOX_BOX"}
    assert {k for k in env if not k.startswith("LC_")} <= allowed, env
    assert env["TZ"] == "UTC" and env["EDITOR"] == "vi" and env["LC_TIME"] == "C" and env["USBOX"] == "1" and env["USBOX_BOX"]


def test_nothing_inside_shows_the_callers_environment(box):
    """/proc/1/environ among it: set-up happens with the scrubbed one."""
    out = box.sh("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; echo end", env={"TOKEN": "s3cr3t-token"}).out
    assert "s3cr3t" not in out and "end" in out
    out = box.sh("cat /proc/1/environ | tr '\\0' '\\n'; echo end", "--seccomp=off", env={"TOKEN": "s3cr3t-token"}).out
    assert "s3cr3t" not in out


def test_environment_options(box):
    file = box.write("envfile", "# a comment\nFROMFILE=in file\n\nPLAIN\nEMPTY=\nQUOTED=\"as is\"\n")
    env = dict(line.split("=", 1) for line in box.run(
        "--rm", "-e", "A=1", "--env", "PASSED", "--env=B=two words=x", f"--env-file={file}", "--unsetenv", "EDITOR", "--", "env",
        env={"PASSED": "through", "EDITOR": "vi", "PLAIN": "from outside", "OTHER": "no"}).lines())
    assert (env["A"], env["PASSED"], env["B"], env["FROMFILE"], env["EMPTY"], env["PLAIN"]) == ("1", "through", "two words=x", "in file", "", "from outside")
    assert env["QUOTED"] == '"as is"'
    assert "EDITOR" not in env and "OTHER" not in env


def test_environment_by_prefix(box):
    """As podman has it: a batch system's variables, and a shell function that is exported."""
    outside = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM": "no", "OMP_NUM_THREADS": "4", "BASH_FUNC_module%%": "() { echo module $1; }"}
    lines = box.run("--rm", "-e", "SLURM_*", "-e", "SLURM_NTASKS=3", "-e", "BASH_FUNC_*", "-e", "NOTHING_*", "--", "bash", "-c",
                    "env | grep -c '*'; env; module load", env=outside).lines()
    assert {"SLURM_JOB_ID=7", "SLURM_NTASKS=3", "module load"} <= set(lines) and lines[0] == "0", lines
    assert not [x for x in lines if x.startswith(("SLURM=", "OMP_", "NOTHING"))], lines


def test_clearenv_and_inherit(box):
    env = box.run("--rm", "--clearenv", "-e", "ONLY=this", "--", "/usr/bin/env").lines()
    assert "ONLY=this" in env and not [e for e in env if e.split("=")[0] not in ("ONLY", "USBOX", "USBOX_BOX", "PATH")], env
    env = box.run("--rm", "--env-inherit", "--", "env", env={"OTHER": "yes"}).lines()
    assert "OTHER=yes" in env


@pytest.mark.parametrize("name", ["TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR", "OLDPWD", "PWD"])
def test_inherited_names_of_directories(box, name):
    """A name of the caller's that is no directory in the box would be an error of its programs; what was asked for by name is set."""
    def has(*options, value):
        lines = box.run("--rm", *options, "--", "/usr/bin/env", env={name: value}).lines()
        return [line.split("=", 1)[1] for line in lines if line.startswith(name + "=")]

    box.write("file", "")
    (box.dir / "tmp").mkdir()
    assert has("--env-inherit", value=str(box.runtime)) == []
    assert has("--env-inherit", value=str(box.dir / "file")) == []
    assert has("--env-inherit", "-w", str(box.dir / "tmp"), value=str(box.dir / "tmp")) == [str(box.dir / "tmp")]
    assert has("--env-inherit", value=str(box.dir / "tmp")) == ([] if name == "PWD" else [str(box.dir / "tmp")])
    assert has("--env-inherit", "-e", name, value="/no/such") == ["/no/such"]
    assert has("--env-inherit", "-e", f"{name}=/no", value="/no/such") == ["/no"]


def test_environment_in_order(box):
    assert "A=2" in box.run("--rm", "-e", "A=1", "-e", "A=2", "--", "env").lines()
    assert not [x for x in box.run("--rm", "-e", "A=1", "--unsetenv=A", "--", "env").lines() if x.startswith("A=")]
    assert "A=3" in box.run("--rm", "--unsetenv=A", "-e", "A=3", "--", "env").lines()


def test_an_env_file_with_a_line_that_is_none(no_kept):
    """A NAME alone is the caller's variable, as docker has it and podman; what has a blank in it is no name."""
    no_kept.write("env", "A=1\nbad line\n")
    assert_refused(no_kept.run("--env-file=env", "--", "true"), "env line 2: 'bad line'")
    no_kept.write("env", "A=b c\nNO_SUCH_VARIABLE \n")
    assert no_kept.run("--rm", "--env-file=env", "--", "sh", "-c", 'echo "$A"').ok().out == "b c\n"


@pytest.mark.parametrize("options", [["-e", "=x"], ["-e", ""], ["--env-file", "/no/such"], ["--unsetenv", "A=B"]])
def test_bad_environment(no_kept, options):
    result = no_kept.run(*options, "--", "true")
    assert result.rc == 125 and result.err.startswith("usbox: "), result


@pytest.mark.slice
def test_planted_descriptors_do_not_leak(box):
    """Eleven of them, of every kind, low and high."""
    keep = [os.open("/etc", os.O_RDONLY), os.open("/etc/passwd", os.O_RDONLY), socket.socket(), socket.socket(socket.AF_UNIX), tempfile.TemporaryFile(),
            *os.pipe(), os.memfd_create("m"), os.eventfd(0), os.open("/proc/self/ns/mnt", os.O_RDONLY), os.open("/", os.O_PATH)]
    # Numbers that nothing of ours uses; as they are in the caller, so they would be inside.
    numbers = [fcntl.fcntl(one if isinstance(one, int) else one.fileno(), fcntl.F_DUPFD, 40 if i % 2 else 500) for i, one in enumerate(keep)]
    try:
        out = box.usbox("run", "--rm", "--", "/usr/bin/python3", "-c", """
import os
own = set(os.listdir("/proc/self/fd"))
for p in filter(str.isdigit, os.listdir("/proc")):
    try:
        own |= set(os.listdir(f"/proc/{p}/fd"))
    except PermissionError:
        pass
print(*sorted(map(int, own)))
""", pass_fds=numbers).ok().out.split()
        assert len(numbers) == 11 and out == ["0", "1", "2", "3"], out  # 3 is the listing's own
    finally:
        for number in numbers:
            os.close(number)


def test_payload_has_three_descriptors(box):
    out = box.python("import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd')))").ok().out.strip()
    assert out == "[0, 1, 2, 3]", out  # 3 is listdir's own


@pytest.mark.slice
def test_stdout_file_is_write_only_for_the_box(box):
    """A regular file as stdout, opened for append: what was in it can be neither read nor overwritten."""
    path = box.top / "log"
    path.write_text("secret before\n", encoding="ascii")
    script = """
import os, sys
print("hello"); sys.stdout.flush()
for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
    for name in ("/proc/self/fd/1", "/dev/stdout", "/dev/fd/1", "/proc/%d/fd/1" % os.getpid()):
        try:
            fd = os.open(name, flags | os.O_NONBLOCK)
            if flags != os.O_WRONLY | os.O_TRUNC:
                try:
                    sys.stderr.write("read: %r\\n" % os.pread(fd, 100, 0))
                except OSError:
                    pass
            if flags == os.O_RDWR:
                try:
                    os.pwrite(fd, b"XXXX", 0)
                except OSError:
                    pass
        except OSError:
            pass
print("bye")
"""
    with open(path, "a", encoding="ascii") as f:
        proc = subprocess.run([USBOX, "run", "--rm", "--", "/usr/bin/python3", "-c", script], stdout=f, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              env=box.env, cwd=box.dir, check=False, timeout=60)
    assert proc.returncode == 0, proc.stderr
    text = path.read_text(encoding="ascii")
    assert text.startswith("secret before\nhello\n") and text.rstrip().endswith("bye"), text
    assert b"secret" not in proc.stderr, proc.stderr


def test_stdin_file_is_read_only_for_the_box(box):
    path = box.top / "input"
    path.write_text("line\n", encoding="ascii")
    script = """
import os, sys
print(sys.stdin.readline(), end="")
for flags in (os.O_RDWR, os.O_WRONLY):
    try:
        os.write(os.open("/proc/self/fd/0", flags | os.O_NONBLOCK), b"owned")
    except OSError:
        pass
"""
    with open(path, "r+", encoding="ascii") as f:
        proc = subprocess.run([USBOX, "run", "--rm", "--", "/usr/bin/python3", "-c", script], stdin=f, capture_output=True, env=box.env, cwd=box.dir, check=False, timeout=60)
    assert (proc.returncode, proc.stdout) == (0, b"line\n"), proc
    assert path.read_text(encoding="ascii") == "line\n"


def test_core_dumps_are_off(box):
    """1, not 0: a piped handler of the host ignores 0. So neither can the command make it 0, nor does its trying fail."""
    script = "import resource as r\nr.setrlimit(r.RLIMIT_CORE, (0, 0))\nprint(*r.getrlimit(r.RLIMIT_CORE), *r.prlimit(0, r.RLIMIT_CORE))"
    assert box.python(script).lines() == ["1 1 1 1"]
    assert box.python(script, "--ulimit=core=0").lines() == ["0 0 0 0"]
    assert "PermissionError" in box.python("import resource as r\nr.prlimit(0, r.RLIMIT_CORE, (0, 0))").err
    show = "import resource as r\nprint(*r.getrlimit(r.RLIMIT_CORE))"
    for options in ([], ["--user=root"]):
        assert box.python(show, "--ulimit=core=4:4096", *options).lines() == ["4 4096"]  # who asks for dumps has them


def test_a_caller_without_core_dumps(box):
    """As hardened machines have it: the hard limit is 0 and cannot be raised to our 1."""
    def none():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    assert box.sh("ulimit -Sc; ulimit -Hc", preexec_fn=none).lines() == ["0", "0"]


def test_limits_are_the_callers(box):
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))
    assert box.sh("ulimit -Sn; ulimit -Hn", preexec_fn=lower).lines() == ["500", "600"]


def test_ulimit(box):
    assert box.sh("ulimit -Sn; ulimit -Hn; ulimit -Sf", "--ulimit", "nofile=128:256", "--ulimit=fsize=1024").lines()[:2] == ["128", "256"]
    assert box.sh("ulimit -Ss", "--ulimit=stack=1048576:unlimited" if resource.getrlimit(resource.RLIMIT_STACK)[1] == -1 else "--ulimit=stack=1048576").lines() == ["1024"]


@pytest.mark.parametrize("value", ["nofile", "nofile=", "nofile=x", "nofile=5:4", "flying=1", "nofile=-5", "=1", "nofile=99999999999999999999"])
def test_bad_ulimit(no_kept, value):
    assert_refused(no_kept.run("--ulimit", value, "--", "true"), "--ulimit", hint=False)


def test_oom_score(box):
    assert box.sh("cat /proc/self/oom_score_adj", "--oom-score-adj=500").ok().out == "500\n"


def test_sysctl(box):
    assert box.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "--sysctl=net.ipv4.ip_unprivileged_port_start=0").ok().out == "0\n"
    ipc = ("--sysctl=kernel.shmmni=17", "--sysctl=fs.mqueue.msg_max=7", "--sysctl=kernel.sem=250 32000 32 99")
    for options in ((), ("--user=root",), ("--user=33", "--workdir=/"), ("--overlay=kernel",), ("--overlay=none", "--network=none"), ("--userns=self", "--user=root")):
        out = box.sh("cd /proc/sys; cat kernel/shmmni fs/mqueue/msg_max; tr '\\t' ' ' <kernel/sem; grep CapEff /proc/1/status", *ipc, *options).ok().lines()
        assert out[:3] == ["17", "7", "250 32000 32 99"] and int(out[3].split()[1], 16) == 0, (options, out)
    assert_refused(box.run("--userns=self", *ipc, "--", "true"), "--sysctl kernel/shmmni=17", "--userns=subids")
    assert_refused(box.run("--sysctl=kernel.shmmni=x", "--", "true"), "--sysctl kernel/shmmni=x: Invalid argument", hint=False)
    assert_refused(box.run("--sysctl=kernel.core_pattern=|/x", "--", "true"), "core_pattern", hint=False)
    assert_refused(box.run("--sysctl=net.ipv4/../../kernel/x=1", "--", "true"), "--sysctl", hint=False)


@pytest.mark.slice
def test_session_keyring_is_fresh(box):
    if not shutil.which("keyctl"):
        cannot("test keyrings: keyutils is not installed")
    box.probe("clone_plain")
    for options in ([], ["--seccomp=off"]):
        script = ('keyctl add user usbox-secret s3cr3t @s >/dev/null && keyctl add user usbox-secret s3cr3t @us >/dev/null 2>&1; '
                  'exec "$0" run --rm "$@" -- ./probe key_session key_user_session request_key keyctl_session')
        proc = subprocess.run(["keyctl", "session", "-", "sh", "-c", script, USBOX, *options], env=box.env, cwd=box.dir, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60, check=False)
        assert proc.returncode == 0, proc
        results = dict(line.split() for line in proc.stdout.splitlines())
        assert [results[n] for n in ("key_session", "key_user_session", "request_key")].count("ok") == 0, (options, proc)
        if not options:
            assert results["keyctl_session"] == "EPERM"


def test_umask_and_directory_are_the_callers(box):
    result = box.sh("umask; pwd", preexec_fn=lambda: os.umask(0o027))
    assert result.lines() == ["0027", str(box.dir)]


def test_priority_of_the_caller_is_kept(box):
    assert box.sh("nice", preexec_fn=lambda: os.nice(5)).ok().out == f"{min(os.nice(0) + 5, 19)}\n"


def test_argv_is_never_reparsed(box):
    args = ["", " ", "a b", "$(id)", "`id`", ";", "*", "\n", "--", "-x", "--rm", "ünï", "'\""]
    out = box.run("--rm", "--", "/usr/bin/python3", "-c", "import sys; print(sys.argv[1:])", *args).ok().out
    assert out == f"{args}\n"


def test_options_end_at_the_command(box):
    assert box.run("--rm", "echo", "--rm", "-v", "x").ok().out == "--rm -v x\n"


def test_long_argv_and_environment(box):
    out = box.run("--rm", "-e", "BIG=" + "e" * 100000, "--", "sh", "-c", 'echo ${#1} ${#BIG}', "sh", "a" * 100000).ok().out
    assert out == "100000 100000\n"
    assert box.run("--rm", "--", "sh", "-c", "echo $#", "sh", *["x"] * 5000).ok().out == "5000\n"


@pytest.mark.parametrize("options", ([], ["--network", "none"], ["--overlay", "none"]))
def test_few_open_files(box, options):
    """A low limit on open files (ulimit -n) is the command's, and enough for the launcher, an exec and a stop."""
    low = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    assert box.run("--rm", *options, "--", "sh", "-c", "ulimit -n; cat /etc/hostname", **low).ok().out == "64\nusbox\n"
    assert box.run("--rm", "--timeout", "200ms", *options, "--", "sleep", "60", **low).rc == 124
    box.run("-d", "--rm", "--name", "few", *options, "--", "sleep", "1000", **low).ok()
    assert box.usbox("exec", "few", "sh", "-c", "ulimit -n; exit 3", **low).rc == 3
    assert box.usbox("stop", "few", **low).ok()


def test_no_process_left(box):
    low = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)))
    for options in ([], ["--network", "none"]):
        result = box.run("--rm", *options, "--", "true", **low)
        assert_refused(result, "Resource temporarily unavailable")
        assert "ulimit -u" in result.err


HEARS = """
hear() { i=0; while [ $i -lt 20 ]; do echo $i >f$i || exit 9; sleep 0.02; i=$((i+1)); done; cat f19; exit 5; }
trap hear INT TERM HUP QUIT USR1 USR2 ALRM XCPU; echo ready; while :; do sleep 0.02; done
"""


@pytest.mark.parametrize("sig", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
                                 signal.SIGXCPU))
def test_what_is_told_to_the_whole_job_is_the_commands(box, sig):
    """^C, kill %1, a hangup of the terminal, a batch system's notice that the time is up: the command's own end of it needs its files."""
    proc = box.popen("run", "--rm", "--", "sh", "-c", HEARS, start_new_session=True)
    assert proc.stdout.readline() == b"ready\n"
    os.killpg(proc.pid, sig)
    out, err = proc.communicate(timeout=60)
    assert (proc.returncode, out) == (5, b"19\n"), err


# In the order of their numbers: the first has come through when the second has.
HANGS_UP = 'trap "echo hangup" HUP; trap "echo usr1; exit 3" USR1; echo ready; while :; do sleep 0.02; done'


@pytest.mark.parametrize("verb", ("run", "exec"))
@pytest.mark.parametrize("nohup", (False, True))
def test_a_hangup_that_was_ignored_before(box, verb, nohup):
    """nohup usbox run -- COMMAND: the command outlives the terminal, too."""
    if verb == "exec":
        box.run("-d", "--rm", "--name", "far", "--", "sleep", "1000").ok()
    proc = box.popen(*(("exec", "far") if verb == "exec" else ("run", "--rm", "--")), "sh", "-c", HANGS_UP,
                     preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL))
    assert proc.stdout.readline() == b"ready\n"
    proc.send_signal(signal.SIGHUP)
    proc.send_signal(signal.SIGUSR1)
    out, err = proc.communicate(timeout=60)
    assert (proc.returncode, out) == (3, b"usr1\n" if nohup else b"hangup\nusr1\n"), err
    if verb == "exec":
        box.usbox("stop", "far").ok()


# A pid 1 of many a container: what is left to it stays.
LEFT = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
proc = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
if sys.argv[1] != "-":
    proc.stdout.readline()
    proc.send_signal(int(sys.argv[1]))
proc.communicate()
print(proc.returncode, [open(f"/proc/{pid}/comm").read().strip() for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split()])
"""


def left(box, *argv, sig="-"):
    """How it ended, and what an ended box has left to who adopts."""
    return subprocess.run(["/usr/bin/python3", "-c", LEFT, str(sig), USBOX, *map(str, argv)], cwd=box.dir, env=box.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=60 * SLOW, check=True).stdout.strip()


@pytest.mark.slice
@pytest.mark.parametrize("options", [[], ["--overlay=kernel"], ["--overlay=none"], ["-p", "127.0.0.1:0:80", "--net-log=log"], ["--network=none"], ["--pid=host"]],
                         ids=["default", "kernel", "none", "log", "bare", "host"])
def test_nobody_is_left_to_be_reaped(box, options):
    assert left(box, "run", "--rm", *options, "--", "true") == "0 []"
    assert left(box, "run", *options, "--", "sh", "-c", "echo x | tee new; sleep 1000", sig=signal.SIGTERM) == "143 []"


def test_nobody_is_left_of_a_start_that_failed(box):
    assert left(box, "run", "--rm", "--rw", "/nonexistent", "--", "true") == "125 []"
    assert left(box, "run", "--rm", "--", "/nonexistent") == "127 []"
