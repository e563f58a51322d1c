# SPDX-License-Identifier: LGPL-2.1-or-later
"""`usbox doctor` against what `usbox run` then does, on this machine and with something taken away from it."""
import errno
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys

import pytest
from conftest import BUILD, USBOX, assert_refused, cannot, sanitized


def left_in(path):
    return [name for _, dirs, files in os.walk(path) for name in dirs + files]


def states(text):
    return {check["id"]: check["state"] for check in json.loads(text)}


@pytest.mark.slice
def test_report_and_verdict(box):
    before = left_in(box.data)
    result = box.usbox("doctor")
    works = box.run("--rm", "--", "true").rc == 0
    assert result.rc == (0 if works else 1), result
    assert ("`usbox run` works here" in result.out) == works
    assert "\x1b" not in result.out, "no colour where stdout is no terminal"
    result = box.usbox("doctor", "--json")
    assert result.rc == (0 if works else 1)
    for check in json.loads(result.out):
        assert {"id", "title", "state", "found"} <= set(check)
        assert check["state"] in ("ok", "info", "degraded", "missing")
    assert left_in(box.data) == [n for n in left_in(box.data) if n in before + ["usbox", "boxes"]]


def test_usage(box):
    result = box.usbox("doctor", "--jsno")
    assert result.rc == 125 and "--jsno" in result.err


def test_fast_path(box):
    """What usbox-net says of it: here, and where it says no."""
    works = subprocess.run([box.libexec / "usbox-net", "--try-fast-path"], capture_output=True, check=False).returncode == 0
    assert states(box.usbox("doctor", "--json").out)["fast-path"] == ("ok" if works else "degraded")
    (box.libexec / "usbox-net").unlink()
    box.write("usbox-net", "#!/bin/sh\necho 'usbox-net: make the rules: no' >&2\nexit 1\n", 0o755, box.libexec)
    row = next(check for check in json.loads(box.usbox("doctor", "--json").out) if check["id"] == "fast-path")
    assert row["state"] == "degraded" and row["found"] == "make the rules: no" and "nft_tproxy" in row["mend"], row


# What is done, as the root of a user namespace, to the machine that usbox then sees; the check that must tell.
TAKEN_AWAY = {
    "userns": "echo 0 >/proc/sys/user/max_user_namespaces",
    "namespaces": "echo 0 >/proc/sys/user/max_net_namespaces",
    # Every one: the kernel looks for any that is whole, such as a chroot's.
    "proc": "findmnt -nlo TARGET -t proc | while read -r m; do mount -t tmpfs none $m/tty; done",
    "sysfs": "findmnt -nlo TARGET -t sysfs | while read -r m; do mount -t tmpfs none $m/kernel; done",
    "tun": "mount --bind /dev/null /dev/net/tun",
}


