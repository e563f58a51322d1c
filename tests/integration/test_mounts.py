# SPDX-License-Identifier: LGPL-2.1-or-later
"""-v, --mount, --bind and their kin: in the order given, beneath the new root, nothing made on the host."""
import os

import pytest

from conftest import assert_refused, snapshot

pytestmark = pytest.mark.usefixtures("both_overlays")


@pytest.fixture
def src(box):
    """A directory outside the working directory with a file in it."""
    d = box.top / "src dir"
    d.mkdir()
    (d / "file").write_text("from outside\n", encoding="ascii")
    return d


@pytest.mark.slice
def test_volume(box, src):
    assert box.sh("cat /mnt/file; echo w >/mnt/written", "-v", f"{src}:/mnt").ok().out == "from outside\n"
    assert (src / "written").read_text(encoding="ascii") == "w\n"


@pytest.mark.parametrize("options", [["-v", "{}:/mnt:ro"], ["--volume={}:/mnt:ro"], ["--ro-bind", "{}", "/mnt"],
                                     ["--mount=type=bind,src={},dst=/mnt,ro"], ["--mount=type=bind,source={},target=/mnt,readonly"]])
def test_read_only_binds(box, src, options):
    before = snapshot(src)
    result = box.sh("cat /mnt/file; touch /mnt/x 2>&1; echo y 2>&1 >/mnt/file; rm -f /mnt/file 2>&1", *[o.format(src) for o in options])
    assert "from outside" in result.out and "Read-only file system" in result.out, result
    assert snapshot(src) == before


@pytest.mark.parametrize("options", [["--bind", "{}", "/mnt"], ["--mount=type=bind,src={},dst=/mnt"], ["-v", "{}:/mnt:rw"]])
def test_writable_binds(box, src, options):
    box.sh("echo y >/mnt/out", *[o.format(src) for o in options]).ok()
    assert (src / "out").read_text(encoding="ascii") == "y\n"


def test_rw_and_ro_at_their_own_names(box, src):
    box.sh(f"echo y >'{src}/out'", f"--rw={src}").ok()
    assert (src / "out").exists()
    result = box.sh(f"cat '{src}/out'; touch '{src}/no' 2>&1", f"--ro={src}")
    assert result.out.startswith("y\n") and "Read-only" in result.out
    assert not (src / "no").exists()


@pytest.mark.slice
@pytest.mark.parametrize("target", ["/brand/new/place", "/etc/new/place", "/usr/lib/new place", "{cwd}/made/up", "/var/tmp/new/place"])
def test_missing_target_is_made_in_the_box_only(box, src, target):
    target = target.format(cwd=box.dir)
    before = snapshot(box.dir)
    assert box.sh(f"cat '{target}/file'", "-v", f"{src}:{target}").ok().out == "from outside\n"
    assert not os.path.exists(target)
    assert snapshot(box.dir) == before


@pytest.mark.parametrize("place", ["/mnt", "/var/tmp/place", "/var/tmp"])
def test_missing_target_below_another_volume_is_not_made_on_the_host(box, src, place):
    """Nor where the volume lies in /var/tmp, which is of the file system that it is of."""
    other = box.top / "other"
    other.mkdir()
    result = box.sh(f"cat {place}/sub/file", "-v", f"{other}:{place}", "-v", f"{src}:{place}/sub")
    assert list(other.iterdir()) == []
    if result.rc != 0:
        assert_refused(result, f"{place}/sub")


def test_a_file_on_a_file(box, src):
    assert box.sh("cat /etc/hostname; cat /new-file", "-v", f"{src}/file:/etc/hostname", "-v", f"{src}/file:/new-file:ro").lines() == ["from outside"] * 2


def test_order_is_the_order_given(box, src):
    result = box.sh("ls /mnt; ls /mnt/deep", "--tmpfs=/mnt", "-v", f"{src}:/mnt/deep")
    assert result.lines() == ["deep", "file"]
    result = box.sh("ls -A /mnt", "-v", f"{src}:/mnt", "--tmpfs=/mnt")
    assert result.ok().out == ""
    result = box.sh("cat /mnt", "-v", f"{src}/file:/mnt/a", "--tmpfs=/mnt2", "--symlink", "/mnt/a", "/mnt2/l")
    assert result.rc != 0  # /mnt is a directory


