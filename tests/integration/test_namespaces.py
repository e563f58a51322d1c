# SPDX-License-Identifier: LGPL-2.1-or-later
"""The eight namespaces, the two user namespaces, --nested, clocks."""
import ctypes
import json
import os
import pwd
import shutil
import subprocess
import time

import pytest

from conftest import BUILD, USBOX, assert_refused, cannot

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

# What would undo the box's walls, were it allowed: by the namespaces alone, whatever the filter does.
WALLS = ("mount_tmpfs", "mount_proc", "mount_bind", "remount_root", "remount_proc_sys", "mount_shared", "umount_proc",
         "umount_root", "umount_tmp", "pivot_root", "fsopen", "fspick", "open_tree_clone", "move_mount", "mount_setattr",
         "sethostname", "setdomainname", "route_ioctl", "route_netlink", "link_down", "clock_settime",
         "setns_init_user", "setns_init_mnt", "setns_outer_user", "ptrace_init", "vm_read_init", "open_init_mem",
         "mknod_disk", "socket_packet", "reboot", "swapon", "acct")


def refused(results):
    return {name: how for name, how in results.items() if how == "ok"}


@pytest.mark.slice
def test_every_namespace_is_another(box):
    lines = box.sh("for n in " + " ".join(KINDS) + "; do echo $n $(readlink /proc/self/ns/$n); done").lines()
    inside = dict(line.split(" ", 1) for line in lines)
    for kind in KINDS:
        if kind == "time":
            continue  # only with --time-offset is there something to separate
        assert inside[kind].startswith(kind + ":["), inside
        assert inside[kind] != os.readlink(f"/proc/self/ns/{kind}"), kind


@pytest.mark.parametrize("option,kind", [("--ipc", "ipc"), ("--uts", "uts"), ("--pid", "pid"), ("--cgroupns", "cgroup")])
def test_host_namespaces_where_asked(box, option, kind):
    out = box.sh(f"readlink /proc/self/ns/{kind}", f"{option}=host").ok().out.strip()
    assert out == os.readlink(f"/proc/self/ns/{kind}")
    out = box.sh(f"readlink /proc/self/ns/{kind}", f"{option}=private").ok().out.strip()
    assert out != os.readlink(f"/proc/self/ns/{kind}")


def test_network_host_is_the_hosts(box):
    assert box.sh("readlink /proc/self/ns/net", "--network=host").ok().out.strip() == os.readlink("/proc/self/ns/net")


# In a mount namespace whose mounts are shared, as those of a host with systemd are; what is mounted there after the box has begun.
MOUNTED_LATER = """
usbox=$1; shift
"$usbox" run --rm --userns=self --network=none -v "$PWD/given:/mnt" "$@" -- sh -ec '
    grep "shared:\\|master:" /proc/self/mountinfo >/mnt/shared || :
    echo up >/mnt/up; while [ ! -e /mnt/go ]; do sleep 0.05; done; ls later given/later /mnt/later' &
while [ ! -e given/up ]; do kill -0 $!; sleep 0.05; done
for place in later given/later; do mount -t tmpfs none $place; echo >$place/mounted; done
touch given/go
wait $!
"""


