# SPDX-License-Identifier: LGPL-2.1-or-later
"""One on-disk form, three drivers: layers that usbox-fs made, mounted with the kernel's overlayfs, and the other way round; and the forms of
fuse-overlayfs and of container images, read.

Two things an upper of usbox-fs can have that overlayfs in a user namespace does not follow (it does where root mounts): directories that were
renamed (user.overlay.redirect: the option userxattr turns redirects off), and lower files of several names (the index is in the work directory)."""
import errno
import os
import shutil
import stat
import subprocess

import pytest

import layers
import overlayfs
from conftest import SERVER, assert_same, cannot, mounted, raises, remove_tree, snapshot, wait_until, whiteout
from test_model import MODEL, run_model

pytestmark = pytest.mark.skipif(SERVER in ("kernel", "plain"), reason="this machine cannot be another driver than the one asked for")
# acl: the ids of their entries have other numbers inside of the namespace.
NO_KERNEL_FORMS = ["link", "tmpfile", "dirrename", "acl"]
BY_KERNEL = "link,tmpfile,acl,number,dirtime,redirect,dirrename,slots"  # descriptors of lower files go stale there


@pytest.fixture
def scene(make_overlay):
    """scene(seed, lowers) → an Overlay and its oracle."""
    def make(seed, lowers=1):
        overlay = make_overlay(lowers)
        oracle = overlay.top / "oracle"
        oracle.mkdir()
        layers.build(overlay, oracle, seed, links=False)
        return overlay, oracle
    return make


def kernel(overlay, *command):
    return overlayfs.run(overlay.lowers, overlay.upper, overlay.work, overlay.mnt, *command)


def changed(overlay, oracle, seed, ops=2500, **kw):
    """Random changes through usbox-fs, to the mount and the oracle."""
    overlay.mount()
    error = run_model(overlay, oracle, "--seed", seed, "--ops", ops, "--compare", ops, without=NO_KERNEL_FORMS, **kw)
    assert error is None, f"{error}\n{overlay.messages()}"
    overlay.umount()


@pytest.mark.parametrize("seed", [501, 502])
@pytest.mark.parametrize("lowers", [1, 3])
def test_overlayfs_shows_what_usbox_fs_made(scene, seed, lowers):
    overlay, oracle = scene(seed, lowers)
    changed(overlay, oracle, seed)
    assert_same(kernel(overlay), overlayfs.shown(oracle))


@pytest.mark.parametrize("seed", [511, 512])
@pytest.mark.parametrize("lowers", [1, 3])
def test_usbox_fs_shows_what_overlayfs_made(scene, seed, lowers):
    overlay, oracle = scene(seed, lowers)
    command = [MODEL, "--seed", seed, "--ops", 2500, "--compare", 2500, "--without", BY_KERNEL, overlay.mnt, oracle]
    found = kernel(overlay, *command)
    assert_same(found, overlayfs.shown(oracle))
    overlay.mount()
    assert_same(overlayfs.shown(overlay.mnt), found)
    error = run_model(overlay, oracle, "--seed", seed + 1, "--ops", 1000, without=[*NO_KERNEL_FORMS, "dirtime", "number"])
    assert error is None, f"{error}\n{overlay.messages()}"


def test_drivers_take_turns_on_one_upper(scene):
    overlay, oracle = scene(521, 2)
    for turn in range(3):
        changed(overlay, oracle, 522 + turn, 800)
        command = [MODEL, "--seed", 532 + turn, "--ops", 800, "--without", BY_KERNEL, overlay.mnt, oracle]
        assert_same(kernel(overlay, *command), overlayfs.shown(oracle))
    overlay.mount()
    assert_same(overlayfs.shown(overlay.mnt), overlayfs.shown(oracle))


def test_an_upper_of_either_is_a_lower_of_the_other(scene):
    overlay, oracle = scene(541)
    changed(overlay, oracle, 541)
    for number in range(2):
        overlay.lowers.insert(0, overlay.upper)
        overlay.upper, overlay.work = overlay.top / f"upper{number}", overlay.top / f"work{number}"
        overlay.upper.mkdir()
        overlay.work.mkdir()
        if number == 0:
            command = [MODEL, "--seed", 542, "--ops", 1500, "--without", BY_KERNEL, overlay.mnt, oracle]
            assert_same(kernel(overlay, *command), overlayfs.shown(oracle))
        else:
            overlay.mount()
            assert_same(overlayfs.shown(overlay.mnt), overlayfs.shown(oracle))


def test_a_renamed_directory_is_a_redirect_in_overlayfs_s_form(fs):
    fs.write("a/b/f", b"x")
    fs.mount()
    os.rename(fs.mnt / "a/b", fs.mnt / "c")
    os.rename(fs.mnt / "a", fs.mnt / "c/a")
    fs.umount()
    assert os.getxattr(fs.upper / "c", "user.overlay.redirect") == b"/a/b" and os.getxattr(fs.upper / "c/a", "user.overlay.redirect") == b"/a"
    st = os.lstat(fs.upper / "a")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    # What a user namespace's overlayfs makes of it, never a wrong tree: it refuses.
    found = overlayfs.run(fs.lowers, fs.upper, fs.work, fs.mnt, "sh", "-c", f"! ls {fs.mnt}/c 2>/dev/null")
    assert found == {b"c": ["EPERM"]}