@pytest.mark.parametrize("what", TAKEN_AWAY)
def test_tells_what_is_missing(box, what):
    if subprocess.run(["unshare", "-Urmpf", "--mount-proc", "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a namespace to break things in")

    def broken(*argv):
        script = f'{TAKEN_AWAY[what]} && exec "$@"'
        return subprocess.run(["unshare", "-Urmpf", "--mount-proc", "sh", "-c", script, "sh", USBOX, *argv], env=box.env, cwd=box.dir,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    doctor, run = broken("doctor", "--json"), broken("run", "--rm", "--", "true")
    assert doctor.returncode == 1, doctor
    assert states(doctor.stdout)[what] == "missing", doctor.stdout
    assert run.returncode == 125, run
    assert left_in(box.data / "usbox" / "boxes") == []


@pytest.mark.parametrize("what,how", [("another pid namespace", ["unshare", "-Urpf"]), ("not mounted", ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"])],
                         ids=["foreign", "none"])
def test_a_proc_without_us(box, what, how):
    """As in a builder's chroot, or by unshare --pid alone."""
    if subprocess.run([*how, "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a namespace with such a /proc")
    said = [subprocess.run([*how, USBOX, *argv], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
            for argv in (["doctor", "--json"], ["run", "--rm", "--", "true"])]
    (row,) = [check for check in json.loads(said[0].stdout) if check["id"] == "proc"]
    assert said[0].returncode == 1 and row["state"] == "missing" and what in row["found"] and "mount -t proc" in row["mend"], row
    assert said[1].returncode == 125 and "\nhint: /proc is " in said[1].stderr and what in said[1].stderr, said[1]
    assert left_in(box.data / "usbox" / "boxes") == []


# What the shell around it has set, or where it stands: the check that must tell, and a word of the hint of `run`.
AROUND = {
    "files": ("open-files", "ulimit -n", (resource.RLIMIT_NOFILE, 20)),
    "few-files": ("open-files", "ulimit -n", (resource.RLIMIT_NOFILE, 9)),
    "processes": ("processes", "ulimit -u", (resource.RLIMIT_NPROC, 1)),
    "memory": ("memory", "ulimit -v", (resource.RLIMIT_AS, 40 << 20)),
    "gone": ("workdir", "cd /", None),
    "shut": ("workdir", "-w DIR", None),
}


@pytest.mark.parametrize("what", AROUND)
def test_tells_what_the_shell_has_set(box, what):
    row, hint, limit = AROUND[what]
    if limit and limit[0] == resource.RLIMIT_AS and sanitized.sanitizer(USBOX):
        cannot("limit the address space of sanitized programs, which want terabytes")
    place = box.dir / "place"
    place.mkdir()

    def before():
        if limit:
            resource.setrlimit(limit[0], (limit[1], limit[1]))
        else:
            os.chdir(place)
            place.chmod(0)
            if what == "gone":
                place.rmdir()

    for verb in (["doctor", "--json"], ["run", "--rm", "--network=none", "--userns=self", "--", "true"]):
        proc = subprocess.run([USBOX, *verb], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
                              preexec_fn=before)
        if verb[0] == "doctor":
            assert proc.returncode == 1, proc
            assert [name for name, state in states(proc.stdout).items() if state == "missing"] == [row], proc.stdout
        else:
            assert proc.returncode == 125 and re.search(rf"^hint: .*{hint}", proc.stderr, re.M), proc
        place.mkdir(exist_ok=True)
        place.chmod(0o700)


def limited(box, resource_of, soft, *argv, **kw):
    return box.usbox(*argv, preexec_fn=lambda: resource.setrlimit(resource_of, (soft, resource.getrlimit(resource_of)[1])), **kw)


def test_the_shell_s_limit_on_file_sizes_is_an_error(box):
    """Not a signal that ends us without a word; but the command's own files meet it as anywhere."""
    with open(box.dir / "report", "w", encoding="utf-8") as report:
        result = limited(box, resource.RLIMIT_FSIZE, 0, "doctor", stdout=report)
    assert result.rc == 125 and "File too large" in result.err, result
    assert_refused(limited(box, resource.RLIMIT_FSIZE, 0, "run", "--rm", "--network=none", "--", "true"), "file too large", "ulimit -f")
    result = limited(box, resource.RLIMIT_FSIZE, 1 << 20, "run", "--rm", "--network=none", "--", "sh", "-c", "exec head -c 2000000 /dev/zero >/tmp/x")
    assert result.rc == 128 + signal.SIGXFSZ, result


def test_the_shell_s_limit_on_data_is_named(box):
    if sanitized.sanitizer(BUILD / "fsoverlay" / "usbox-fs"):
        cannot("limit the memory of sanitized programs, which want much of it")
    result = limited(box, resource.RLIMIT_DATA, 1 << 20, "run", "--rm", "--network=none", "--userns=self", "--", "true")
    assert result.rc == 125 and re.search("^hint: .*ulimit -d", result.err, re.M), result


@pytest.mark.parametrize("kind", ["user", "mnt", "uts", "time"])
def test_a_limit_is_named_as_the_one_it_is(box, kind):
    script = f'echo 0 >/proc/sys/user/max_{kind}_namespaces && exec "$@"'
    run = subprocess.run(["unshare", "-Ur", "sh", "-c", script, "sh", USBOX, "run", "--rm", "--", "true"], env=box.env, cwd=box.dir,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 125 and f"sudo sysctl user.max_{kind}_namespaces=15000" in run.stderr, run


# One call each, by its number on x86-64 and where the kernel's generic table is in use; the check that must tell.
REFUSED = {"clone3": (435, 435, "syscalls"), "close_range": (436, 436, "syscalls"), "fsconfig": (431, 431, "syscalls"), "signalfd4": (289, 74, "syscalls"),
           "openat2": (437, 437, "syscalls"), "move_mount": (429, 429, "syscalls"), "umount2": (166, 39, "syscalls"), "pivot_root": (155, 41, "syscalls"), "setns": (308, 268, "syscalls"),
           "seccomp": (317, 277, "seccomp"), "landlock_create_ruleset": (444, 444, "landlock"), "landlock_restrict_self": (446, 446, "landlock")}

# As a container's filter: argv is a call's number, 0 for none, an errno, and a command.
FILTER = r"""
import ctypes, os, struct, sys
number, refusal = int(sys.argv[1]), int(sys.argv[2])
code = b"".join(struct.pack("HBBI", *line) for line in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | refusal), (6, 0, 0, 0x7fff0000)))
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and (number == 0 or libc.prctl(22, 2, program) == 0)
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.parametrize("call", [None, *REFUSED])
def test_tells_what_a_filter_refuses(box, call):
    """The kernel says EPERM itself to some of these, where there is no capability."""
    def filtered(*argv):
        number = REFUSED[call][platform.machine() != "x86_64"] if call else 0
        return subprocess.run([sys.executable, "-c", FILTER, str(number), str(errno.EPERM), USBOX, *argv], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False)

    doctor, run = filtered("doctor", "--json"), filtered("run", "--rm", "--", "true")
    if not call:
        assert (doctor.returncode, run.returncode) == (0, 0), (doctor, run)
        return
    (row,) = [check for check in json.loads(doctor.stdout) if check["state"] == "missing" and check["id"] == REFUSED[call][2]]
    assert "filter" in row["means"] and row["mend"], row
    assert (doctor.returncode, run.returncode) == (1, 125), run
    if row["id"] == "syscalls":
        # Whoever meets it first, and however much of that is seen: what it comes from is said.
        assert call in row["found"] and re.search(rf"^usbox: .*\nhint: .* refuses {call}, without which there is no box: .", run.stderr, re.M), (row, run.stderr)


def test_root_without_capabilities_is_told_which_it_wants(box):
    """As of a container that drops them all."""
    said = [subprocess.run(["unshare", "-Ur", "setpriv", "--bounding-set=-all", USBOX, *argv], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60, check=False)
            for argv in (["run", "--rm", "--network=none", "--", "true"], ["doctor", "--json"])]
    assert said[0].returncode == 125 and "SETFCAP" in said[0].stderr, said[0]
    assert said[0].stderr.startswith("usbox: user: write uid_map: Operation not permitted\nhint: root without capabilities"), said[0]
    (row,) = [check for check in json.loads(said[1].stdout) if check["id"] == "userns"]
    assert row["state"] == "missing" and "SETFCAP" in row["mend"], row