@pytest.mark.slice
@pytest.mark.parametrize("overlay", ["fuse", "kernel", "none"])
def test_what_is_mounted_later_on_the_host_is_not_there(box, overlay):
    for name in ("later", "given", "given/later"):
        (box.dir / name).mkdir()
    argv = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "--propagation", "shared", "sh", "-euc", MOUNTED_LATER, "sh", USBOX, f"--overlay={overlay}"]
    done = subprocess.run(argv, env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "mounted" not in done.stdout and done.stdout.count("later:") == 3, done
    assert (box.dir / "given" / "shared").read_text() == ""


def test_sys_shows_the_boxs_network(box):
    """init makes /sys, the payload's process the network namespace: init must have entered it by then."""
    assert box.sh("ls /sys/class/net", "--network=none").lines() == ["lo"]
    assert box.sh("cd /proc/sys/net/ipv4; cat ping_group_range", "--network=none").lines() == [f"{os.getgid()}\t{os.getgid()}"]


def test_caller_keeps_ids_and_name(box):
    me = pwd.getpwuid(os.getuid())
    lines = box.sh("id -u; id -g; id -un; echo $HOME; echo $USER").lines()
    assert lines == [str(me.pw_uid), str(me.pw_gid), me.pw_name, me.pw_dir, me.pw_name]


def test_userns_self_maps_one_id(box):
    maps = box.sh("cat /proc/self/uid_map; cat /proc/self/gid_map", "--userns=self").lines()
    assert maps[0].split() == [str(os.getuid()), str(os.getuid()), "1"]
    assert maps[1].split() == [str(os.getgid()), str(os.getgid()), "1"]


def test_own_files_are_own(box):
    box.write("mine", "x")
    assert box.sh("stat -c %u:%g mine; stat -c %u /etc/passwd").lines()[0] == f"{os.getuid()}:{os.getgid()}"


def test_supplementary_groups(box):
    """They are kept: dropping one would open files that deny a group. An unmapped one shows as the overflow id."""
    inside = box.sh("id -G").ok().out.split()
    assert len(set(inside)) == (1 if len(os.getgroups() or [0]) <= 1 else len(set(inside)))
    status = box.sh("grep ^Groups: /proc/self/status").ok().out.split()[1:]
    assert len(status) == len(os.getgroups()), status


def test_user_root_with_subids(box, subids):
    lines = box.sh("id -u; id -g; cat /proc/self/uid_map", "--user=root").lines()
    assert lines[:2] == ["0", "0"]
    assert sum(int(line.split()[2]) for line in lines[2:]) >= 65536, lines


def test_root_can_use_its_ids(box, subids):
    out = box.sh("touch f && chown 1000:1000 f && stat -c %u:%g f && chmod 4755 f && stat -c %a f && "
                 "setpriv --reuid 33 --regid 33 --clear-groups id -u", "--user=root").lines()
    assert out == ["1000:1000", "4755", "33"]


def test_user_number_and_group(box, subids):
    out = box.sh("id -u; id -g", "--user=1234:4321", "--userns=subids", "-w", "/").lines()
    assert out == ["1234", "4321"]


def test_explicit_maps(box, subids):
    first = next(int(x.split(":")[1]) for x in open("/etc/subuid", encoding="utf-8")
                 if x.split(":")[0] in (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())))
    gfirst = next(int(x.split(":")[1]) for x in open("/etc/subgid", encoding="utf-8")
                  if x.split(":")[0] in (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())))
    out = box.sh("id -u; id -g; cat /proc/self/uid_map | tr -s ' '", f"--uidmap=0:{os.getuid()}:1", f"--uidmap=1:{first}:100",
                 f"--gidmap=0:{os.getgid()}:1", f"--gidmap=1:{gfirst}:100", "--user=0:0").lines()
    assert out[:2] == ["0", "0"]
    assert sum(int(line.split()[2]) for line in out[2:]) == 101, out


def test_walls_hold_for_an_ordinary_payload(box):
    assert refused(box.probe(*WALLS, options=["--seccomp=off"])) == {}


@pytest.mark.slice
def test_walls_hold_for_root_without_the_filter(box, subids):
    """The second user namespace is what refuses: no capability reaches what the first one owns."""
    results = box.probe(*WALLS, options=["--user=root", "--seccomp=off"])
    assert refused(results) == {}, results


def test_walls_hold_for_root_with_every_capability_asked_for(box, subids):
    results = box.probe(*WALLS, options=["--user=root", "--seccomp=off", "--cap-add=all"])
    assert refused(results) == {}, results


def test_walls_hold_for_root_with_the_filter(box, subids):
    assert refused(box.probe(*WALLS, options=["--user=root"])) == {}


def test_walls_hold_in_a_nested_box(box, subids):
    walls = [w for w in WALLS if not w.startswith("setns")]
    assert refused(box.probe(*walls, options=["--user=root", "--nested", "--seccomp=off"])) == {}


def test_the_payloads_user_namespace_is_the_inner_one(box):
    script = """
import fcntl, os
net = os.open("/proc/self/ns/net", os.O_RDONLY)
try:
    owner = fcntl.ioctl(net, 0xb701)
    print("seen", os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino)
except OSError as e:
    print("refused", e.errno)
"""
    out = box.python(script).ok().out.strip()
    assert out in ("seen False", "refused 1"), out


def test_a_box_in_a_box(box):
    """By --nested, the two devices, and a place for boxes that is no overlay. The filter around closes keyctl: that is said."""
    # Where one program is another build's, its directory here is a link to it.
    built = {BUILD, *(path.resolve() for path in BUILD.iterdir() if path.is_symlink() and path.is_dir())}
    outer = ["--rm", "--nested", "--device=/dev/fuse", "--device=/dev/net/tun", *(f"--ro={path}" for path in sorted(built)), "--ro", box.libexec,
             "-e", f"USBOX_LIBEXECDIR={box.libexec}"]
    moved = [*outer, "-e", "XDG_DATA_HOME=/tmp/usbox"]
    run = f"{USBOX} run --best-effort=keyring"
    script = f"""
echo there >old
{run} -- sh -c 'rm old; echo here >new; cat /proc/1/comm; ls -d /sys/class/net/tap0; ls /sys/firmware | wc -l' 2>&1 || exit
cat old; ls new
{USBOX} diff last && {USBOX} commit last 2>&1 && cat new && ls old
{run} --rm --overlay=kernel --network=none -- sh -c 'touch /usr/x || echo refused'
"""
    result = box.run(*moved, "--", "sh", "-c", script)
    lines = [line for line in result.out.splitlines() if "nothing of it is on the host" not in line]
    assert lines == ["usbox-init", "/sys/class/net/tap0", "0", "there", f"A  {box.dir}/new", f"D  {box.dir}/old",
                     "usbox: 2 changes carried to the host, 0 failed, 0 passed over", "here", "refused"], result

    assert_refused(box.run(*moved, "--", USBOX, "run", "--", "true"), "session keyring", "--best-effort=keyring")
    assert_refused(box.run(*outer, "--", USBOX, "run", "--best-effort=keyring", "--", "true"), "mark the upper directory", "XDG_DATA_HOME")
    states = {check["id"]: check["state"] for check in json.loads(box.run(*moved, "--", USBOX, "doctor", "--json").out)}
    assert [states[name] for name in ("proc", "sysfs", "data", "overlay", "fuse", "tun", "userns")] == ["ok"] * 7, states


