# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files as standard input and output that are copied through pipes."""
import os
import resource
import shutil
import subprocess
import termios

import pytest

from conftest import USBOX, cannot

# Both streams by turns.
BY_TURNS = """
import os
for i in range(1000):
    os.write(1, b"out %d\\n" % i)
    os.write(2, b"err %d\\n" % i)
"""
IN_ORDER = "".join(f"out {i}\nerr {i}\n" for i in range(1000))

# Writes until it fails and leaves word of how.
UNTIL_IT_FAILS = """
import os, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    for _ in range(4096):
        os.write(int(sys.argv[1]), b"x" * 1024)
    how = "never"
except OSError as e:
    how = os.strerror(e.errno)
with open("how", "w") as f:
    f.write(how)
sys.exit(7)
"""


def run_python(box, script, *args, options=("--nested",), **kw):
    kw.setdefault("stderr", subprocess.PIPE)
    return subprocess.run([USBOX, "run", "--network=none", *options, "--", "/usr/bin/python3", "-c", script, *args], stdin=kw.pop("stdin", subprocess.DEVNULL),
                          env=box.env, cwd=box.dir, check=False, timeout=60, **kw)


@pytest.mark.slice
@pytest.mark.parametrize("mode", ["w", "a"])
def test_one_file_as_output_and_error_keeps_the_order(box, mode):
    path = box.write("../log", "before\n" if mode == "a" else "")
    with open(path, mode, encoding="utf-8") as f:
        assert run_python(box, BY_TURNS, stdout=f, stderr=f).returncode == 0
        f.write("after\n")
    assert path.read_text(encoding="utf-8") == ("before\n" if mode == "a" else "") + IN_ORDER + "after\n"


def test_one_file_appended_to_twice_keeps_the_order(box):
    path = box.write("../log", "before\n")
    with open(path, "a", encoding="utf-8") as out, open(path, "a", encoding="utf-8") as err:
        assert run_python(box, BY_TURNS, stdout=out, stderr=err).returncode == 0
    assert path.read_text(encoding="utf-8") == "before\n" + IN_ORDER


def test_one_file_at_two_places_is_written_at_both(box):
    path = box.write("../log", "." * 20)
    with open(path, "r+b") as out, open(path, "r+b") as err:
        err.seek(10)
        run_python(box, "import os; os.write(2, b'err'); os.write(1, b'out')", stdout=out, stderr=err)
        assert (os.lseek(out.fileno(), 0, os.SEEK_CUR), os.lseek(err.fileno(), 0, os.SEEK_CUR)) == (3, 13)
    assert path.read_bytes() == b"out.......err......."


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_a_command_that_cannot_be_started_does_not_read_is_given_back(box, verb):
    """A shell that reads its script from a file goes on behind a usbox whose command is not there."""
    box.run("-d", "--name=b", "--network=none", "--", "sleep", "600").ok()
    words = "run --rm --network=none" if verb == "run" else "exec b"
    script = box.write("../script", f"'{USBOX}' {words} -- no-such-command\necho status $?\necho end\n")
    with open(script, encoding="utf-8") as f:
        proc = subprocess.run(["/bin/sh"], stdin=f, capture_output=True, env=box.env, cwd=box.dir, check=False, timeout=60)
    box.usbox("rm", "-f", "b").ok()
    assert (proc.stdout, proc.returncode) == (b"status 127\nend\n", 0), proc.stderr


def test_two_files_stay_two(box):
    with open(box.write("../one"), "wb") as out, open(box.write("../two"), "wb") as err:
        assert run_python(box, BY_TURNS, stdout=out, stderr=err).returncode == 0
    assert (box.top / "one").read_text(encoding="utf-8") == "".join(f"out {i}\n" for i in range(1000))
    assert (box.top / "two").read_text(encoding="utf-8") == "".join(f"err {i}\n" for i in range(1000))


def test_what_was_not_read_stays_for_the_next(box):
    path = box.write("../list", "".join(f"line {i}\n" for i in range(50000)))
    with open(path, "rb") as f:
        proc = run_python(box, "import os; b = b''\nwhile not b.endswith(b'\\n'): b += os.read(0, 1)\nprint(b)", stdin=f, stdout=subprocess.PIPE)
        assert (proc.returncode, proc.stdout) == (0, b"b'line 0\\n'\n"), proc
        assert os.read(f.fileno(), 7) == b"line 1\n"


