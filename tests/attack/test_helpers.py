# SPDX-License-Identifier: LGPL-2.1-or-later
"""What usbox-net and usbox-fs would reach if they were taken over: probes from inside them (inside.c), before they confine themselves, when
each must come through, and afterwards."""
import ctypes
import os
import pathlib
import subprocess

import pytest

import probes
from conftest import BUILD, SLOW, USBOX, WORK, cannot, has_subids, wait_until
from sandboxes import Tools
from test_probes import provable
from test_usbox_net_netns import Target
from world import World

INSIDE = BUILD / "tests" / "attack" / "inside.so"
# What needs no process of its own, and leaves the helper as it is.
READ = ["file_home", "file_outside", "file_tmp", "file_var_tmp", "file_shm", "file_runtime", "proc_cmdline", "interrupts", "key_users"]
WRITE = [p.name for p in probes.GROUPS["Writes to the host"]] + ["setuid_file", "setgid_file", "device_null_made", "overlay_redirect"]
PROCESSES = ["proc_environ", "proc_cwd", "proc_root", "proc_fd", "proc_mem", "vm_read", "vm_write", "ptrace", "victim_descriptor", "victim_compared", "victim_pidfd",
             "signal_kill", "signal_tgkill", "signal_queue", "signal_pidfd", "signal_async", "slow_priority", "slow_io_of_user", "limit_process"]
START = ["clone_plain", "clone_user", "call_clone3"]
TALK = ["unix_work", "unix_tmp", "unix_session_bus", "unix_agent", "unix_x11_abstract", "unix_abstract", "fifo_work", "fifo_tmp", "sockets_listed"]
NETWORK = ["loopback", "loopback_udp", "host_address"]
IPC = ["shm_key", "shm_id", "msg_receive", "mqueue", "sem_set", "keys_session", "keys_user", "keys_number", "keys_add"]
KERNEL = ["call_io_uring", "call_userfaultfd", "call_fanotify", "call_perf", "socket_netfilter", "ns_parent", "int80_getpid", "int80_keyctl"]
ALL = READ + WRITE + PROCESSES + START + TALK + NETWORK + IPC + KERNEL


@pytest.fixture
def world():
    world = World(WORK, pathlib.Path(os.environ["HOME"]), BUILD / "tests" / "attack" / "probe")
    yield world
    world.close()


def report(world):
    return world.top / "report"


def environment(world, process, spared):
    report(world).write_bytes(bytes(1 << 16))
    targets = [word for word in world.targets(sandboxed=False) if word != "--with"]
    return {"LD_PRELOAD": str(INSIDE), "ASAN_OPTIONS": "verify_asan_link_order=0", "USBOX_ATTACK_PROCESS": process, "USBOX_ATTACK_INSIDE": " ".join(ALL), "USBOX_ATTACK_SPARED": spared, "USBOX_ATTACK_WITH": "\n".join(targets),
            "USBOX_ATTACK_REPORT": str(report(world))}


def lines(world):
    """Moment, name and result of each attempt so far."""
    return [line.split(" ")[:3] for line in report(world).read_text(encoding="ascii").strip("\0").splitlines()]


def await_report(world):
    """It is written while the helper goes on starting, and box or namespace are there already."""
    assert wait_until(lambda: len([moment for moment, *_ in lines(world) if moment == "after"]) == len(ALL), 120), lines(world)


def preloaded(world, process, spared=""):
    """Who starts a helper gives it no environment, so in a directory of helpers this one is a script, which puts there what is to be in it."""
    libexec = pathlib.Path(Tools(BUILD, USBOX).libexec(world))
    name = process.removesuffix("-agent")
    path = libexec / (name + "-stack" if name == "usbox-net" else name)
    real = str(path.resolve() if path.name != "usbox-fs" else INSIDE.with_name("usbox-fs"))  # which is without the dynamic linker
    path.unlink()
    path.write_text(f"#!/usr/bin/python3\nimport os, sys\nos.execve({real!r}, [{real!r}, *sys.argv[1:]], {environment(world, process, spared)!r})\n", encoding="utf-8")
    path.chmod(0o755)
    return {**os.environ, "USBOX_LIBEXECDIR": str(libexec)}