def test_read_only_is_recursive(box, src):
    inner = box.top / "inner"
    inner.mkdir()
    result = box.sh("touch /mnt/x 2>&1; touch /mnt/in/x", "--tmpfs=/mnt", "-v", f"{inner}:/mnt/in", )
    assert result.rc == 0 and (inner / "x").exists()
    out = box.sh("for f in /proc/sys/kernel/x /sys/x /usr/x; do touch $f 2>/dev/null && echo $f; done; echo end", "--overlay=none").out
    assert out == "end\n"


def test_symlink_targets_stay_beneath_the_new_root(box, src):
    """A link in a --rootfs that points to /etc means the box's /etc, never the host's."""
    root = box.dir / "r"
    for d in ("etc", "real", "bin"):
        (root / d).mkdir(parents=True)
    (root / "out").symlink_to("/real")
    (root / "up").symlink_to("../../../../../../etc")
    result = box.sh("true", f"--rootfs={root}", "-v", f"{src}:/out/a", "-v", f"{src}:/up/b", "-v", "/usr:/usr", "-v", "/lib:/lib", "-v",
                    "/lib64:/lib64", "-v", "/bin:/bin")
    assert result.rc == 0, result
    assert not os.path.exists("/etc/b") and not os.path.exists("/real")
    out = box.sh("ls /real/a /etc/b", f"--rootfs={root}", "-v", f"{src}:/out/a", "-v", f"{src}:/up/b", "-v", "/usr:/usr", "-v", "/lib:/lib",
                 "-v", "/lib64:/lib64", "-v", "/bin:/bin").lines()
    assert out.count("file") == 2
    assert not (root / "real" / "a").exists() and not (root / "etc" / "b").exists()


def test_symlink_source_is_followed(box, src):
    link = box.top / "link"
    link.symlink_to(src)
    assert box.sh("cat /mnt/file", "-v", f"{link}:/mnt:ro").ok().out == "from outside\n"


@pytest.mark.slice
@pytest.mark.parametrize("name", ["with space", "new\nline", "tab\there", "ünïcödé-名前-🎁", "-dash", "quote'\"$(x)`", "back\\slash", "a" * 255, "\\040x"])
def test_names(box, name):
    directory = box.top / name
    directory.mkdir()
    (directory / name).write_text("inside\n", encoding="ascii")
    script = "import os,sys; print(open(os.path.join(sys.argv[1], os.listdir(sys.argv[1])[0])).read(), end='')"
    result = box.run("--rm", "--bind", directory, f"/mnt/{name}", "--", "/usr/bin/python3", "-c", script, f"/mnt/{name}")
    assert result.ok().out == "inside\n"
    result = box.run("--rm", "--ro", directory, "--", "/usr/bin/python3", "-c", script, directory)
    assert result.ok().out == "inside\n"
    result = box.run("--rm", "--", "/usr/bin/python3", "-c", script, ".", cwd=directory)
    assert result.ok().out == "inside\n"


def test_names_that_are_not_utf8(box):
    directory = os.fsencode(box.top) + b"/\xff\xfe"
    os.mkdir(directory)
    with open(directory + b"/f", "w", encoding="ascii") as f:
        f.write("inside\n")
    result = box.run("--rm", "--bind", os.fsdecode(directory), "/mnt/x", "--", "cat", "/mnt/x/f")
    assert result.ok().out == "inside\n"


def test_try_variants(box, src):
    for option in ("--bind-try", "--ro-bind-try", "--dev-bind-try"):
        assert box.sh("test -e /mnt/nope || echo none", option, "/no/such/source", "/mnt/nope").ok().out == "none\n"
        assert box.sh("cat /mnt/file", option, src, "/mnt").ok().out == "from outside\n"


def test_tmpfs(box):
    out = box.sh("stat -f -c %T /scratch; df -B1 --output=size /scratch | tail -1; stat -c %a /scratch; echo x >/scratch/x && cat /scratch/x",
                 "--tmpfs=/scratch:size=1M,mode=700").lines()
    assert (out[0], out[1].strip(), out[2], out[3]) == ("tmpfs", str(1 << 20), "700", "x")
    assert box.sh("dd if=/dev/zero of=/scratch/big bs=1M count=2", "--tmpfs=/scratch:size=1M").rc != 0
    assert box.sh("stat -f -c %T /m", "--mount=type=tmpfs,dst=/m,size=1M").ok().out == "tmpfs\n"


