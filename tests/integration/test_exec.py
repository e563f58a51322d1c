# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox exec: the same box, the same confinement, and no way out through it."""
import hashlib
import os
import shutil
import signal
import subprocess

import pytest

from conftest import SLOW, USBOX, Env, assert_refused, cannot, own_processes, wait_until

STATUS = "grep -E '^(Cap|NoNew|Seccomp|Uid|Gid|Groups)' /proc/self/status"
NAMESPACES = "for n in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$n; done"


@pytest.fixture
def web(box):
    """A box by the name of web, and start() for one that is made otherwise."""
    names = []

    def start(script="exec sleep 1000", *options, name="web", argv=None):
        box.usbox("run", "-d", "--name", name, *options, "--", *(argv or ["sh", "-c", script])).ok()
        names.append(name)
        return name

    def run(*argv, **kw):
        return box.usbox("exec", *argv, **kw)

    box.start, box.exec = start, run
    box.pid = lambda: box.usbox("ps", "--json").json()[0]
    yield box
    for name in names:
        box.usbox("rm", "-f", name).ok()


@pytest.mark.slice
def test_what_it_runs_in_is_what_the_command_runs_in(web):
    web.start(f"{STATUS} >/tmp/status; {{ {NAMESPACES}; }} >/tmp/ns; env | sort >/tmp/env; pwd >/tmp/pwd; ulimit -a >/tmp/limits; umask >/tmp/umask; "
              "touch /tmp/done; exec sleep 1000", "-e", "A=1", "--ulimit", "nofile=77", "--time-offset", "monotonic=5")
    assert wait_until(lambda: web.exec("web", "test", "-e", "/tmp/done").rc == 0, 20)
    for what, file in ((STATUS, "status"), (f"{{ {NAMESPACES}; }}", "ns"), ("env | sort", "env"), ("pwd", "pwd"), ("ulimit -a", "limits"), ("umask", "umask")):
        assert web.exec("web", "--", "sh", "-c", f"{what} | diff - /tmp/{file}").ok().out == "", file
    # A group and a session of its own, and nothing in common with this one.
    assert web.exec("web", "--", "sh", "-c", "read p c s pp g sid r </proc/self/stat; test $g = $$ -a $sid = $$").ok()


def test_inherited_directory_that_comes_later(web):
    """The box's variables are the command's; whether their directories are there is looked at again."""
    web.env["TMPDIR"] = "/tmp/later"
    web.start("exec sleep 1000", "--env-inherit")
    assert web.exec("web", "sh", "-c", "echo $TMPDIR; mkdir /tmp/later").ok().out == "\n"
    assert web.exec("web", "mktemp").ok().out.startswith("/tmp/later/")


def test_no_descriptor_and_no_variable_of_the_caller(web):
    web.start()
    r, w = os.pipe()
    try:
        result = web.exec("web", "--", "sh", "-c", "ls /proc/self/fd; env", env={"SECRET": "x", "LD_PRELOAD": ""}, pass_fds=(r, w)).ok()
    finally:
        os.close(r)
        os.close(w)
    assert result.lines()[:4] == ["0", "1", "2", "3"]  # 3 is ls's own
    assert "SECRET" not in result.out and "LD_PRELOAD" not in result.out and "TERM=xterm" in result.out
    assert "XDG_RUNTIME_DIR" not in result.out
    with open(web.dir / "out", "wb") as f:
        web.exec("web", "--", "readlink", "/proc/self/fd/1", stdout=f).ok()
    assert (web.dir / "out").read_text().startswith("pipe:")  # a file itself would be a way to it


def test_options(web):
    web.start("exec sleep 1000", "-e", "A=1", "-e", "B=2")
    script = "pwd; echo $A $B $C $D $SOME_E$SOME_F"
    out = web.exec("-e", "A=9", "-e", "C=3", "--env=D", "-e", "SOME_*", "-w", "/usr", "web", "--", "sh", "-c", script,
                   env={"D": "mine", "SOME_E": "e", "SOME_F": "f"}).lines()
    assert out == ["/usr", "9 2 3 mine ef"]
    assert web.exec("web", "sh", "-c", "exit 7").rc == 7
    assert web.exec("web", "sh", "-c", "kill -9 $$").rc == 128 + 9
    assert web.exec("web", "/no/such").rc == 127 and web.exec("web", "/etc").rc == 126
    assert web.exec("web", "printf", "%s|", "", "a b", b"\xff\n").ok().stdout == b"|a b|\xff\n|"
    assert_refused(web.exec("-w", "/no/such", "web", "true"), "/no/such")
    assert_refused(web.exec("-w", "relative", "web", "true"), "--workdir", hint=False)
    assert_refused(web.exec("-e", "=x", "web", "true"), "--env", hint=False)
    assert_refused(web.exec("-u", "nobody", "web", "true"), "--user", hint=False)
    assert_refused(web.exec("web"), "missing")
    assert web.exec("web", "true").ok()


