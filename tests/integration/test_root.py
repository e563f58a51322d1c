# SPDX-License-Identifier: LGPL-2.1-or-later
"""The root that a box sees: the host copy-on-write, and what of the host is not there."""
import os
import pathlib
import pwd
import socket
import stat
import subprocess

import pytest

from conftest import HOME, assert_refused, cannot, snapshot

pytestmark = pytest.mark.usefixtures("both_overlays")

WRITES = """
echo changed >>existing; echo new >new-file; mkdir -p d/e/f; echo x >d/e/f/g; rm removed; rm -r dir; mv moved moved-to
ln -s nowhere link; ln existing hard; chmod 600 moded; touch -d 2001-01-01 timed; truncate -s 0 emptied; : >"name with spaces"
mkfifo fifo; rm -f linked; mkdir linked; setfattr -n user.k -v v existing 2>/dev/null; sync
echo done
"""


def fill(box):
    for name in ("existing", "removed", "moved", "moded", "timed", "emptied", "linked"):
        box.write(name, f"content of {name}\n")
    box.write("dir/a/b", "b\n")
    box.write("dir/c", "c\n")


@pytest.mark.slice
def test_nothing_on_the_host_changes(box):
    fill(box)
    before = snapshot(box.dir)
    assert box.sh(WRITES).ok().out == "done\n"
    assert snapshot(box.dir) == before


def test_nothing_on_the_host_changes_as_root(box, subids, both_overlays):
    fill(box)
    before = snapshot(box.dir)
    # The kernel's overlay cannot give the box's root what belongs to an id that it does not map: the host's root.
    written = "1" if both_overlays == "fuse" else "0"
    passwd = os.stat("/etc/passwd").st_mtime_ns
    assert box.sh(WRITES + "chown -R 5:5 . ; (echo x:x:0:0::/: >>/etc/passwd) 2>/dev/null; grep -c ^x: /etc/passwd || true", "--user=root", timeout=90).lines() == ["done", written]
    assert snapshot(box.dir) == before
    assert os.stat("/etc/passwd").st_mtime_ns == passwd


def test_the_box_sees_what_it_wrote(box):
    fill(box)
    out = box.sh(WRITES + "cat existing d/e/f/g moved-to; test -e removed || echo gone; test -e dir || echo dir gone;"
                 "test -d linked && echo dir now; stat -c %a moded; stat -c %Y timed; stat -c %s emptied; cat hard | head -1").lines()
    assert out == ["done", "content of existing", "changed", "x", "content of moved", "gone", "dir gone", "dir now", "600",
                   str(int(subprocess.check_output(["date", "-d", "2001-01-01", "+%s"]))), "0", "content of existing"]


@pytest.mark.slice
def test_changes_are_kept_until_the_next_run(box):
    result = box.run("--", "sh", "-c", "echo kept >kept-file")
    assert result.rc == 0
    assert len(result.err.splitlines()) == 1 and "changed 1" in result.err and "usbox diff last" in result.err, result
    found = list(box.boxes.rglob("kept-file"))
    assert len(found) == 1 and found[0].read_text() == "kept\n"
    first = found[0]
    assert not list(box.boxes.glob("*/work/*")), "the overlay's work directory is of no use to a kept box"
    assert stat.S_IMODE(box.boxes.stat().st_mode) & 0o077 == 0 or stat.S_IMODE(os.stat(box.boxes.parent).st_mode) & 0o077 == 0
    box.run("--", "sh", "-c", "echo other >other-file").ok()
    assert not first.exists()
    assert len(os.listdir(box.boxes)) == 1


def test_changes_are_forgotten_by_a_run_without_overlay(no_kept):
    no_kept.run("--overlay=kernel", "--", "sh", "-c", "echo kept >kept-file").ok()
    assert len(os.listdir(no_kept.boxes)) == 1
    assert no_kept.run("--overlay=none", "--", "no-such-command").rc == 127
    assert len(os.listdir(no_kept.boxes)) == 1, "a run that never was forgets nothing"
    no_kept.run("--overlay=none", "--", "true").ok()
    assert os.listdir(no_kept.boxes) == []


def test_nothing_is_kept_with_rm(no_kept):
    result = no_kept.run("--rm", "--", "sh", "-c", "echo x >f")
    assert result.rc == 0 and result.err == ""