def test_symlink(box):
    assert box.sh("readlink /here; cat /here | head -c 4", "--symlink", "/etc/passwd", "/here").ok().out == "/etc/passwd\nroot"


def test_file_from_a_descriptor(box):
    r, w = os.pipe()
    os.write(w, b"through a descriptor\n")
    os.close(w)
    result = box.usbox("run", "--rm", "--file", str(r), "/etc/given", "--", "cat", "/etc/given", pass_fds=[r])
    os.close(r)
    assert result.ok().out == "through a descriptor\n"
    assert not os.path.exists("/etc/given")


def test_mqueue_and_proc(box):
    assert box.sh("stat -f -c %T /q; stat -f -c %T /p", "--mount=type=mqueue,dst=/q", "--mount=type=proc,dst=/p").lines() == ["mqueue", "proc"]
    # A second proc is no way around the masks.
    assert box.sh("head -c 64 /p/kcore /p/timer_list 2>/dev/null | wc -c; (echo x >/p/sysrq-trigger) 2>/dev/null && echo WRITTEN; true", "--mount=type=proc,dst=/p").out.strip() in ("0", "")


def test_device(box):
    assert box.sh("test -c /dev/fuse && echo there", "--device=/dev/fuse").ok().out == "there\n"
    assert box.sh("test -e /dev/fuse || echo none").ok().out == "none\n"


def test_dev_bind_lets_devices_work(box):
    assert box.sh("head -c 2 /mnt/d/zero | od -An -tx1; echo x >/mnt/d/null && echo works", "--dev-bind", "/dev", "/mnt/d").out.endswith("works\n")


def test_plain_bind_of_a_device_directory_is_nodev(box):
    result = box.sh("head -c 2 /mnt/d/zero 2>&1", "--ro-bind", "/dev", "/mnt/d")
    assert "Permission denied" in result.out, result


@pytest.mark.parametrize("options,words", [
    (["-v", "/no/such/thing:/mnt"], ["/no/such/thing"]), (["--ro", "/no/such/thing"], ["/no/such/thing"]),
    (["--rootfs", "/no/such/root"], ["/no/such/root"]), (["--device", "/dev/no-such"], ["/dev/no-such"]),
    (["--device", "/dev/pts"], ["not a device node", "hint:", "--dev-bind /dev/pts /dev/pts"]),
])
def test_missing_sources_stop_the_run(no_kept, options, words):
    assert_refused(no_kept.run(*options, "--", "true"), *words, hint=False)


@pytest.mark.parametrize("options", [["-v", "relative"], ["-v", "/etc:relative"], ["-v", "/etc:/mnt:rx"], ["-v", ""], ["-v", ":"], ["-v", "/etc:"],
                                     ["--mount", "type=nfs,dst=/m"], ["--mount", "dst=/m"], ["--mount", "type=tmpfs"],
                                     ["--mount", "type=bind,dst=/m"], ["--mount", "type=tmpfs,dst=/m,colour=red"], ["--tmpfs", "m"],
                                     ["--tmpfs", "/m:size=x"], ["--bind", "/etc"], ["--file", "99", "/x"], ["--file", "x", "/x"],
                                     ["--device", "/etc/passwd"], ["--symlink", "a", "b"]])
def test_bad_mount_options_stop_the_run(no_kept, options):
    result = no_kept.run(*options, "--", "true")
    assert result.rc == 125 and result.err.startswith("usbox: ") and result.out == "", result


def test_mounts_over_vital_places(box, src):
    """Over /proc or / itself: either a clear refusal or a box that works."""
    for target in ("/", "/proc", "/dev", "/proc/1"):
        result = box.sh("echo ran", "-v", f"{src}:{target}")
        assert result.rc in (0, 125, 127), (target, result)
        if result.rc == 125:
            assert result.err.startswith("usbox: "), result