def test_as_many_arguments_as_the_kernel_takes(web):
    """A command line of xargs is 128 KiB."""
    web.start()
    words = [str(i) for i in range(100000)]
    assert web.exec("web", "sh", "-c", "echo $# ${100000}", "x", *words).ok().lines() == ["100000 99999"]
    assert web.exec("-e", "A=" + "a" * 100000, "web", "sh", "-c", "echo ${#A}").ok().lines() == ["100000"]
    # Together with what the box has they are more than that.
    variables = [word for i in range(9) for word in ("-e", f"{{}}{i}=" + "a" * 130000)]
    web.start("exec sleep 1000", "--ulimit", "stack=8388608", *[word.format("A") for word in variables], name="full")
    result = web.exec(*[word.format("B") for word in variables], "full", "true")
    assert result.rc == 126 and "Argument list too long" in result.err and "ulimit -s" in result.err, result


def test_stdin_stdout_and_files(web):
    web.start()
    assert web.exec("web", "cat", input=b"a\0b").ok().stdout == b"a\0b"
    data = os.urandom(300000)
    path = web.write("in", data)
    with open(path, "rb") as source, open(web.dir / "out", "wb") as target:
        web.exec("web", "cat", stdin=source, stdout=target).ok()
    assert (web.dir / "out").read_bytes() == data
    result = web.exec("web", "--", "sh", "-c", "echo out; echo err >&2").ok()
    assert (result.out, result.err) == ("out\n", "err\n")


@pytest.mark.slice
def test_a_terminal(web):
    web.start()
    pty = web.pty("exec", "web", "--", "sh", "-c", "tty; stty size; read x; echo got $x; while :; do :; done")
    pty.expect(b"/dev/pts/0")
    pty.expect(b"24 80")
    pty.send(b"hello\n")
    pty.expect(b"got hello")
    pty.send(b"\x03")  # ^C is for the foreground there; a shell that is about to fork would lose it
    assert pty.wait() == 128 + signal.SIGINT
    pty.close()
    assert web.exec("-t", "web", "tty").ok().out.strip().startswith("/dev/pts/")


def test_detached(web):
    web.start()
    web.exec("-d", "web", "--", "sh", "-c", "touch /tmp/begun; exec sleep 1000").ok()
    assert wait_until(lambda: web.exec("web", "test", "-e", "/tmp/begun").rc == 0)
    assert web.exec("-d", "web", "/no/such").rc == 127