@pytest.mark.slice
def test_limit_on_file_size(box):
    """As a full disk, but everybody can have it: the payload gets EPIPE and has its say, the run fails, what it changed is kept."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    with open(box.write("../log"), "wb") as f:
        proc = run_python(box, UNTIL_IT_FAILS, "1", stdout=f, preexec_fn=limit)
    assert proc.returncode == 125 and b"usbox: stdio: standard output: write: File too large\n" in proc.stderr, proc
    assert (box.top / "log").read_bytes() == b"x" * 100000
    kept = next(box.boxes.glob("*/upper"))
    assert next(kept.rglob("how")).read_text(encoding="utf-8") == "Broken pipe"


def test_limit_is_sigpipe_for_who_does_not_look(box):
    status = box.top / "status"
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    with open(box.write("../log"), "wb") as f, open(status, "wb") as events:
        proc = subprocess.run([USBOX, "run", "--rm", "--nested", "--network=none", f"--status-fd={events.fileno()}", "--", "yes"], stdin=subprocess.DEVNULL, stdout=f,
                              stderr=subprocess.PIPE, env=box.env, cwd=box.dir, check=False, timeout=60, preexec_fn=limit, pass_fds=[events.fileno()])
    assert (proc.returncode, proc.stderr) == (125, b"usbox: stdio: standard output: write: File too large\n"), proc
    last = status.read_text(encoding="utf-8").splitlines()[-1]
    assert '"event":"failed"' in last and '"step":"stdio"' in last and '"errno":27' in last


@pytest.mark.parametrize("stream", ["1", "2"])
def test_full_disk(box, stream):
    """In a user and mount namespace of the test's own, where a small tmpfs is to be had."""
    unshare = ["unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "mount -t tmpfs t /mnt"], capture_output=True, check=False).returncode != 0:
        cannot("mount a tmpfs as an ordinary user")
    (box.top / "small").mkdir()
    script = "mount -t tmpfs -o size=64k,mode=0777 t ../small || exit 99\n" \
             f'setpriv --ambient-caps=-all --inh-caps=-all "$@" {stream}>../small/log; rc=$?; stat -c %s ../small/log; exit $rc'
    proc = subprocess.run([*unshare, script, "sh", USBOX, "run", "--nested", "--network=none", "--rw=.", "--", "/usr/bin/python3", "-c", UNTIL_IT_FAILS, stream],
                          stdin=subprocess.DEVNULL, capture_output=True, env=box.env, cwd=box.dir, check=False, timeout=60)
    # With stream 2 the disk is full for the error, too.
    error = b"usbox: stdio: standard output: write: No space left on device\n" if stream == "1" else b""
    assert (proc.returncode, proc.stdout, proc.stderr) == (125, b"65536\n", error), proc
    assert (box.dir / "how").read_text(encoding="utf-8") == "Broken pipe"


def test_the_file_itself_is_out_of_reach(box):
    """Its mode, times and attributes are not for who only reads from it or writes to it."""
    path = box.write("../secret", "text\n", 0o600)
    script = """
import ctypes, os
for fd in (0, 1):
    for change in (lambda: os.fchmod(fd, 0o777), lambda: os.chmod("/proc/self/fd/%d" % fd, 0o777), lambda: os.utime("/proc/self/fd/%d" % fd, (1, 1)),
                   lambda: os.setxattr("/proc/self/fd/%d" % fd, "user.x", b"y"), lambda: os.ftruncate(fd, 0)):
        try:
            change()
        except OSError:
            pass
"""
    with open(path, "r+b") as f:
        proc = run_python(box, script, stdin=f, stdout=f)
    assert proc.returncode == 0, proc
    st = path.stat()
    assert st.st_mode & 0o777 == 0o600 and st.st_mtime > 1 and path.read_text() == "text\n"
    assert "user.x" not in os.listxattr(path)


def test_message_queues_work_with_a_file_as_output(box):
    script = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.mq_open(b'/q', 0o102, 0o600, None) >= 0 or ctypes.get_errno())"
    with open(box.write("../out"), "wb") as f:
        assert run_python(box, script, stdout=f).returncode == 0
    assert (box.top / "out").read_text() == "True\n"


def test_a_terminal_for_output_is_no_input(box):
    """stdin is not the terminal, stdout is: what is typed there is not the box's to read, its settings are not the box's to change."""
    script = """
import os, sys, termios
print("tty", os.isatty(1), flush=True)
for fd in (1, 2):
    modes = termios.tcgetattr(fd)
    modes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSANOW, modes)
import select
print("typed", bool(select.select([1], [], [], 1)[0]), flush=True)
"""
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    proc = subprocess.Popen([USBOX, "run", "--rm", "--network=none", "--", "/usr/bin/python3", "-c", script], stdin=subprocess.DEVNULL, stdout=slave,
                            stderr=slave, env=box.env, cwd=box.dir)
    text = b""
    while b"tty" not in text:
        text += os.read(master, 4096)
    os.write(master, b"password\n")
    assert proc.wait(60) == 0
    while b"typed" not in text:
        text += os.read(master, 4096)
    assert b"tty True" in text and b"typed False" in text, text
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