def test_a_later_run_does_not_follow_what_a_box_left(box):
    """The box swaps a directory of its tree for a link; the next run must not mount through it onto the host."""
    box.run("--", "sh", "-c", "rm -rf target; ln -s /etc target").ok()
    box.write("src2/file", "x\n")
    before = set(os.listdir("/etc"))
    box.run("-v", f"{box.dir}/src2:{box.dir}/target/new", "--", "true")
    assert set(os.listdir("/etc")) == before


REPLACE = "mv vendor v2; mkdir vendor; ln -s {} vendor/lib"


@pytest.mark.parametrize("options", [["--rw", "vendor/lib"], ["--ro", "vendor/lib"], ["--ro", "vendor/lib/in/key"], ["-v", "{}/vendor/lib:/mnt"],
                                     ["--ro-bind-try", "{}/./vendor/../vendor/lib/in", "/mnt"], ["--rw", "vendor/lib", "--rw", "vendor/lib/in", "-v", "/etc:/mnt"],
                                     ["-v", "{}/../link:/mnt"]], ids=" ".join)
def test_a_source_in_a_written_tree_does_not_lead_out_of_it(no_kept, options):
    """An earlier run of the same line has put a symlink in its place. One that leads to something else in the tree gives nothing that the box has not."""
    box, cwd = no_kept, no_kept.dir / "proj"
    box.write("keys/in/key", "secret\n")
    box.write("proj/vendor/lib/in/key", "own\n")
    (box.dir / "link").symlink_to("proj/vendor/lib")
    line = ["--rm", "--network=none", "--rw", ".", *[word.format(cwd) for word in options], "--"]
    box.run(*line, "sh", "-c", REPLACE.format(box.dir / "keys"), cwd=cwd).ok()
    for more in ([], ["--dry-run"]):
        result = box.run(*more, *line, "cat", "vendor/lib/in/key", cwd=cwd)
        assert_refused(result, options[0].replace("-v", "--volume"), f"leads by a symlink out of {cwd}, which the box may write")
        assert str(box.dir / "keys") in result.err.splitlines()[1], result
    (cwd / "vendor/lib").unlink()
    (cwd / "vendor/lib").symlink_to("../v2/lib")
    box.run(*line, "true", cwd=cwd).ok()
    assert (box.dir / "keys/in/key").read_text() == "secret\n"


def test_a_source_beside_a_written_tree(no_kept):
    """The way to it leads out of the tree by names that the box cannot change."""
    no_kept.write("proj/f", "f\n")
    no_kept.write("lib/f", "lib\n")
    (no_kept.dir / "link").symlink_to("lib")
    (no_kept.dir / "project").symlink_to("proj")
    for source in ("../lib", "../link", no_kept.dir / "link"):
        assert no_kept.sh("cat /mnt/f", "--rw", ".", "--ro-bind", source, "/mnt", cwd=no_kept.dir / "proj").ok().out == "lib\n"
    assert no_kept.sh("cat /mnt/f", "--rw", "project", "-v", f"{no_kept.dir}/project/../link:/mnt").ok().out == "lib\n"


def test_a_root_in_a_written_tree(no_kept):
    no_kept.write("proj/root/f")
    no_kept.sh(f"mv root r2; ln -s {no_kept.dir} root", "--rw", ".", cwd=no_kept.dir / "proj").ok()
    assert_refused(no_kept.sh("true", "--rw", ".", "--rootfs", "root", cwd=no_kept.dir / "proj"), f"--rootfs: {no_kept.dir}/proj/root leads by a symlink out of")