def test_nothing_is_kept_where_nothing_changed(no_kept):
    result = no_kept.run("--", "true")
    assert result.rc == 0 and result.err == ""


def test_changes_in_tmp_are_not_changes(no_kept):
    """/tmp, /run, /dev/shm are the box's own."""
    assert no_kept.run("--", "sh", "-c", "echo x | tee /tmp/x /dev/shm/x /run/x >/dev/null").ok().err == ""


def test_upper_has_no_set_id_bits(box):
    box.run("--", "sh", "-c", "cp /bin/true t; chmod 6755 t; cp -p /usr/bin/passwd t2; install -m 4755 /bin/true t3; true").ok()
    for path in box.boxes.rglob("t*"):
        assert path.lstat().st_mode & 0o6000 == 0, oct(path.lstat().st_mode)


def test_upper_is_private(box):
    box.run("--", "touch", "f").ok()
    for entry in box.boxes.iterdir():
        assert stat.S_IMODE(entry.stat().st_mode) == 0o700


def test_overlay_none_is_read_only(no_kept):
    out = no_kept.run("--overlay=none", "--", "sh", "-c", "touch f 2>&1; touch /etc/f 2>&1; cat /etc/hostname >/dev/null && echo readable; touch /tmp/f && echo tmp").out
    assert out.count("Read-only file system") == 2 and "readable" in out and "tmp" in out, out


def test_read_only(no_kept):
    out = no_kept.run("--read-only", "--", "sh", "-c", "touch f 2>&1; touch /tmp/f && echo tmp").out
    assert "Read-only file system" in out and "tmp\n" in out, out


def test_private_overlay_xattrs_are_refused(box, both_overlays):
    """A payload that writes the overlay's own marks would choose what the next reader of the upper layer sees. The kernel's overlay takes some and
    escapes their names, since 6.7."""
    out = box.python("""
import os
open("f", "w").close()
for name in ("user.overlay.opaque", "user.overlay.redirect", "user.overlay.whiteout", "trusted.overlay.opaque"):
    try:
        os.setxattr("f", name, b"y")
        print(name, name in os.listxattr("f") and "visible" or "hidden")
    except OSError as e:
        print(name, "refused")
""").ok().out
    lines = out.splitlines()
    assert len(lines) == 4 and (both_overlays == "kernel" or all(line.endswith(" refused") for line in lines)), out
    for upper in box.boxes.rglob("f"):
        assert not [x for x in os.listxattr(upper) if x in ("user.overlay.redirect", "user.overlay.whiteout")], out


def test_working_directory_is_kept(box):
    sub = box.dir / "a" / "b c"
    sub.mkdir(parents=True)
    assert box.run("--rm", "--", "pwd", cwd=sub).ok().out == f"{sub}\n"
    assert box.run("--rm", "-w", "/usr/bin", "--", "pwd").ok().out == "/usr/bin\n"


def test_workdir_below_the_working_directory(box):
    """-w leaves the working directory's tree where it is, if it names a place in it; else the tree is not shown."""
    box.write("dir/a", "a\n")
    for place in (".", "dir", box.dir, box.dir / "dir"):
        out = box.sh("pwd; cat dir/a a 2>/dev/null; true", f"--workdir={place}").ok().lines()
        assert out == [str((box.dir / place).resolve()), "a"], out
    assert box.sh(f"test -e {box.dir} || echo not there", "-w", "/").lines() == ["not there"]


def test_home_shows_the_working_directory_only(box):
    box.write("seen", "yes\n")
    out = box.sh(f"cat seen; ls -A {HOME}").lines()
    assert out[0] == "yes"
    allowed = {".cache", ".cargo", ".rustup", ".nvm", ".pyenv", ".rye", ".rbenv", ".sdkman", "go", ".local", ".gitconfig", ".config"}
    assert set(out[1:]) <= allowed | {pathlib.Path(box.dir).relative_to(HOME).parts[0]}, out


CREDENTIALS = [".ssh/usbox-canary", ".gnupg/usbox-canary", ".aws/usbox-canary", ".kube/usbox-canary", ".docker/usbox-canary",
               ".config/gcloud/usbox-canary", ".password-store/usbox-canary", ".mozilla/usbox-canary", ".local/share/keyrings/usbox-canary",
               ".azure/usbox-canary", ".config/chromium/usbox-canary", ".config/gh/usbox-canary"]