def test_signals_go_to_the_command(web):
    web.start()
    proc = web.popen("exec", "web", "--", "sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    assert proc.stdout.readline() == b"ready\n"
    proc.send_signal(signal.SIGTERM)
    assert proc.communicate(timeout=60)[0] == b"got\n" and proc.returncode == 3


def test_what_a_box_without_limits_uses(web):
    """Its processes and those that exec started are asked; usbox's own are none of them."""
    web.start()
    web.start("exec sleep 1001", name="other")
    web.exec("-d", "web", "sleep", "999").ok()
    top = lambda: web.usbox("top", "--json", "web").json()
    # The shell executes the one a moment after it has been executed itself.
    assert wait_until(lambda: sorted(p["command"] for p in top()) == ["sleep 1000", "sleep 999"], 20), top()
    assert all(p["memory"] > 0 and p["pid"] != p["box_pid"] for p in top())
    assert [line for line in web.usbox("top", "web").lines() if "sleep 999" in line]
    (stats,) = web.usbox("stats", "--json", "web").json()
    assert stats["source"] == "processes" and stats["pids"] == 2 and stats["memory"] > 0 and stats["cpu_us"] >= 0
    assert len(web.usbox("stats").lines()) == 3


def test_who_kills_the_client_hangs_up(web):
    web.start()
    proc = web.popen("exec", "web", "--", "sh", "-c", "echo ready; exec sleep 999")
    assert proc.stdout.readline() == b"ready\n"
    proc.kill()
    proc.communicate()
    assert wait_until(lambda: "sleep 999" not in web.exec("web", "ps", "ax").ok().out)


def test_ends_with_the_box(web):
    web.start()
    proc = web.popen("exec", "web", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    web.usbox("kill", "web").ok()
    assert proc.communicate(timeout=60) and proc.returncode == 137
    assert_refused(web.exec("web", "true"), "not running")
    assert_refused(web.exec("nonsense", "true"), "no box")


def test_ends_with_a_box_that_fails(web):
    """It has not ended by itself: who waits for it is told what has."""
    web.start()
    with web.popen("exec", "web", "--", "sh", "-c", "echo up; exec sleep 1000") as proc:
        assert proc.stdout.readline() == b"up\n"
        (helper,) = [pid for pid, what in own_processes().items() if what.startswith("usbox-net ")]
        os.kill(helper, signal.SIGKILL)
        err = proc.communicate(timeout=60)[1].decode()
    said, hint = err.splitlines()
    assert proc.returncode == 125 and said == "usbox: exec: the box has failed: the helper usbox-net ended: killed by signal 9 (SIGKILL)", err
    assert hint.startswith("hint: the box was stopped"), err
    assert web.usbox("wait", "web").lines() == ["125"]


def test_a_test_that_fails_beside_a_command(web):
    """It fails, and does not wait for what nobody ends any more: conftest.Started."""
    web.start()
    with pytest.raises(LookupError), web.popen("exec", "web", "--", "sh", "-c", "echo up; exec sleep 1000") as proc:
        assert proc.stdout.readline() == b"up\n"
        raise LookupError
    assert proc.returncode == -signal.SIGKILL


def test_with_the_hosts_processes(web):
    """--pid=host: no namespace whose end would end it."""
    web.start("exec sleep 1000", "--pid=host")
    proc = web.popen("exec", "web", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    web.usbox("kill", "web").ok()
    assert proc.communicate(timeout=60) and proc.returncode == 137


@pytest.mark.parametrize("options", [[], ["--pid=host"]])
def test_ends_with_a_launcher_that_is_killed(web, options):
    """Here it is this process that adopts what a killed launcher leaves, and it reaps nothing, like the first process of many a container."""
    before = set(own_processes())
    web.start("exec sleep 1000", *options)
    web.exec("-d", "web", "sleep", "1000").ok()
    os.kill(web.pid()["launcher"], signal.SIGKILL)
    assert wait_until(lambda: not set(own_processes()) - before, 20), own_processes()


def test_ends_with_its_joiner(web):
    web.start()
    proc = web.popen("exec", "web", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert proc.stdout.readline() == b"ready\n"
    joiners = [pid for pid, what in own_processes().items() if what.startswith("usbox-exec ")]
    assert len(joiners) == 1
    os.kill(joiners[0], signal.SIGKILL)
    assert proc.communicate(timeout=60) and proc.returncode == 137
    assert web.exec("web", "pgrep", "-c", "sleep").lines() == ["1"]


def test_many_at_once(web):
    web.start()
    procs = [web.popen("exec", "web", "--", "sh", "-c", f"sleep 0.2; echo {i}; exit {i}") for i in range(20)]
    for i, proc in enumerate(procs):
        assert proc.communicate(timeout=60)[0] == f"{i}\n".encode() and proc.returncode == i


def test_another_user(web, subids):
    web.start("exec sleep 1000", "-u", "root")
    assert web.exec("web", "id", "-u").lines() == ["0"]
    assert web.exec("-u", "1:2", "-w", "/", "web", "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status").lines() == ["1", "2", "CapEff:\t0000000000000000"]
    # Of root's capabilities it has what the box's root has, and never more.
    ours, theirs = (web.exec("web", "grep", "CapEff", f"/proc/{p}/status").ok().out for p in ("self", "2"))
    assert ours == theirs


def test_an_id_that_the_box_has_not(web):
    web.start("exec sleep 1000", "--userns=self")
    assert_refused(web.exec("-u", "12345", "web", "true"), "gid 12345", hint=False)
    # Root by number has no right that the box's command has not.
    web.start("exec sleep 1000", name="other")
    result = web.exec("-u", "root", "other", "sh", "-c", "grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status")
    assert result.rc == 125 or set(line.split()[1] for line in result.lines()) == {"0" * 16}


def test_a_command_that_is_not_dumpable(web):
    web.start(argv=["/usr/bin/python3", "-c", "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('x', flush=True); time.sleep(1000)"])
    assert wait_until(lambda: web.usbox("logs", "web").out == "x\n", 30)
    assert web.exec("web", "echo", "in").ok().out == "in\n"


def test_a_command_that_went_elsewhere(web):
    """With --nested the command may be in namespaces of its own making: exec does not follow it there."""
    web.start("exec unshare -Ur sh -c 'echo in; exec sleep 1000'", "--nested")
    assert wait_until(lambda: web.usbox("logs", "web").out == "in\n", 30)
    assert_refused(web.exec("web", "true"), "namespaces of its own making")


HUNTER = r"""
import os, sys
seen, bad = set(), []
open('/tmp/hunting', 'w').close()
while not os.path.exists('/tmp/stop'):
    for p in filter(str.isdigit, os.listdir('/proc')):
        if int(p) <= 2:
            continue
        for what in ('exe', 'root', 'cwd'):
            try:
                target = os.readlink(f'/proc/{p}/{what}')
            except OSError:
                continue
            seen.add(target)
            if what == 'exe' and 'usbox' in os.path.basename(target):
                bad.append(target)
        for what in ('cmdline', 'mem', 'environ', 'fd', 'maps'):
            try:
                if what == 'cmdline':
                    name = os.path.basename(open(f'/proc/{p}/cmdline', 'rb').read().split(b'\0')[0])
                    if name == b'usbox':
                        bad.append('cmdline')
                elif what == 'fd':
                    links = [os.readlink(f'/proc/{p}/fd/{n}') for n in os.listdir(f'/proc/{p}/fd')]
                    bad += [x for x in links if 'usbox' in x or '.local' in x]
                elif what in ('environ', 'maps'):
                    data = open(f'/proc/{p}/{what}', 'rb').read()
                    if b'usbox/boxes' in data or b'XDG_RUNTIME_DIR' in data or b'/src/usbox' in data:
                        bad.append(what)
            except OSError:
                pass
print(len(seen), bad)
"""


def test_nothing_of_the_host_is_seen_before_the_exec(web):
    """A process of the box looks at each new process as hard as it can, while many are started."""
    web.start(argv=["/usr/bin/python3", "-c", HUNTER])
    assert wait_until(lambda: web.exec("web", "test", "-e", "/tmp/hunting").rc == 0, 30)
    for _ in range(60 // SLOW):
        web.exec("web", "/usr/bin/true").ok()
    web.exec("web", "touch", "/tmp/stop").ok()
    web.usbox("wait", "web").ok()
    seen, _, bad = web.usbox("logs", "web").ok().out.partition(" ")
    assert int(seen) > 0 and bad.strip() == "[]", bad


OVERWRITER = r"""
import errno, glob, os
found, results = 0, set()
open('/tmp/hunting', 'w').close()
while not os.path.exists('/tmp/stop'):
    for exe in glob.glob('/proc/[0-9]*/exe'):
        try:
            if 'usbox' not in os.path.basename(os.readlink(exe)):
                continue
            fd = os.open(exe, os.O_RDONLY)
        except OSError:
            continue
        found += 1
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            for path in (exe, f'/proc/self/fd/{fd}'):
                try:
                    os.write(os.open(path, flags), b'#!/bin/sh\n')
                    results.add('WRITTEN')
                except OSError as e:
                    results.add(errno.errorcode[e.errno])
        for call in (lambda: os.chmod(f'/proc/self/fd/{fd}', 0o777), lambda: os.truncate(f'/proc/self/fd/{fd}', 0)):
            try:
                call()
                results.add('CHANGED')
            except OSError as e:
                results.add(errno.errorcode[e.errno])
        os.close(fd)
print(found > 0, sorted(results))
"""


def test_the_hosts_binary_cannot_be_overwritten(web):
    """CVE-2019-5736: a script whose interpreter is /proc/self/exe makes the kernel execute the program that executes it, here a usbox
    that its user may write to. What then runs in the box can read that; it must not come to write it."""
    own = web.top / "bin" / "usbox-own"
    own.parent.mkdir()
    shutil.copy(USBOX, own)
    before, mode = hashlib.sha256(own.read_bytes()).digest(), own.stat().st_mode

    def run(*argv):
        return subprocess.run([own, *argv], env=web.env, cwd=web.dir, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)

    assert run("run", "-d", "--name", "web", "--", "/usr/bin/python3", "-c", OVERWRITER).returncode == 0
    try:
        assert wait_until(lambda: run("exec", "web", "test", "-e", "/tmp/hunting").returncode == 0, 30)
        run("exec", "web", "sh", "-c", "printf '#!/proc/self/exe events\\n' >/tmp/trap; chmod +x /tmp/trap")
        for _ in range(5):
            # events, should it come to run in there, goes on until it is killed.
            run("exec", "-d", "web", "/tmp/trap")
        wait_until(lambda: False, 0.5)
        run("exec", "web", "touch", "/tmp/stop")
        run("wait", "web")
        said = run("logs", "web").stdout.decode()
        assert "WRITTEN" not in said and "CHANGED" not in said, said
        assert hashlib.sha256(own.read_bytes()).digest() == before and own.stat().st_mode == mode
    finally:
        run("rm", "-f", "web")


def test_a_ptmx_that_is_none(web, subids):
    """/dev is the box's root's to change."""
    web.start("exec sleep 1000", "-u", "root")
    if web.exec("web", "sh", "-c", "rm /dev/ptmx && mkfifo /dev/ptmx").rc != 0:
        cannot("change /dev in a box")
    assert_refused(web.exec("-t", "web", "true"), "/dev/ptmx", hint=False)
    assert web.exec("web", "true").ok()


def test_probes_fail_as_in_the_command(web):
    """What a hostile program would try gives the same results by exec as by run."""
    expected = web.probe()
    web.start()
    result = dict(line.split(" ", 1) for line in web.exec("web", web.probe_path, "--calls").lines())
    assert result == expected


def test_boxes_of_others_are_not_to_be_had(web):
    web.start()
    other = Env(web.top / "other")
    assert_refused(other.usbox("exec", "web", "true"), "no box")


@pytest.fixture
def stopped(box):
    """A box by the name of web whose launcher is stopped, and its launcher's pid."""
    launcher = box.popen("run", "--name", "web", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert launcher.stdout.readline() == b"up\n"
    os.kill(launcher.pid, signal.SIGSTOP)
    yield launcher.pid
    os.kill(launcher.pid, signal.SIGCONT)
    box.usbox("rm", "-f", "web").ok()
    launcher.communicate(timeout=60)


@pytest.mark.parametrize("options", [[], ["-d"], ["-t"]])
def test_a_launcher_that_is_stopped_is_named(box, stopped, options):
    assert_refused(box.usbox("exec", *options, "web", "true"), "does not answer", f"kill -CONT {stopped}")


def has_socket(pid):
    return any("/socket:[" in os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_launcher_that_is_stopped(box, stopped, sig):
    with box.popen("exec", "web", "true", preexec_fn=lambda: signal.signal(sig, signal.SIG_DFL)) as proc:
        assert wait_until(lambda: has_socket(proc.pid), 5)
        proc.send_signal(sig)
        assert proc.communicate(timeout=60)[1] == b"" and proc.returncode == -sig


# As the pid 1 of a container that reaps nobody: a box, a command by exec, and the launcher's process group is killed. Says whether the box's init has ended.
REAPS_NOBODY = """
import os, signal, subprocess, sys, time
usbox = sys.argv[1]
launcher = subprocess.Popen([usbox, *sys.argv[2:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
assert launcher.stdout.readline() == b"up\\n"
command = subprocess.Popen([usbox, "exec", "x", "--", "sh", "-c", "echo up; exec sleep 1000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
assert command.stdout.readline() == b"up\\n"
def read(path):
    with open(path, encoding="ascii", errors="replace") as f:
        return f.read()
children = read(f"/proc/{launcher.pid}/task/{launcher.pid}/children").split() # none of which comes or goes
inits = [pid for pid in children if read(f"/proc/{pid}/comm").strip() == "usbox-init"]
assert len(inits) == 1, inits
os.killpg(launcher.pid, signal.SIGKILL)
end = time.monotonic() + 60
while (state := read(f"/proc/{inits[0]}/stat").rpartition(")")[2].split()[0]) != "Z" and time.monotonic() < end:
    time.sleep(0.05)
print(state)
"""


def test_a_killed_process_group_is_the_boxs_end_where_nobody_reaps(box):
    inner = ["unshare", "--user", "--map-current-user", "--keep-caps", "--pid", "--fork", "--kill-child", "--mount-proc"]
    run = ["run", "--name=x", "--overlay=none", "--network=none", "--userns=self", "--", "sh", "-c", "echo up; exec sleep 1000"]
    result = subprocess.run([*inner, "/usr/bin/python3", "-c", REAPS_NOBODY, USBOX, *run], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=180, check=False)
    assert (result.returncode, result.stdout) == (0, "Z\n"), result
    box.usbox("rm", "x").ok()