@pytest.mark.parametrize("option", ["--net-log", "--pcap", "--trace-files", "--env-file", "--pidfile"])
@pytest.mark.parametrize("way", ["file", "nothing", "directory", "by another"])
def test_files_of_usbox_in_a_written_tree(no_kept, option, way):
    """It writes and reads none that the box has made a symlink of; a pidfile takes the place of one."""
    box, cwd, name = no_kept, no_kept.dir / "proj", "d/f"
    box.write("proj/d/f", "A=1\n")
    box.write("other/f", "SECRET=1\n")
    to = box.dir / "other" / {"file": "f", "directory": ""}.get(way, "g")
    if way == "by another":
        (box.dir / "f").symlink_to("proj/d/f")
        name = "../f"
    box.sh(f"rm -r d; ln -s {to} d" if way == "directory" else f"ln -sf {to} d/f", "--network=none", "--rw", ".", cwd=cwd).ok()
    result = box.sh("env", "--rw", ".", *(["--overlay=fuse"] if option == "--trace-files" else []), option, name, cwd=cwd)
    if option == "--pidfile" and way != "directory":
        result.ok()
    elif option == "--env-file" and to.name == "g":
        assert_refused(result, f"--env-file: {name}: No such file")
    else:
        assert_refused(result, f"{option}: {cwd}/{name} leads by a symlink out of {cwd}, which the box may write")
    assert [p.name for p in (box.dir / "other").iterdir()] == ["f"] and (box.dir / "other/f").read_text() == "SECRET=1\n"


@pytest.mark.parametrize("source", ["/tmp", "/dev/pts", "/sys/kernel", "/"])
def test_sources_are_the_host_s_alone(box, source):
    """While the box is built, a file system of its own stands somewhere in the host's tree: no source may have it in it."""
    marker = f"usbox-test-{os.getpid()}"
    if source == "/tmp":
        os.mkdir(f"/tmp/{marker}")
    try:
        names = set(box.sh("ls -A /mnt", "-v", f"{source}:/mnt").lines())
    finally:
        if source == "/tmp":
            os.rmdir(f"/tmp/{marker}")
    assert not {"root", "empty", "l1"} <= names and not {"mask", "vartmp"} & names, names
    assert source != "/tmp" or marker in names, names


@pytest.mark.parametrize("options, below", [(["--bind", "{}", "{}"], "{}"), (["-v", "{}:/mnt"], "/mnt"), (["--rw", "{}"], "{}"), (["--dev-bind", "{}", "/mnt"], "/mnt")],
                         ids=lambda o: o[0] if isinstance(o, list) else "")
def test_what_usbox_knows_of_boxes_is_not_the_boxes_to_write(box, options, below):
    """A tree that has it in it is given, and it stays as it is: of other boxes nothing is seen there, also where there is nothing yet."""
    at = below.format(box.top)
    script = f"cd {at} && ls -A data/usbox run/usbox; for d in data run; do mkdir -p $d/usbox/boxes/0123456789ab 2>&1; echo x 2>&1 >$d/usbox/x; done; echo y >beside"
    for _ in range(2):
        result = box.sh(script, "--rm", *[o.format(box.top) for o in options], cwd="/").ok()
        assert result.out.count("Read-only file system") == 4 and result.out.startswith("data/usbox:\n\nrun/usbox:\n"), result
        assert not (box.boxes / "0123456789ab").exists() and not (box.data / "usbox" / "x").exists() and not (box.runtime / "usbox" / "x").exists()
        assert (box.top / "beside").read_text(encoding="ascii") == "y\n"
        box.run("--name", "other", "--", "touch", "made").ok()
        box.usbox("rm", "other").ok()


def test_a_tree_of_what_usbox_knows_of_boxes(box):
    box.run("--name", "other", "--", "touch", "made").ok()
    (other,) = box.boxes.iterdir()
    for tree in (box.data / "usbox", box.boxes, other / "upper", box.runtime / "usbox"):
        assert_refused(box.run("--rw", tree, "--", "true"), "--rw", "usbox keeps what it knows of boxes there", "usbox explore")
    assert box.run("--rm", "--ro", box.boxes, "--", "ls", box.boxes).ok().out.split()
    (box.top / "by link").symlink_to(box.boxes)
    assert_refused(box.run("-v", f"{box.top / 'by link'}:/mnt", "--", "true"), "--volume", "usbox keeps what it knows of boxes there")
    box.usbox("rm", "other").ok()


def test_habits_of_others(box, src):
    assert_refused(box.run("-v", f"{src}:/mnt:Z", "--", "true"), "'Z' is not one of ro, rw", "labels and owners stay as they are")
    assert box.sh("echo x >/x/f && cat /x/f", "--tmpfs", "/x:rw,size=1M").ok().out == "x\n"
    assert "Read-only" in box.sh("touch /x/f", "--tmpfs", "/x:ro").err