@pytest.mark.slice
def test_the_forms_on_disk(fs):
    """What overlayfs's documentation says, byte for byte (Documentation/filesystems/overlayfs.rst)."""
    for n in ("d/f", "d/g", "gone", "e/f"):
        fs.write(n, n)
    fs.mount()
    os.unlink(fs.mnt / "gone")
    os.unlink(fs.mnt / "d/f")
    shutil.rmtree(fs.mnt / "e")
    os.mkdir(fs.mnt / "e")
    (fs.mnt / "d/g").chmod(0o600)
    (fs.mnt / "d/new").write_bytes(b"new")
    fs.umount()
    for n in ("gone", "d/f"):
        st = os.lstat(fs.upper / n)
        assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0, n
    assert os.getxattr(fs.upper / "e", "user.overlay.opaque") == b"y" and os.listdir(fs.upper / "e") == []
    assert "user.overlay.opaque" not in os.listxattr(fs.upper / "d")
    assert (fs.upper / "d/g").read_bytes() == b"d/g" and (fs.upper / "d/new").read_bytes() == b"new"
    assert sorted(os.listdir(fs.upper)) == ["d", "e", "gone"] and sorted(os.listdir(fs.upper / "d")) == ["f", "g", "new"]


def test_forms_of_container_images(make_overlay):
    """.wh.NAME and .wh..wh..opq, as layers of images have them, in an upper layer over a lower one; the marks are not shown."""
    fs = make_overlay(2)
    for n in ("gone", "kept", "d/hidden", "d/sub/hidden", "e/gone", "e/kept"):
        fs.write(n, n, where=fs.lowers[1])
    fs.write(".wh.gone", b"")
    fs.write("d/.wh..wh..opq", b"")
    fs.write("d/own", b"own")
    fs.write("e/.wh.gone", b"")
    fs.mount()
    for again in (False, True):
        assert sorted(os.listdir(fs.mnt)) == ["d", "e", "kept"] and os.listdir(fs.mnt / "d") == ["own"] and os.listdir(fs.mnt / "e") == ["kept"]
        for n in ("gone", "d/sub", "e/gone", ".wh.gone", "d/.wh..wh..opq"):
            raises(errno.ENOENT, os.stat, fs.mnt / n)
        if not again:
            (fs.mnt / "d/own").write_bytes(b"changed")
            fs.remount()
    (fs.mnt / "gone").write_bytes(b"again")
    (fs.mnt / "e/gone").mkdir()
    fs.remount()
    assert (fs.mnt / "gone").read_bytes() == b"again" and os.listdir(fs.mnt / "e/gone") == [] and (fs.mnt / "d/own").read_bytes() == b"changed"


@pytest.mark.parametrize("name", ["user.overlay.opaque", "user.fuseoverlayfs.opaque"])
def test_forms_of_opaque_directories(make_overlay, name):
    fs = make_overlay(2)
    fs.write("d/hidden", b"", where=fs.lowers[1])
    fs.write("d/own", b"")
    os.setxattr(fs.lower / "d", name, b"y")
    whiteout(fs.lower / "w")
    fs.write("w", b"", where=fs.lowers[1])
    fs.mount()
    assert os.listdir(fs.mnt / "d") == ["own"] and os.listdir(fs.mnt) == ["d"]
    assert [n for n in os.listxattr(fs.mnt / "d") if "opaque" in n] == []


def test_an_upper_that_fuse_overlayfs_made(make_overlay):
    program = shutil.which("fuse-overlayfs")
    if not program:
        cannot("run fuse-overlayfs: not installed")
    fs = make_overlay(2)
    for n in ("a", "b", "c", "d/x", "d/y", "e/x", "e/sub/y", "f/x"):
        fs.write(n, n, where=fs.lowers[1])
    fs.write("f/over", b"over")
    server = subprocess.Popen([program, "-f", "-o", f"lowerdir={fs.lowers[0]}:{fs.lowers[1]},upperdir={fs.upper},workdir={fs.work}", str(fs.mnt)])
    try:
        assert wait_until(lambda: mounted(fs.mnt))
        m = fs.mnt
        os.unlink(m / "a")
        (m / "b").write_bytes(b"changed")
        (m / "b").chmod(0o600)
        os.rename(m / "c", m / "moved")
        os.unlink(m / "d/x")
        shutil.rmtree(m / "e")
        (m / "e").mkdir()
        (m / "e/new").write_bytes(b"new")
        shutil.rmtree(m / "f")
        os.symlink("nowhere", m / "f")
        (m / "g").mkdir()
        expected = snapshot(m, times=False)
    finally:
        subprocess.run(["umount" if os.getuid() == 0 else "fusermount3", *([] if os.getuid() == 0 else ["-u"]), str(fs.mnt)], check=True)
        assert server.wait(60) == 0
    assert len(expected) == 8, sorted(expected)
    fs.mount()
    assert_same(snapshot(fs.mnt, times=False), expected)
    (fs.mnt / "a").write_bytes(b"again")
    os.rename(fs.mnt / "e", fs.mnt / "h")
    fs.remount()
    assert sorted(os.listdir(fs.mnt)) == ["a", "b", "d", "f", "g", "h", "moved"] and os.listdir(fs.mnt / "h") == ["new"]


def test_usbox_fs_s_marks_do_not_show_in_a_copy(fs):
    """An upper copied by cp -a, as backups do, is the same upper."""
    for n in ("d/f", "d/g", "h"):
        fs.write(n, n)
    os.link(fs.lower / "h", fs.lower / "h2")
    fs.mount()
    os.rename(fs.mnt / "d", fs.mnt / "moved")
    os.unlink(fs.mnt / "moved/f")
    (fs.mnt / "h").write_bytes(b"changed")
    os.listdir(fs.mnt)
    expected = snapshot(fs.mnt, times=False)
    fs.umount()
    for n in ("upper", "work"):
        subprocess.run(["cp", "-a", str(fs.top / n), str(fs.top / f"{n}.copy")], check=True)
        remove_tree(fs.top / n)
    fs.upper, fs.work = fs.top / "upper.copy", fs.top / "work.copy"
    fs.mount()
    assert_same(snapshot(fs.mnt, times=False), expected)