def test_no_user_namespaces_without_nested(box):
    results = box.probe("unshare_user", "clone_user", "clone_plain", "clone3_none")
    assert results == {"unshare_user": "EPERM", "clone_user": "EPERM", "clone_plain": "ok", "clone3_none": "ENOSYS"}


@pytest.mark.parametrize("command", [
    ["unshare", "-Ur", "sh", "-c", "id -u"],
    ["unshare", "-Urmpf", "--mount-proc", "sh", "-c", "mount -t tmpfs t /tmp && id -u"],
    ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--uid", "0", "id", "-u"],
])
def test_nested_lets_other_sandboxes_run(box, command):
    result = box.run("--rm", "--nested", "--", *command)
    assert result.ok().out.strip() == "0", result
    assert box.run("--rm", "--", *command).rc != 0


def test_chromium_with_its_own_sandbox(box):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        cannot("run chromium: it is not installed")
    page = box.write("page.html", "<html><body><p id=x></p><script>document.getElementById('x').textContent = 6 * 7;</script>")
    result = box.run("--rm", "--nested", "--network=none", "-e", "HOME=/tmp", "--", chromium, "--headless", "--disable-gpu",
                     "--disable-dev-shm-usage", "--user-data-dir=/tmp/c", "--virtual-time-budget=2000", "--dump-dom",
                     f"file://{page}", timeout=120)
    assert '<p id="x">42</p>' in result.ok().out, result
    # And it did use its sandbox: with --nested missing it says so and stops.
    assert "No usable sandbox" in box.run("--rm", "--network=none", "-e", "HOME=/tmp", "--", chromium, "--headless",
                                          "--user-data-dir=/tmp/c", "--dump-dom", f"file://{page}", timeout=120).err


@pytest.mark.slice
def test_time_offset(box):
    script = "import time; print(open('/proc/uptime').read().split()[0], time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))"
    now = (time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))
    up, mono, boot = map(float, box.python(script, "--time-offset=monotonic=86400,boottime=172800").ok().out.split())
    assert 86400 <= mono - now[0] < 86400 + 30
    assert 172800 <= boot - now[1] < 172800 + 30
    assert abs(up - boot) < 5
    up, mono, _boot = map(float, box.python(script).ok().out.split())
    assert 0 <= mono - now[0] < 60
    spec = box.run("--time-offset=monotonic=86400", "--time-offset=boottime=5", "--dry-run=json", "--", "true").json()
    assert (spec["namespaces"]["monotonic_offset"], spec["namespaces"]["boottime_offset"]) == (0, 5)  # the last one counts, as a whole


def test_time_offset_is_checked(box):
    assert_refused(box.run("--time-offset=monotonic=x", "--", "true"), "--time-offset", hint=False)
    assert_refused(box.run("--time-offset=wall=3", "--", "true"), "--time-offset", hint=False)
    assert_refused(box.run("--time-offset=boottime=-4000000000", "--", "true"), "clock", hint=False)


def test_hostname(box):
    assert box.sh("hostname; cat /proc/sys/kernel/hostname", "--hostname=laurel").lines() == ["laurel", "laurel"]
    result = box.sh("getent hosts laurel", "--hostname=laurel")
    assert result.rc == 0, result
    assert box.sh("uname -n").ok().out.strip() != ""


def test_hostname_is_checked(box):
    assert_refused(box.run("--hostname=" + "a" * 65, "--", "true"), "--hostname", hint=False)
    assert_refused(box.run("--hostname=a b", "--", "true"), "--hostname", hint=False)


def test_the_callers_quota_of_inotify_is_not_used_up(box):
    """What a box takes counts for its owner on the host too, so its own limit lies below the owner's."""
    limit = int(open("/proc/sys/fs/inotify/max_user_instances", encoding="utf-8").read())
    script = f"""
import ctypes, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, {limit} + 100), hard))
libc = ctypes.CDLL(None, use_errno=True)
count = 0
while count <= {limit} and libc.inotify_init() >= 0:
    count += 1
print(count, flush=True)
input()
"""
    proc = box.popen("run", "--rm", "--", "/usr/bin/python3", "-c", script, stdin=subprocess.PIPE)
    taken = int(proc.stdout.readline())
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init()
    proc.communicate(b"\n", timeout=20)
    assert 0 < taken < limit and fd >= 0, (taken, limit)
    os.close(fd)