@pytest.mark.parametrize("mode", ["tools", "all", "empty"])
def test_credentials_do_not_exist(box, home_file, mode):
    paths = [home_file(p) for p in CREDENTIALS]
    single = [home_file(p) for p in (".netrc", ".npmrc", ".pypirc", ".git-credentials") if not (HOME / p).exists()]
    script = "".join(f"test -e {p} && echo SEEN {p}; " for p in paths + single) + "echo end"
    assert box.sh(script, f"--home={mode}").lines() == ["end"]


def test_home_all_shows_the_rest(box, home_file):
    other = home_file("usbox-other-file", mode=0o644)
    assert box.sh(f"cat {other}", "--home=all").ok().out == "usbox canary\n"
    assert box.sh(f"test -e {other} || echo none").ok().out == "none\n"


def test_toolchains_without_their_credentials(box, home_file):
    tool = home_file(".cargo/bin/usbox-tool", "#!/bin/sh\necho tool\n", 0o755)
    secret = HOME / ".cargo/credentials.toml"
    if not secret.exists():
        secret = home_file(".cargo/credentials.toml")
    assert box.sh(f"{tool}; test -e {secret} || echo hidden").lines() == ["tool", "hidden"]


KNOWN = [".nvm/versions/node/usbox-canary/etc/npmrc", ".pyenv/versions/usbox-canary/pip.conf", ".sdkman/candidates/maven/usbox-canary/conf/settings.xml"]
BY_NAME = [f".cargo/usbox-canary/deep/{name}" for name in (".netrc", ".npmrc", ".pypirc", "id_ed25519", ".ssh/config")]
OPEN = [".nvm/versions/node/usbox-canary/etc/other", ".cargo/usbox-canary/deep/netrc", ".cargo/usbox-canary/id_ed25519.pub"]


@pytest.mark.parametrize("mode", ["tools", "all"])
def test_credentials_deep_in_toolchains(box, both_overlays, home_file, mode):
    """By known places; and by names where each name is looked at. A working directory in a toolchain is shown as it is."""
    for name in KNOWN + BY_NAME + OPEN:
        home_file(name)
    hidden = KNOWN + (BY_NAME if both_overlays == "fuse" else [])
    there = [name for name in KNOWN + BY_NAME + OPEN if name not in hidden]
    script = 'cd "$0" && for f; do test -e "$f" && echo "$f"; done; find .cargo/usbox-canary -type f | sort; echo end'
    argv = ["--", "sh", "-c", script, HOME, *KNOWN, *BY_NAME, *OPEN]
    listed = sorted(name for name in there if name.startswith(".cargo"))
    assert box.run(f"--home={mode}", *argv).lines() == [*there, *listed, "end"]
    out = box.run(f"--home={mode}", *argv, cwd=HOME / ".cargo/usbox-canary").lines()
    assert set(out) == {*(name for name in there + BY_NAME), "end"}, out


def test_a_hidden_name_can_be_written(box, home_file):
    real = home_file(".ssh/usbox-canary")
    out = box.sh(f"mkdir -p {HOME}/.ssh && echo mine >{real} && cat {real}").ok().out
    assert out == "mine\n"
    assert real.read_text(encoding="utf-8") == "usbox canary\n"


def test_hide(box):
    box.write("secret.txt", "s")
    box.write("deep/secret dir/x", "s")
    out = box.sh("test -e secret.txt && echo SEEN; test -e 'deep/secret dir' && echo SEEN; ls deep; echo end",
                 f"--hide={box.dir}/secret.txt", f"--hide={box.dir}/deep/secret dir").lines()
    assert out == ["end"]
    assert (box.dir / "secret.txt").read_text(encoding="utf-8") == "s"


