# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter, probed live inside: what it refuses, what ordinary programs still get."""
import json
import platform

import pytest

from conftest import assert_refused, cannot

EPERM = ("add_key", "keyctl_session", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
         "io_uring_register", "open_by_handle_at", "name_to_handle_at", "quotactl", "fanotify_init", "kcmp", "pidfd_getfd",
         "process_madvise", "vm_read_init", "set_mempolicy", "mbind", "move_pages", "mount_tmpfs", "mount_proc", "mount_bind",
         "remount_root", "umount_proc", "umount_root", "pivot_root", "fsopen", "fspick", "open_tree_clone", "move_mount",
         "mount_setattr", "unshare_user", "unshare_mount", "unshare_net", "clone_user", "kexec_load", "init_module", "acct", "swapon", "reboot",
         "syslog", "clock_settime", "vhangup", "sethostname", "setdomainname", "chroot", "personality_compat",
         "tiocsti", "tiocsti_high_bits", "tioclinux", "tiocsetd", "tioccons", "chmod_setuid")
IS_X86 = platform.machine() == "x86_64"
X86 = ("modify_ldt", "iopl", "ioperm")  # other machines have no such calls
SOCKETS_REFUSED = ("socket_inet_raw", "socket_packet", "socket_vsock", "socket_alg", "socket_audit", "socket_netfilter")
ALLOWED = ("clone_plain", "socket_unix", "socket_inet", "socket_route")


@pytest.mark.slice
def test_refused_calls(box):
    results = box.probe(*EPERM, *X86)
    assert {n: r for n, r in results.items() if r != ("EPERM" if n not in X86 or IS_X86 else "ENOSYS")} == {}


def test_refused_sockets(box):
    results = box.probe(*SOCKETS_REFUSED)
    assert {n: r for n, r in results.items() if r not in ("EPERM", "EAFNOSUPPORT", "EPROTONOSUPPORT", "EACCES")} == {}


def test_allowed_calls(box):
    assert set(box.probe(*ALLOWED).values()) == {"ok"}


def test_unknown_calls_are_enosys(box):
    assert box.probe("unknown_call", "clone3_none") == {"unknown_call": "ENOSYS", "clone3_none": "ENOSYS"}


def test_no_set_id_bits(box):
    results = box.probe("chmod_setuid", "create_setuid", "setuid_stored")
    assert results["setuid_stored"] == "EPERM", results
    assert "EPERM" == results["chmod_setuid"], results


def test_foreign_entries_are_closed(box):
    """x32 numbers and int 0x80 from a 64-bit program."""
    results = box.probe("x32_getpid", "int80_getpid", "int80_unshare_user", "int80_keyctl")
    assert "ok" not in results.values(), results


def test_32bit_where_asked_is_as_tight(box):
    if not IS_X86:
        cannot("run 32-bit calls of x86")
    results = box.probe("x32_getpid", "int80_getpid", "int80_unshare_user", "int80_keyctl", options=["--seccomp=default+32bit"])
    assert results["int80_getpid"] == "ok"
    assert [results[n] for n in ("x32_getpid", "int80_unshare_user", "int80_keyctl")].count("ok") == 0, results


def test_filter_is_on_everything_inside(box):
    out = box.sh("grep -h ^Seccomp: /proc/[0-9]*/status").lines()
    assert len(out) >= 2 and set(out) == {"Seccomp:\t2"}, out


def test_filter_off_where_asked(box):
    assert box.sh("grep ^Seccomp: /proc/self/status", "--seccomp=off").ok().out == "Seccomp:\t0\n"
    assert box.probe("personality_compat", options=["--seccomp=off"]) == {"personality_compat": "ok"}


def test_filter_from_an_oci_profile(box):
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["sync"], "action": "SCMP_ACT_ALLOW"},
                            {"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                            {"names": ["personality"], "action": "SCMP_ACT_ERRNO",
                             "args": [{"index": 0, "value": 0x0400000, "op": "SCMP_CMP_EQ"}]}]}
    path = box.write("oci.json", json.dumps(profile))
    assert box.probe("personality_compat", options=[f"--seccomp={path}"]) == {"personality_compat": "EPERM"}
    out = box.python("import os\ntry:\n  print(os.getsid(0))\nexcept OSError as e:\n  print(e.errno)", f"--seccomp={path}").ok().out
    assert out == "38\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"defaultAction": "SCMP_ACT_MAYBE"}', '{"syscalls": 3, "defaultAction": "SCMP_ACT_ALLOW"}',
                                  '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[7],"action":"SCMP_ACT_ERRNO"}]}'])
def test_bad_profiles_stop_the_run(box, text):
    path = box.write("bad.json", text)
    assert_refused(box.run(f"--seccomp={path}", "--", "true"), "bad.json", hint=False)


def test_missing_profile(box):
    assert_refused(box.run("--seccomp=/no/such/file.json", "--", "true"), "/no/such/file.json", hint=False)


def test_threads_and_the_rest_of_ordinary_life(box):
    script = """
import concurrent.futures, subprocess, socket, tempfile, os, select, signal, mmap
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    assert sum(pool.map(lambda n: n * n, range(1000))) == 332833500
assert subprocess.run(["cat"], input=b"x", capture_output=True, check=True).stdout == b"x"
a, b = socket.socketpair(); a.send(b"1"); assert b.recv(1) == b"1"
with tempfile.TemporaryFile() as f:
    f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[0] = 1
select.epoll().close()
fd = os.memfd_create("x"); os.write(fd, b"y")
os.posix_fallocate(os.open("/tmp/f", os.O_CREAT | os.O_RDWR), 0, 4096)
os.setpriority(os.PRIO_PROCESS, 0, 19); os.sched_yield(); os.getrandom(8)
print("fine")
"""
    assert box.python(script).ok().out == "fine\n"