def by_itself(world, process):
    """usbox-net --netns PID; with a port, for which it has its agent"""
    target = Target()
    ready, theirs = os.pipe()
    try:
        with open(ready, "rb") as said:
            net = subprocess.Popen([BUILD / "netstack" / "usbox-net", "--netns", str(target.pid), "--publish=0:80", "--ready-fd", str(theirs)],
                                   pass_fds=[theirs], env=preloaded(world, process), cwd=world.dir)
            os.close(theirs)
            assert said.read() == b"1"
            await_report(world)
            net.terminate()
            assert net.wait(60 * SLOW) == 0
    finally:
        target.end()


def of_a_box(world, process, spared=""):
    env = {**preloaded(world, process, spared), "XDG_DATA_HOME": str(world.data)}
    more = ["--best-effort=confine"] if "unshare" in spared else []
    with subprocess.Popen([USBOX, "run", "--rm", *more, "--", "cat"], env=env, cwd=world.dir, stdin=subprocess.PIPE) as box:
        await_report(world)
        box.stdin.close()
        assert box.wait(60 * SLOW) == 0


# Modes, times and attributes of what is the caller's: usbox-fs needs the calls for the box's files, and neither Landlock nor a filter looks at
# which file it is. docs/security.md says so.
ATTRIBUTES = ["write_chmod_at", "write_times", "write_xattr", "write_acl"]
# What an agent cannot do even before: it is in another user namespace by then, or has no processes left to make.
ENTERED = ["proc_environ", "proc_cwd", "proc_root", "proc_fd", "proc_mem", "vm_read", "vm_write", "ptrace", "victim_descriptor", "victim_compared", "slow_io_of_user",
           "clone_user", "call_clone3", "keys_user"]
# And usbox-net's is in the box's network namespace as well; who is in no user namespace but that one sees none above others.
ENTERED_NETWORK = [*NETWORK, "unix_x11_abstract", "unix_abstract", "sockets_listed", "ns_parent"]
# Process, and where it is taken over → what it needs for its work, what it cannot do even before.
HELPERS = {("usbox-net", by_itself): (NETWORK, []),
           ("usbox-net-agent", by_itself): ([], ENTERED + ENTERED_NETWORK),
           ("usbox-net", of_a_box): (NETWORK, []),
           ("usbox-net-agent", of_a_box): ([], ENTERED + ENTERED_NETWORK),
           ("usbox-fs", of_a_box): (READ + ATTRIBUTES + ["write_times_fd", "write_xattr_at", "sockets_listed"], []),
           ("usbox-fs-agent", of_a_box): (ATTRIBUTES, ENTERED)}


@pytest.mark.parametrize("process,way", [pytest.param(*key, marks=[pytest.mark.slice] if key[0] == "usbox-net" else []) for key in HELPERS],
                         ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_what_a_helper_reaches(world, process, way):
    if way is of_a_box and not has_subids():
        cannot("serve a root by usbox-fs: no newuidmap or no range in /etc/subuid")
    way(world, process)
    said = {"before": {}, "after": {}}
    for moment, name, result in lines(world):
        said[moment][name] = result
    needed, never = HELPERS[process, way]
    here = {name for name in ALL if name not in probes.PROBES or provable(probes.PROBES[name])}
    came = {moment: {name for name, result in results.items() if result == "ok"} for moment, results in said.items()}
    assert here - came["before"] - set(never) == set(), said["before"]
    assert came["after"] - set(needed) == set()


# What Landlock, as usbox-net has it, knows nothing of.
NO_ACCESS = [*ATTRIBUTES, "write_chmod", "write_chmod_opath", "write_times_fd", "write_xattr_at", "write_truncate", "write_flags", "write_flags_at", "setuid_file", "setgid_file",
             "overlay_redirect"]
# Walls that are taken away → what those that are left keep from usbox-net by themselves.
WALLS = {"seccomp landlock": [*READ, *WRITE, "unix_work", "unix_tmp", "unix_session_bus", "unix_agent", "fifo_work", "fifo_tmp", "shm_key", "shm_id", "msg_receive", "sem_set"],
         "seccomp unshare": [name for name in [*READ, *WRITE, "fifo_work", "fifo_tmp"] if name not in NO_ACCESS]}


@pytest.mark.parametrize("spared", WALLS)
def test_each_wall_of_the_network_helper(world, spared):
    """Files are out of its reach by an empty root, and by Landlock where it has none; the filter covers both."""
    if "unshare" in spared and ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), 1) < 1:  # landlock_create_ruleset
        cannot("confine by Landlock")
    of_a_box(world, "usbox-net", spared)
    came = {name for moment, name, result in lines(world) if moment == "after" and result == "ok"}
    assert came & set(WALLS[spared]) == set()
    # The filter is not there.
    assert "slow_priority" in came