def test_hide_does_not_reach_into_a_given_tree(no_kept, both_overlays):
    """What --rw, --ro and -v give is bound, and no rule speaks of the names in it: to hide one is refused, and not forgotten."""
    box = no_kept
    box.write("tree/deep/.env", "secret\n")
    box.write("other/.env", "other\n")
    (box.dir / "link").symlink_to("tree/deep")
    tree = box.dir / "tree"
    names = [f"{tree}/deep/.env", "tree/deep/.env", "link/.env", "tree/not/yet"]
    if both_overlays == "fuse":
        names += ["**/.env", ".e*", f"{box.dir}/*/deep", f"{tree}/deep/.e*"]
    for tree_option in (["--rw", "tree"], ["--ro", "tree"], ["-v", f"{tree}:/given"], ["--rw", "."]):
        for name in names:
            result = box.run(*tree_option, "--hide", name, "--", "cat", "tree/deep/.env")
            assert_refused(result, name.removeprefix("link"), tree_option[0].removeprefix("-"), "--best-effort=hide")
            assert "secret" not in result.out, result
        given = "/given" if tree_option[0] == "-v" else "tree"
        assert box.run(*tree_option, "--hide=tree/deep/.env", "--best-effort=hide", "--", "cat", f"{given}/deep/.env").ok().out == "secret\n"
    # What lies elsewhere, and the tree itself, are hidden as ever.
    assert box.sh("ls other", "--rw=tree", "--hide=other/.env").lines() == []
    assert box.sh("ls -A other", "--rw=tree", "--hide=other", "--tmpfs", f"{box.dir}/other").lines() == []
    # A later mount on it, or on what it lies in, is an answer; an earlier one lies below the tree.
    cover = ["--ro-bind", "/dev/null", f"{tree}/deep/.env"]
    out = box.run("--rw=tree", *cover, "--hide=tree/deep/.env", "--", "sh", "-c", "cat tree/deep/.env; echo $?").out
    assert out == "1\n"
    assert box.sh("ls -A tree/deep", "--rw=tree", "--tmpfs", f"{tree}/deep", "--hide=tree/deep/.env").lines() == []
    assert_refused(box.run("--tmpfs", f"{tree}/deep", "--rw=tree", "--hide=tree/deep/.env", "--", "true"), "--rw")


