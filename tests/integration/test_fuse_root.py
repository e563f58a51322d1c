# SPDX-License-Identifier: LGPL-2.1-or-later
"""What only a root by FUSE has, and what happens when usbox-fs is not there any more."""
import json
import os
import pathlib
import signal
import stat
import struct
import subprocess
import tempfile
import time

import pytest

from conftest import BUILD, SLOW, USBOX, assert_refused, cannot, has_subids, own_processes, snapshot, wait_until


@pytest.fixture(autouse=True)
def fuse(box):
    box.options = ["--overlay=fuse"]


def in_namespace(box, setup, *argv, timeout=60):
    """usbox as this user, on a machine to which its own root did something first (setup, a shell script): mounts of its own, and no
    more than one uid, so that the ranges of /etc/subuid are none here, which --userns=auto must see."""
    me = [f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
    if subprocess.run(["unshare", "-Urm", "unshare", "-U", *me, "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a namespace to change things in")
    script = f'set -e\n{setup}\nexec unshare -U {" ".join(me)} "$@"'
    argv = [a for word in argv for a in ([word, "--overlay=fuse"] if word == "run" else [word])]
    return subprocess.run(["unshare", "-Urm", "sh", "-c", script, "sh", USBOX, *argv], env=box.env, cwd=box.dir, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout * SLOW, check=False)


@pytest.mark.parametrize("begun", ["fuse", "kernel"])
@pytest.mark.parametrize("moved", [True, False], ids=["renamed", "not"])
def test_a_box_goes_on_by_the_kernels_overlay(box, moved, begun):
    """But not where it renamed a directory: the kernel would say "Operation not permitted" somewhere in the middle of the next run."""
    (box.dir / "deep" / "from").mkdir(parents=True)
    (box.dir / "deep" / "from" / "f").write_text("f\n", encoding="ascii")
    again = ["--name=drivers", "--", "sh", "-c"]
    box.run(f"--overlay={begun}", *again, "touch deep/from/x").ok()
    box.run(*again, "echo x >deep/from/x" + "; mv deep/from deep/to; chmod 0 deep/to" * moved).ok()
    box.options = ["--overlay=kernel"]
    result = box.run(*again, "cat deep/from/*")
    if moved:
        assert_refused(result, f"the box renamed a directory ({box.dir}/deep/to, which was {box.dir}/deep/from)", "leave --overlay=kernel away")
        box.options = []
        result = box.run(*again, "chmod 700 deep/to; cat deep/to/*")
    assert result.ok().out == "f\nx\n"


HIDDEN = ["key.pem", "a/b/other.pem", ".env", "deep/er/.env", "sub/x.key", "far/sub/x.key", "top/secret.txt"]
SEEN = ["key.pem.txt", "env", "deep/er/.envrc", "sub/deeper/x.key", "top/public.txt", "far/top/secret.txt"]


@pytest.mark.slice
def test_hide_by_pattern(box):
    for name in HIDDEN + SEEN:
        box.write(name, f"{name}\n")
    before = snapshot(box.dir)
    patterns = ["*.pem", "**/.env", "sub/*.key", "./top/secr*"]
    script = "find . -type f | sort; for f in " + " ".join(HIDDEN) + "; do test -e $f && echo SEEN $f; cat $f 2>/dev/null; done; echo end"
    lines = box.sh(script, *[f"--hide={p}" for p in patterns]).lines()
    assert lines == sorted(f"./{name}" for name in SEEN) + ["end"]
    assert snapshot(box.dir) == before


def test_a_name_that_a_pattern_hides_can_be_made(box):
    box.write(".env", "secret\n")
    assert box.sh("cat .env 2>/dev/null; echo mine >.env; cat .env; ls -A", "--hide=**/.env").lines() == ["mine", ".env"]
    assert (box.dir / ".env").read_text(encoding="ascii") == "secret\n"


def test_hidden_while_it_is_made(no_kept):
    """What a pattern hides is hidden whenever it comes to be."""
    proc = no_kept.popen("run", "--rm", "--hide=*.key", "--", "sh", "-c", "echo ready; read line; cat new.key || echo hidden", stdin=subprocess.PIPE)
    assert proc.stdout.readline() == b"ready\n"
    no_kept.write("new.key", "secret\n")
    assert proc.communicate(b"go\n", timeout=20 * SLOW)[0] == b"hidden\n"


@pytest.fixture(params=["home", "tmp"])
def work(request, box):
    """The working directory, where it is one of the host's and where it lies in the box's own /tmp."""
    if request.param == "home":
        yield box.dir
        return
    with tempfile.TemporaryDirectory(prefix="usbox-test-", dir="/tmp") as top:
        yield pathlib.Path(top)


def test_mounts_stay_where_the_host_changes_what_is_below_them(no_kept, work):
    """A new listing shows the kernel that the name leads to another file, and what was mounted on the old one would go."""
    mask, masks = no_kept.write("../mask", "mask\n"), no_kept.dir.parent / "masks"
    masks.mkdir()
    (work / "sub" / "dir").mkdir(parents=True)
    (work / "sub" / "key").write_text("secret\n", encoding="ascii")
    script = "cat sub/key; ls sub/dir; echo ready; read line; ls -l . sub >/dev/null; cat sub/key; ls -A sub/dir; touch sub/dir/x; cp sub/key sub/copy; cat sub/copy"
    proc = no_kept.popen("run", "--rm", "-v", f"{mask}:{work}/sub/key", "-v", f"{masks}:{work}/sub/dir", "--", "sh", "-c", script, stdin=subprocess.PIPE, cwd=work)
    assert [proc.stdout.readline() for _ in range(2)] == [b"mask\n", b"ready\n"]
    with open(work / "sub" / "key", "a", encoding="ascii") as f:
        f.write("more\n")
    (work / "sub" / "dir").rename(work / "sub" / "old")
    (work / "sub" / "dir").mkdir()
    (work / "sub" / "dir" / "secret").touch()
    assert proc.communicate(b"go\n", timeout=20 * SLOW)[0] == b"mask\nmask\n"
    assert os.listdir(masks) == ["x"] and os.listdir(work / "sub" / "dir") == ["secret"]


def test_mounts_of_the_box_stay_in_a_rootfs_that_changes(no_kept):
    root = no_kept.dir / "root"
    for name in ("proc", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    script = "echo mine >/tmp/x; echo ready; read line; ls -l / >/dev/null; cat /tmp/x; test -d /proc/self && echo proc"
    proc = no_kept.popen("run", "--rm", f"--rootfs={root}", "-w", "/", "-v", "/usr:/usr", "--", "/bin/sh", "-c", script, stdin=subprocess.PIPE)
    assert proc.stdout.readline() == b"ready\n"
    for name in ("proc", "tmp"):
        (root / name).rename(root / f"old-{name}")
        (root / name).mkdir()
    assert proc.communicate(b"go\n", timeout=20 * SLOW)[0] == b"mine\nproc\n"


def test_a_rootfs_whose_var_is_elsewhere(no_kept):
    root = no_kept.dir / "root"
    for name in ("proc", "usr", "data/tmp"):
        (root / name).mkdir(parents=True)
    (root / "data" / "file").write_text("there\n", encoding="ascii")
    for name, target in (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var", "data")):
        (root / name).symlink_to(target)
    result = no_kept.run("--rm", f"--rootfs={root}", "-w", "/", "-v", "/usr:/usr", "--", "/bin/sh", "-c", "cat /var/file; readlink /var; echo x >/var/tmp/x; ls /data/tmp")
    assert result.ok().out == "there\ndata\nx\n", result


def test_the_eyes_of_others_deep_in_a_tree(no_kept):
    """The caller's private files outside of home and working directory are not there, wherever they lie."""
    setup = """
        mount -t tmpfs none /srv; mkdir -p /srv/a/b/c/open /srv/a/b/c/closed; cd /srv/a/b/c
        echo public >open/public; echo secret >open/private; echo secret >closed/inside; chmod 600 open/private; chmod 700 closed; cd /"""
    script = "find /srv | sort; cat /srv/a/b/c/open/* /srv/a/b/c/closed/inside 2>/dev/null; echo end"
    result = in_namespace(no_kept, setup, "run", "--rm", "--", "sh", "-c", script)
    assert result.returncode == 0, result
    assert result.stdout.split() == ["/srv", "/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/a/b/c/open", "/srv/a/b/c/open/public", "public", "end"]


def test_mounts_below_the_root_are_there(no_kept):
    setup = """mount -t tmpfs none /srv; mkdir -p /srv/one/two /srv/kernel; mount -t tmpfs none /srv/one/two; echo deep >/srv/one/two/file
        mount --rbind /proc /srv/kernel"""
    script = "cat /srv/one/two/file; echo x >/srv/one/two/new && cat /srv/one/two/new; ls /srv/kernel"
    result = in_namespace(no_kept, setup, "run", "--rm", "--", "sh", "-c", script)
    assert result.returncode == 0 and result.stdout == "deep\nx\n", result


OWNERS = "stat -c %u:%g /usr /etc /etc/passwd /usr/bin/env / /etc/hosts; stat -c %u:%g ."


@pytest.mark.slice
def test_owners_are_shown(box, subids):
    me = f"{os.getuid()}:{os.getgid()}"
    assert box.sh(OWNERS).lines() == ["0:0"] * 6 + [me]
    # The box's root is the caller: what is root's is its, as it would be on a machine of its own.
    assert box.sh(OWNERS, "--user=root").lines() == ["0:0"] * 7


def test_owners_without_subids_are_nobody(box):
    lines = box.sh(OWNERS, "--userns=self").lines()
    assert lines[:4] == ["65534:65534"] * 4 and lines[-1] == f"{os.getuid()}:{os.getgid()}"


def test_what_is_the_callers_is_so_whatever_its_group(box, subids):
    """A directory of a project's group, for who has no range of ids: it shows as the caller's own, and what is in it can be written."""
    (box.dir / "d" / "sub").mkdir(parents=True)
    box.write("d/file", "old\n")
    box.sh("chgrp -R 5 d", "--user=root", "--rw=d").ok()
    assert os.stat(box.dir / "d").st_gid != os.getgid()
    me = f"{os.getuid()}:{os.getgid()}"

    def run(script):
        return box.run("--userns=self", "--name=b", "--", "sh", "-ec", script).ok().lines()

    assert run("stat -c %u:%g d d/file; echo x >>d/file; echo y >d/new; mkdir d/sub/e; chmod 700 d; mv d/sub/e d/f; rm -r d/sub; "
               "stat -c '%u:%g %a' d d/f; cat d/file d/new") == [me, me, me + " 700", me + " 755", "old", "x", "y"]
    assert run("stat -c %u:%g d d/file; echo z >>d/file; cat d/file") == [me, me, "old", "x", "z"]
    assert (box.dir / "d" / "file").read_text() == "old\n"
    box.usbox("commit", "b").ok()
    assert (box.dir / "d" / "file").read_text() == "old\nx\nz\n" and not (box.dir / "d" / "sub").exists()
    box.usbox("rm", "b").ok()


def test_an_acl_that_names_whom_the_box_does_not_have(box, subids):
    """Of another's file that everybody may read, and of one's own, for who has no range of ids."""
    acl = "setfacl -m u:5:r,g:7:rw"
    box.write("others", "everybody's\n")
    box.write("own", "mine\n")
    box.sh(f"{acl} others own && chown 5:5 others && getfacl -cn others", "--user=root", "--rw=.").ok()
    assert os.stat(box.dir / "others").st_uid != os.getuid()
    script = f"cat others own; {acl.replace('5', str(os.getuid())).replace(',g:7:rw', '')} own; getfacl -cnpE others own; cp -a own copy; cat copy"
    result = box.run("--rm", "--userns=self", "--", "sh", "-ec", script).ok()
    assert result.out == ("everybody's\nmine\nuser::rw-\ngroup::r--\nmask::rw-\nother::r--\n\n"
                          f"user::rw-\nuser:{os.getuid()}:r--\ngroup::r--\nmask::r--\nother::r--\n\nmine\n"), result


def test_owners_that_the_box_gives_stay(box, subids):
    box.write("mine", "x")
    lines = box.sh("touch f; mkdir d; chown 5:6 f mine; chown 7 d; touch d/g; stat -c %u:%g f mine d d/g", "--user=root").lines()
    assert lines == ["5:6", "5:6", "7:0", "0:0"]
    assert os.stat(box.dir / "mine").st_uid == os.getuid()


def test_the_umask_counts_in_directories_of_others(box, subids):
    lines = box.sh("mkdir d e; chown 5:6 d; chmod 555 e; for x in d e; do (umask 077; mkdir $x/a; touch $x/b; mkfifo $x/c); (umask 027; touch $x/d); stat -c %a $x/?; done",
                   "--user=root").lines()
    assert lines == ["700", "600", "600", "640"] * 2


def test_files_of_others_are_removed_with_the_box(no_kept, subids):
    no_kept.sh("mkdir d; touch d/f; chown -R 5:6 d; chmod 700 d; mkdir -p e/f; chown 9 e/f; chmod 0 e/f", "--user=root").ok()
    # Whatever ids the run after it has.
    for options in ([], ["--userns=self"], ["--overlay=kernel"], ["--overlay=none"]):
        no_kept.run("--user=root", "--", "sh", "-c", "mkdir d; touch d/f; chown -R 5:6 d; chmod 700 d").ok()
        assert len(list(no_kept.boxes.iterdir())) == 1
        no_kept.run(*options, "--", "true").ok()
        assert not list(no_kept.boxes.iterdir()), options


def test_root_of_the_box_writes_system_files(box, subids):
    before = os.stat("/etc/passwd")
    lines = box.sh("echo x:x:0:0::/: >>/etc/passwd; tail -1 /etc/passwd; rm /etc/shells; test -e /etc/shells || echo gone; echo m >/usr/bin/made; cat /usr/bin/made",
                   "--user=root").lines()
    assert lines == ["x:x:0:0::/:", "gone", "m"]
    after = os.stat("/etc/passwd")
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino) and not os.path.exists("/usr/bin/made")


def test_what_is_closed_to_the_caller_is_empty_for_the_boxes_root(box, subids):
    """apt's and dpkg's places: the box's root works in them and reads nothing that the caller may not."""
    closed = next((p for p in ("/var/log/apt/term.log", "/etc/sudoers", "/var/log/btmp", "/etc/shadow-", "/etc/ssh/ssh_host_ed25519_key")
                   if os.path.isfile(p) and os.path.getsize(p) > 0 and not os.access(p, os.R_OK)), None)
    if os.access("/root", os.X_OK) or not closed:
        cannot("show a directory and a file that are closed to this user")
    out = box.sh("ls -A /root; ls -la /root >/dev/null && echo listed; stat -c %a:%u /root; test -e /root/.bashrc || echo none; echo x >/root/new && cat /root/new; "
                 "mkdir /root/d && mv /root/new /root/d/new && rm -r /root/d && ls -A /root; "
                 f"cat {closed} 2>&1", "--user=root").out.splitlines()
    mode = f"{stat.S_IMODE(os.stat('/root').st_mode):o}:0"
    assert out == ["listed", mode, "none", "x", f"cat: {closed}: Permission denied"], out
    lock = pathlib.Path("/var/lib/dpkg/lock")
    if not lock.exists() or lock.stat().st_size > 0 or os.access(lock, os.R_OK):
        cannot("show an empty file that is closed to this user")
    assert box.sh(f"flock {lock} echo locked; echo x >>{lock}; cat {lock}; stat -c %U:%a {lock}", "--user=root").lines() == ["locked", "x", "root:640"]


@pytest.mark.parametrize("user", ["self", "root"])
def test_a_directory_that_shuts_out_its_owner_keeps_its_acl(box, user):
    """It cannot be opened; its ACLs can be asked for all the same, and go along when it is copied up."""
    for mode in (0o605, 0o405, 0o005):
        d = box.dir / f"d{mode:04o}"
        d.mkdir()
        subprocess.run(["setfacl", "-m", f"u:{os.getuid()}:rwx,d:u:{os.getuid()}:r-x", str(d)], check=True)
        d.chmod(mode)
    script = "for d in d*; do getfacl -cpE $d; touch -d @5 $d; stat -c %a:%Y $d; getfacl -cpE $d; done"
    found = box.sh(script, f"--user={user}").ok().out.split("\n\n")
    for d in box.dir.glob("d*"):
        d.chmod(0o700)
    assert len(found) == 7 and all(":rwx" in x and "default:mask" in x for x in found[:6]), found
    assert [x.partition(":5\n")[0] for x in found[1:6:2]] == ["5", "405", "605"]
    assert [x.partition(":5\n")[2] for x in found[1:6:2]] == found[0:6:2]


def test_how_long_an_attribute_is_of_a_file_that_shuts_out_its_owner(box, subids):
    script = """python3 -c 'import ctypes; print(ctypes.CDLL(None).getxattr(b"f", b"user.a", None, 0))'"""
    assert box.sh(f"touch f; python3 -c 'import os; os.setxattr(\"f\", \"user.a\", b\"12345\")'; chmod 0 f; {script}", "--user=root").lines() == ["5"]


def accounts(path):
    return [line.split(":") for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line and line[0] not in "#+-"]


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_accounts_of_the_boxes_root_are_locked(box, subids, driver):
    if os.access("/etc/shadow", os.R_OK) or os.access("/etc/gshadow", os.R_OK) or not os.path.exists("/etc/gshadow"):
        cannot("show passwords that are closed to this user")
    lines = box.sh("cat /etc/shadow; echo; cat /etc/gshadow; stat -c %a:%u:%g /etc/shadow /etc/gshadow", "--user=root", f"--overlay={driver}").lines()
    middle = lines.index("")
    assert [line.split(":")[:2] for line in lines[:middle]] == [[a[0], "*"] for a in accounts("/etc/passwd")]
    assert [line.split(":") for line in lines[middle + 1:-2]] == [[a[0], "*", "", a[3]] for a in accounts("/etc/group")]
    host = [os.stat(p) for p in ("/etc/shadow", "/etc/gshadow")]
    assert [line.split(":")[0] for line in lines[-2:]] == [f"{stat.S_IMODE(st.st_mode):o}" for st in host]
    if driver == "fuse":
        assert [line.split(":")[1:] for line in lines[-2:]] == [["0", str(st.st_gid)] for st in host]
    # Nobody else has them.
    assert box.sh("cat /etc/shadow 2>&1", f"--overlay={driver}").out == "cat: /etc/shadow: Permission denied\n"


def test_users_are_added(box, subids):
    """As packages do it when they are installed."""
    if not os.path.exists("/usr/sbin/useradd") or not os.path.exists("/usr/sbin/groupdel"):
        cannot("add users: no useradd")
    before = pathlib.Path("/etc/passwd").read_bytes()
    script = ("set -e; useradd -r -d /nonexistent -s /usr/sbin/nologin _usbox; groupadd -r _usbox2; usermod -aG _usbox2 _usbox; id -nG _usbox; "
              "grep -c ^_usbox: /etc/passwd /etc/shadow /etc/group /etc/gshadow; pwck -rq; userdel _usbox; groupdel _usbox2; grep _usbox /etc/passwd /etc/gshadow || echo gone")
    lines = box.sh(script, "--user=root").lines()
    assert lines == ["_usbox _usbox2", "/etc/passwd:1", "/etc/shadow:1", "/etc/group:1", "/etc/gshadow:1", "gone"], lines
    assert pathlib.Path("/etc/passwd").read_bytes() == before


def test_rename_over_a_file(box):
    """Of the box's own, of the host's, and back: glibc calls renameat(2) for that, whatever the code says."""
    for name in ("low", "low2"):
        box.write(name, name)
    script = ("echo new >a; echo old >b; mv a b; cat b; echo up >c; mv c low; cat low; mv low2 low; cat low; echo; mv low b; cat b; echo; ls; "
              "git init -q g && git -C g checkout -qb other && git -C g symbolic-ref HEAD")
    assert box.sh(script).lines() == ["new", "up", "low2", "low2", "b", "refs/heads/other"]
    assert (box.dir / "low").read_text() == "low"


def test_system_files_are_root_s_for_others(box, subids):
    out = box.sh("(echo x >>/etc/passwd) 2>&1; touch /usr/bin/x 2>&1; rm -f /etc/shells 2>&1; test -e /etc/shells && echo there", "--user=self").out
    assert out.count("ermission denied") == 3 and out.endswith("there\n"), out


def test_working_directory_in_tmp(box):
    """It is shown in the box's own /tmp, copy-on-write, and nothing else of the host's is."""
    top = pathlib.Path("/tmp") / f"usbox-test-{os.getpid()}"
    (top / "work").mkdir(parents=True)
    try:
        (top / "work" / "file").write_text("old\n", encoding="ascii")
        (top / "other").write_text("other\n", encoding="ascii")
        result = box.run("--", "sh", "-c", "cat file; echo new >file; echo made >made; cat file; ls -A /tmp ..; touch /tmp/x ../y", cwd=top / "work").ok()
        assert result.out == f"old\nnew\n..:\nwork\n\n/tmp:\n{top.name}\n", result
        assert (top / "work" / "file").read_text(encoding="ascii") == "old\n" and os.listdir(top / "work") == ["file"]
        (kept,) = list(box.boxes.iterdir())
        assert sorted(os.listdir(kept / "upper" / str(top / "work").lstrip("/"))) == ["file", "made"]
        assert "changed 2" in result.err, result
    finally:
        subprocess.run(["rm", "-rf", str(top)], check=True)


# As linux/capability.h has them: CAP_NET_RAW, of the file system's root, or of a user namespace's that has the user 5 for its root.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
CAPABILITY_OF_5 = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 5)
ASK = "import os; names = os.listxattr('f'); print(names, os.getxattr('f', 'security.capability').hex() if names else '')"


@pytest.mark.parametrize("value", [CAPABILITY, CAPABILITY_OF_5], ids=["of root", "of another"])
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_capabilities_of_files(box, value, mode):
    """They count in the user namespace of a user, whom the box sees by its own number; a box that has not that user has not them, and no error of cp(1)."""
    if not has_subids():
        cannot("map subordinate ids")
    give = f"import os; os.setxattr('f', 'security.capability', bytes.fromhex('{value.hex()}'))"
    told = f"['security.capability'] {value.hex()}\n"
    # Made in the box: what another id of it has only the agent can read.
    made = f"import os; open('f', 'w'); os.chmod('f', {mode}); os.chown('f', 5, 5); {give}; {ASK}"
    assert box.python(made, "-u", "root").ok().out == told
    # The host's.
    (box.dir / "f").write_text("x")
    (box.dir / "f").chmod(mode)
    box.python(give, "-u", "root", f"--rw={box.dir}").ok()
    assert len(os.getxattr(box.dir / "f", "security.capability")) == 24
    assert box.python(ASK, "-u", "root").ok().out == told
    # The caller's own user, who is another than that of the box's root there.
    mine = struct.pack("<I", 0x03000001) + value[4:] + struct.pack("<I", os.getuid())
    there = box.sh(f'python3 -c "{ASK}"; cp --preserve=all f g || true', "--userns=self").ok()
    if value == CAPABILITY:
        assert there.out == f"['security.capability'] {mine.hex()}\n", there
    else:
        assert there.out == "[] \n" and there.err == "", there


def test_changes_are_counted_as_they_are(box):
    box.write("a/b/old", "x")
    box.write("gone", "x")
    result = box.run("--", "sh", "-c", "echo y >>a/b/old; rm gone; mkdir -p new/dir; mkdir -m 0 shut; touch new/dir/file").ok()
    assert "changed 5, removed 1 " in result.err, result


@pytest.mark.parametrize("driver", ["fuse", "kernel"])
def test_a_command_cannot_say_that_files_are_gone(box, driver):
    """In forms that other drivers have for that: usbox-fs diff shows them for what they are."""
    for name in ("kept", "d/kept", "gone"):
        box.write(name, name)
    box.run(f"--overlay={driver}", "--", "sh", "-c", "echo >.wh.kept; echo >d/.wh..wh..opq; rm gone").ok()
    (kept,) = list(box.boxes.iterdir())
    result = subprocess.run([box.libexec / "usbox-fs", "diff", "-o", f"lowerdir=/,upperdir={kept}/upper"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    changes = {line["path"].removeprefix(f"{box.dir}/"): line["change"] for line in map(json.loads, result.stdout.splitlines()) if line["change"] != "M"}
    assert result.returncode == 0 and changes == {".wh.kept": "A", "d/.wh..wh..opq": "A", "gone": "D"}, result


def test_boxes_are_not_in_view(box):
    """With all of the home to be seen, what boxes keep, this one's own upper among it, is not."""
    out = box.sh(f"test -e {box.data}/usbox/boxes && echo SEEN; test -e {box.data} && echo data", "--home=all").ok().out
    assert out == "data\n"


def test_disk(no_kept):
    script = """
        head -c 300000 /dev/zero >small && echo small written
        head -c 5000000 /dev/zero >large 2>/tmp/err || grep -o -E "No space left|Disk quota exceeded" /tmp/err | head -1
        rm -f large; head -c 200000 /dev/zero >again && echo again
        echo $(($(stat -f -c '%b * %S' .))) $(($(stat -f -c '%a * %S' .)))"""
    lines = no_kept.sh(script, "--disk=1M").lines()
    assert lines[0] == "small written" and lines[1] in ("No space left", "Disk quota exceeded") and lines[2] == "again", lines
    total, free = map(int, lines[3].split())
    assert total == 1 << 20 and free <= total - 500000, lines


def test_disk_limit_leaves_what_was_allocated(no_kept):
    """Its server asks for a file's blocks, which its filter of system calls has to let it."""
    script = "fallocate -l 900K f && dd if=/dev/zero of=f bs=900K count=1 conv=notrunc status=none && stat -c %s f"
    assert no_kept.sh(script, "--disk=1M").lines() == [str(900 << 10)]


def journal(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_trace_files(box):
    box.write("input", "x")
    trace = box.top / "trace.json"
    box.sh("cat input; cat absent 2>/dev/null; echo y >output", f"--trace-files={trace}").ok()
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    first = journal(trace)
    assert first and all(isinstance(line, dict) for line in first)
    for name in ("input", "absent", "output"):
        assert [line for line in first if str(box.dir / name) in line.values()], (name, first)
    box.sh("cat input", f"--trace-files={trace}").ok()
    assert journal(trace)[:len(first)] == first and len(journal(trace)) > len(first)


def test_trace_file_that_cannot_be(no_kept):
    os.mkfifo(no_kept.top / "fifo")
    assert_refused(no_kept.run(f"--trace-files={no_kept.top}/fifo", "--", "true"), "fifo", hint=False)
    assert_refused(no_kept.run(f"--trace-files={no_kept.top}/no/such", "--", "true"), "No such file", hint=False)
    assert_refused(no_kept.run(f"--trace-files={no_kept.top}", "--", "true"), "--trace-files", hint=False)


@pytest.mark.parametrize("options", [["--hide=*.pem"], ["--disk=1G"], ["--trace-files=t"]])
@pytest.mark.parametrize("driver", ["kernel", "none"])
def test_what_only_fuse_has(no_kept, options, driver):
    assert_refused(no_kept.run(f"--overlay={driver}", *options, "--", "true"), options[0].split("=")[0], "--overlay=fuse")
    assert not (no_kept.dir / "t").exists()


# ---- usbox-fs gone ----

def helper_of(proc, name="usbox-fs"):
    children = pathlib.Path(f"/proc/{proc.pid}/task/{proc.pid}/children")

    def find():
        for pid in children.read_text(encoding="ascii").split():
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                if f.read() == name + "\n":
                    return int(pid)
        return None
    return wait_until(find)


@pytest.mark.slice
@pytest.mark.parametrize("script", ["sleep 100", "while :; do echo x >>f; done", "while :; do /bin/true; done", "cat /dev/zero >f"])
def test_killed_usbox_fs_ends_the_box_and_is_named(box, script):
    """What the box has done by then is kept, whichever end is noticed first: the command's, that has no root any more, or the helper's."""
    proc = box.popen("run", "--", "sh", "-c", f"echo before >done; echo ready; {script}")
    assert proc.stdout.readline() == b"ready\n"
    time.sleep(0.2)
    os.kill(helper_of(proc), signal.SIGKILL)
    _out, err = proc.communicate(timeout=20 * SLOW)
    assert proc.returncode == 125, err
    assert b"usbox-fs" in err and b"signal 9" in err, err
    assert f"A  {box.dir}/done\n" in box.usbox("diff", "last").ok().out


def test_what_was_done_is_kept_when_usbox_net_is_killed(box):
    # The open file's last bytes are the kernel's until usbox-fs is asked to end.
    proc = box.popen("run", "--", "sh", "-c", "exec 3>open; echo before >done; echo unwritten >&3; echo ready; sleep 100")
    assert proc.stdout.readline() == b"ready\n"
    os.kill(helper_of(proc, "usbox-net"), signal.SIGKILL)
    _out, err = proc.communicate(timeout=20 * SLOW)
    assert proc.returncode == 125 and b"usbox-net" in err and b"usbox diff last" in err, err
    (upper,) = box.boxes.glob("*/upper")
    top = upper / str(box.dir)[1:]
    assert (top / "done").read_text() == "before\n" and (top / "open").read_text() == "unwritten\n"


REPLACEMENTS = {
    "ends at once": "sys.exit(3)",
    "ends after its configuration": "wire.recv(65536); sys.exit(3)",
    "ends with the mount in its hands": "wire.recv(65536); socket.recv_fds(wire, 65536, 4); sys.exit(3)",
    "ends after the first request": "wire.recv(65536); os.read(socket.recv_fds(wire, 65536, 4)[1][0], 1 << 17); sys.exit(3)",
}


def replace_helper(box, body):
    """A program in the place of usbox-fs."""
    path = box.libexec / "usbox-fs"
    path.unlink()
    path.write_text("#!/usr/bin/python3 -I\nimport os, socket, sys, time\nwire = socket.socket(fileno=3)\n" + body + "\n", encoding="ascii")
    path.chmod(0o755)


@pytest.mark.parametrize("what", REPLACEMENTS)
def test_usbox_fs_that_gives_up_is_named(no_kept, what):
    replace_helper(no_kept, REPLACEMENTS[what])
    result = no_kept.run("--", "true")
    assert_refused(result, "usbox-fs", "exit status 3")
    assert result.err.startswith("usbox: file system: ")


def test_usbox_fs_that_makes_no_sense(no_kept):
    replace_helper(no_kept, "wire.recv(65536); wire.send(b'c' * 9); time.sleep(100)")
    assert_refused(no_kept.run("--", "true"), "file system", "receive", hint=False)


def test_a_hanging_usbox_fs_can_be_interrupted(no_kept):
    asked = no_kept.top / "asked"
    replace_helper(no_kept, f"wire.recv(65536); fds = socket.recv_fds(wire, 65536, 4)[1]; os.read(fds[0], 1 << 17); open({str(asked)!r}, 'w'); time.sleep(1000)")
    proc = no_kept.popen("run", "--", "true")
    assert wait_until(asked.exists)
    proc.send_signal(signal.SIGINT)
    _out, err = proc.communicate(timeout=20 * SLOW)
    assert proc.returncode == 130, err


def test_missing_usbox_fs(no_kept):
    (no_kept.libexec / "usbox-fs").unlink()
    assert_refused(no_kept.run("--", "true"), "usbox-fs", "install")


@pytest.mark.parametrize("setup,word", [("mount --bind /dev/null /dev/fuse", "mount fuse"), ("mount --bind /proc/kmsg /dev/fuse", "/dev/fuse")])
def test_no_dev_fuse(no_kept, setup, word):
    result = in_namespace(no_kept, setup, "run", "--rm", "--", "true")
    assert result.returncode == 125 and word in result.stderr and "--overlay=kernel" in result.stderr, result
    doctor = in_namespace(no_kept, setup, "doctor", "--json")
    check = next(c for c in json.loads(doctor.stdout) if c["id"] == "fuse")
    assert check["state"] in ("degraded", "missing") and "--overlay=kernel" in check["mend"], check


def test_killed_launcher_leaves_nothing(no_kept):
    before = set(own_processes())
    proc = no_kept.popen("run", "--", "sh", "-c", "echo ready; while :; do echo x >>f; done")
    assert proc.stdout.readline() == b"ready\n"
    proc.kill()
    proc.wait()
    assert wait_until(lambda: not set(own_processes()) - before, 15)
    assert wait_until(lambda: not os.listdir(no_kept.boxes), 5)


def test_what_was_written_last_is_kept(box):
    """Pages that the kernel still holds when the box ends are written before its directory is counted."""
    result = box.run("--", "/usr/bin/python3", "-c", "f = open('f', 'wb'); f.write(b'x' * 30_000_000); f.flush(); import os; os._exit(0)").ok()
    (made,) = list(box.boxes.rglob("f"))
    assert made.stat().st_size == 30_000_000 and made.read_bytes() == b"x" * 30_000_000
    assert "changed 1" in result.err and "28.6" in result.err, result


INJECT = BUILD / "tests" / "faults" / "inject"


def test_a_name_that_cannot_be_looked_at_is_listed(box):
    """What copies a directory must not take it for less than it is: once with a fault at each of the last looks that usbox-fs has at a file of the lower."""
    if not INJECT.exists():
        cannot("run tests/faults/inject, which writes registers of x86-64")
    names = {"one", "two", "three", "four"}
    for name in names:
        box.write(f"d/{name}", "")

    def listed(*arguments):
        argv = [INJECT, "--log", box.top / "log", *arguments, "--", USBOX, "run", *box.options, "--network=none", "--rm", "--", "ls", "-f", "d"]
        proc = subprocess.run(argv, env=box.traced(), cwd=box.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * SLOW, check=False)
        return proc, (box.top / "log").read_text(encoding="utf-8").splitlines()

    def looks(log):
        return sum(line.startswith("call usbox-fs~ statx ") for line in log)
    proc, log = listed()
    assert proc.returncode == 0 and looks(log) > 8, (proc, log)
    met = set()
    for _ in range(5):  # how often it looks differs from run to run: the last looks of one need not come in the next
        n = looks(log)
        for at in sorted(set(range(n - 7, n + 1)) - met):
            proc, log = listed("--fault", f"usbox-fs~:statx:{at}:EIO")
            if any(line.startswith("fault ") for line in log):
                met.add(at)
            assert names <= set(proc.stdout.split()) or (proc.returncode != 0 and "Input/output error" in proc.stderr), (at, proc)
        if len(met) > 4:
            break
        proc, log = listed()
    assert len(met) > 4, (met, looks(log))