@pytest.mark.slice
def test_no_special_files_of_the_host(box, monkeypatch):
    """A read-only bind still lets a FIFO and a socket be used: they must not be usable from the box."""
    os.mkfifo(box.dir / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(box.dir)  # the path may be longer than a socket's can be
    listener.bind("sock")
    listener.listen()
    listener.settimeout(0.5)
    fd = os.open(box.dir / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    out = box.python("""
import os, socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("sock"); s.send(b"x"); print("socket reached")
except OSError as e:
    print("socket", type(e).__name__)
try:
    f = os.open("fifo", os.O_WRONLY | os.O_NONBLOCK); os.write(f, b"x"); print("fifo reached")
except OSError as e:
    print("fifo", type(e).__name__)
""").ok().out
    assert "reached" not in out, out
    with pytest.raises(TimeoutError):
        listener.accept()
    assert os.read(fd, 1) == b""
    os.close(fd)
    listener.close()


def test_sockets_of_the_system_are_not_there(box):
    out = box.sh("for p in /run/user /run/docker.sock /var/run/docker.sock /run/dbus/system_bus_socket /run/systemd /tmp/.X11-unix "
                 "/run/containerd; do test -e $p && echo $p; done; echo ${DBUS_SESSION_BUS_ADDRESS-} ${DISPLAY-} ${WAYLAND_DISPLAY-} ${SSH_AUTH_SOCK-}",
                 env={"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0", "SSH_AUTH_SOCK": "/tmp/agent", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"})
    assert out.ok().out.strip() == "", out


def test_other_homes_are_not_there(box):
    others = [p.pw_dir for p in pwd.getpwall() if p.pw_dir.startswith(("/home/", "/root")) and p.pw_dir != str(HOME) and os.path.isdir(p.pw_dir)]
    if not others:
        cannot("show another user's home: there is none")
    out = box.sh("".join(f"ls -A {o} 2>/dev/null; " for o in others) + "echo end").out
    assert out == "end\n"


def test_dev_is_minimal(box):
    names = set(box.sh("ls /dev").lines())
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "stdin", "stdout", "stderr", "fd"} <= names, names
    assert names <= {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "stdin", "stdout", "stderr", "fd", "console", "mqueue", "core"}, names
    assert box.sh("echo x >/dev/null && head -c4 /dev/zero | od -An -c && test -c /dev/urandom && head -c1 /dev/urandom | wc -c").ok()


def test_no_device_node_works(box, subids):
    results = box.probe("mknod_disk", "mknod_null", options=["--user=root"])
    assert results["mknod_disk"] != "ok"
    assert box.sh("rm -f n; mknod n c 1 3 2>/dev/null && echo x >n && echo works; echo end", "--user=root").out == "end\n"


def test_mount_flags(box):
    """nosuid and nodev on all; the payload may not find one mount without."""
    for line in box.sh("cat /proc/self/mountinfo").lines():
        fields = line.split()
        options = fields[5].split(",")
        assert "nosuid" in options, line
        # /dev's own nodes are binds of the host's and must work
        assert "nodev" in options or fields[4].startswith("/dev/"), line


def test_no_trace_of_the_old_root(box):
    mounts = box.sh("cat /proc/self/mountinfo").ok().out
    assert "shared:" not in mounts and "master:" not in mounts
    assert "oldroot" not in mounts and "/newroot" not in mounts


MACHINE_IDS = ["/etc/machine-id", "/var/lib/dbus/machine-id"]

MASKED = ["/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/interrupts", "/proc/sched_debug", "/proc/latency_stats",
          "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/acpi", "/proc/scsi", "/proc/sysrq-trigger",
          "/sys/firmware", "/sys/devices/virtual/powercap"]


def test_masked_paths(box):
    script = "".join(f"""
if [ -d {p} ]; then ls -A {p} | grep -q . && echo FULL {p}; elif [ -e {p} ]; then n=$(head -c 64 {p} 2>/dev/null | wc -c); [ "$n" = 0 ] || echo READ {p}; fi""" for p in MASKED)
    assert box.sh(script + "\necho end").lines() == ["end"]


READ_ONLY = ["/proc/sys/kernel/domainname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
             "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces", "/sys/kernel/uevent_helper",
             "/sys/power/state", "/proc/sys/kernel/hostname"]


def test_read_only_paths(box, subids):
    script = "".join(f"(echo 1 >{p}) 2>/dev/null && echo WRITTEN {p}\n" for p in READ_ONLY) + "echo end"
    assert box.sh(script, "--user=root").lines() == ["end"]
    assert box.sh(script).lines() == ["end"]


def test_proc_is_the_boxes_own(box):
    out = box.sh("ls /proc | grep -c '^[0-9]'").ok().out
    assert int(out) < 10
    assert box.sh(f"test -e /proc/{os.getpid()}/cmdline && tr '\\0' ' ' </proc/{os.getpid()}/cmdline; echo end").out.strip().endswith("end")


def test_machine_id_is_new(box):
    host = pathlib.Path("/etc/machine-id")
    ids = {box.sh("cat /etc/machine-id").ok().out.strip() for _ in range(2)}
    assert all(len(i) == 32 for i in ids) and len(ids) == 2, ids
    if host.exists():
        assert host.read_text(encoding="ascii").strip() not in ids


@pytest.mark.parametrize("options", [[], ["--overlay=none"]], ids=["overlay", "none"])
def test_machine_id_of_dbus_is_new(box, options):
    """It is a file of its own on some systems, a symlink on others: neither tells the host's."""
    host = {p.read_text(encoding="ascii").strip() for p in map(pathlib.Path, MACHINE_IDS) if p.exists()}
    ids = set(box.sh(f"cat {' '.join(MACHINE_IDS)}; true", *options).out.split())
    assert len(ids) == 1 and not ids & host, (ids, host)


def test_machine_id_of_dbus_in_a_rootfs(box):
    root = box.dir / "root"
    (root / "etc").mkdir(parents=True)
    for d in ("bin", "lib", "lib64", "usr", "tmp", "proc", "sys", "dev", "run", "var/lib/dbus", "var/tmp"):
        (root / d).mkdir(parents=True)
    for path in MACHINE_IDS:
        (root / path.lstrip("/")).write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    mounts = [word for d in ("bin", "lib", "lib64", "usr") for word in ("--ro-bind", f"/{d}", f"/{d}")]
    ids = box.run("--rootfs", root, "-w", "/", *mounts, "--", "cat", *MACHINE_IDS).ok().out.split()
    assert len(ids) == 2 and ids[0] == ids[1] != "0123456789abcdef0123456789abcdef", ids


@pytest.mark.parametrize("options", [[], ["--overlay=none"]], ids=["overlay", "none"])
@pytest.mark.parametrize("link", ["var", "var/lib", "var/lib/dbus"])
def test_no_machine_id_covers_a_symlink(box, link, options):
    """/var may lie on another disk: all that it leads to is there, and the box's own files do not stand in its stead."""
    root = box.dir / "root"
    for d in ("bin", "lib", "lib64", "usr", "etc", "tmp", "proc", "sys", "dev", "run", "data", "var/lib/dbus", "var/tmp"):
        (root / d).mkdir(parents=True)
    for name in ("var/lib/dbus/machine-id", "var/lib/dbus/more"):
        (root / name).write_text("host\n", encoding="ascii")
    (root / link).rename(root / "data/moved")
    (root / link).symlink_to("../" * link.count("/") + "data/moved")
    mounts = [word for d in ("bin", "lib", "lib64", "usr") for word in ("--ro-bind", f"/{d}", f"/{d}")]
    result = box.run(*options, "--rootfs", root, "-w", "/", *mounts, "--", "sh", "-c", f"readlink /{link}; cat /var/lib/dbus/more")
    assert result.lines() == [os.readlink(root / link), "host"]


def test_rootfs_directory(box, subids):
    root = box.dir / "root fs"
    for d in ("bin", "lib", "lib64", "usr", "etc", "tmp", "proc", "sys", "dev", "run", "var/tmp"):
        (root / d).mkdir(parents=True)
    (root / "bin" / "marker").write_text("#!/usr/bin/env sh\n", encoding="ascii")
    (root / "etc" / "passwd").write_text("inside:x:0:0::/:/bin/sh\n", encoding="ascii")
    static = subprocess.run(["gcc", "-static", "-o", str(root / "bin" / "hello"), "-x", "c", "-"], input=b"""
#include <stdio.h>
int main(void) { char l[64] = ""; FILE *f = fopen("/etc/passwd", "r"); fgets(l, sizeof l, f); printf("hello %s", l); f = fopen("/bin/new", "w"); return !f; }
""", check=False)
    assert static.returncode == 0
    before = snapshot(root)
    result = box.run("--rm", f"--rootfs={root}", "-w", "/", "--", "/bin/hello")
    assert result.ok().out == "hello inside:x:0:0::/:/bin/sh\n"
    assert snapshot(root) == before


def test_hide_in_a_rootfs(box, both_overlays):
    """Its names are those of the box; also one that is not there."""
    root = box.dir / "r"
    for name in ("f", "dir/f", "deep/deeper/f", "top/f"):
        box.write(name, "secret\n", where=root)
    binds = [x for d in ("/usr", "/lib", "/lib64", "/bin") for x in ("--ro", d)]
    hide = [f"--hide={path}" for path in ("/f", "/dir/f", "/deep/deeper", "/top", "/deep/none")]
    out = box.sh("cat /f /dir/f /deep/deeper/f /top/f 2>/dev/null; ls /dir /deep; test -e /top || echo no top", f"--rootfs={root}", "-w", "/", *binds, *hide).lines()
    assert out == ["/deep:", "", "/dir:", "no top"]
    assert {p.read_text(encoding="utf-8") for p in root.rglob("f")} == {"secret\n"}


@pytest.mark.slice
def test_no_way_out_by_the_working_directory(box):
    """In a root that has not the caller's directory, the payload stands in the box's root, not in the host's."""
    box.write("outside", "secret\n")
    root = box.dir / "r"
    root.mkdir()
    binds = [x for d in ("/usr", "/lib", "/lib64", "/bin") for x in ("--ro", d)]
    out = box.sh("pwd; cat outside ../work/outside /proc/self/cwd/outside 2>/dev/null; stat -c %d:%i / .", f"--rootfs={root}", *binds).lines()
    assert out[0] == "/" and out[1] == out[2], out


def test_two_boxes_at_once(box):
    procs = [box.popen("run", "--rm", "--", "sh", "-c", f"echo {i} >f; sleep 0.5; cat f; exit {i}") for i in range(4)]
    for i, p in enumerate(procs):
        out, err = p.communicate(timeout=60)
        assert (p.returncode, out) == (i, f"{i}\n".encode()), err
    assert not (box.dir / "f").exists()
