# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lower files that somebody changes under the mount, one step at a time: the box sees the one file or the other, never the bytes of one under the size of the
other, and nothing for ever. fast: what is known is trusted until data is asked for. strict: what is there shows at once."""
import errno
import mmap
import os
import stat

import pytest

from conftest import cannot, raises, wait_until

OLD = b"a" * 300_000
CACHES = ["fast", "strict"]


def replace(fs, name, data):
    """By rename, as editors and package managers do; a file of its own inode number."""
    fs.write(name + ".new", data)
    os.rename(fs.lower / (name + ".new"), fs.lower / name)


def make_again(path, number, make):
    """Files until one gets the inode number, which is free: it goes to path."""
    made = []
    for i in range(3000):
        made.append(path.with_name(f"{path.name}.{i}"))
        make(made[-1])
        if made[-1].lstat().st_ino == number:
            os.rename(made.pop(), path)
            break
    else:
        cannot("have an inode number given out again: not on this file system")
    for p in made:
        p.unlink()


def read(path):
    """What is there, or None: that cannot be said any more."""
    try:
        return path.read_bytes()
    except OSError as e:
        assert e.errno == errno.ESTALE
        return None


def read_at_last(path, wanted, *possible):
    """What it is becomes known, sooner or later; on the way nothing shows but that which was."""
    def right():
        found = read(path)
        assert found in (wanted, None, *possible), (len(found), set(found))
        return found == wanted
    assert wait_until(right, 20)


@pytest.mark.parametrize("size", [4, 300_000, 600_000])
@pytest.mark.parametrize("cache", CACHES)
def test_another_file_with_the_same_inode_number(fs, needs_ours, cache, size):
    """Only its name was looked up, so that nobody holds the number."""
    f = fs.write("f", OLD)
    fs.mount(f"cache={cache}")
    number = f.stat().st_ino
    assert (fs.mnt / "f").stat().st_size == len(OLD)
    replace(fs, "f", b"between")
    new = b"z" * size
    make_again(f, number, lambda p: p.write_bytes(new))
    if cache == "strict":
        assert (fs.mnt / "f").read_bytes() == new and (fs.mnt / "f").stat().st_size == size
    else:
        read_at_last(fs.mnt / "f", new)


@pytest.mark.slice
def test_a_symlink_with_the_same_inode_number(fs, needs_ours):
    link = fs.lower / "l"
    link.symlink_to("one")
    fs.mount("cache=strict")
    assert os.readlink(fs.mnt / "l") == "one"
    number = link.lstat().st_ino
    link.unlink()
    make_again(link, number, lambda p: p.symlink_to("another"))
    assert os.readlink(fs.mnt / "l") == "another"


CHANGES = {
    "same size": lambda f: f.write(b"in place"),
    "shorter": lambda f: (f.truncate(0), f.write(b"short")),
    "empty": lambda f: f.truncate(0),
    "longer": lambda f: (f.seek(0, os.SEEK_END), f.write(b"longer" * 1000)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("known", ["name", "data"])
@pytest.mark.parametrize("cache", CACHES)
def test_a_file_changed_in_place(fs, needs_ours, cache, known, change):
    f = fs.write("f", OLD)
    fs.mount(f"cache={cache}")
    m = fs.mnt / "f"
    assert m.stat().st_size == len(OLD)
    if known == "data":
        assert m.read_bytes() == OLD
    with open(f, "r+b") as out:
        CHANGES[change](out)
    new = f.read_bytes()
    if cache == "strict":
        assert m.read_bytes() == new and m.stat().st_size == len(new)
    elif known == "data":
        assert m.read_bytes() in (OLD, new)  # all of it is in the kernel's cache
    else:
        # What is there of what was: until the kernel has looked the name up again.
        read_at_last(m, new, new[:len(OLD)])
        assert m.stat().st_size == len(new)


def test_strict_sees_a_change_that_hides_its_time(fs, needs_ours):
    """rsync --inplace -t, cp -p: the same size, the same mtime."""
    f = fs.write("f", OLD)
    fs.mount("cache=strict")
    assert (fs.mnt / "f").read_bytes() == OLD
    st = f.stat()
    f.write_bytes(b"b" * len(OLD))
    os.utime(f, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert (fs.mnt / "f").read_bytes() == b"b" * len(OLD)


def test_strict_follows_a_file_that_grows(fs, needs_ours):
    """tail -f."""
    f = fs.write("log", b"one\n")
    fs.mount("cache=strict")
    with open(fs.mnt / "log", "rb") as tail, open(f, "ab", buffering=0) as log:
        for line in (b"one\n", b"two\n", b"three\n" * 2000, b"end\n"):
            if line != b"one\n":
                log.write(line)
            assert tail.read() == line


@pytest.mark.parametrize("cache", CACHES)
def test_who_has_a_file_open_keeps_it(fs, needs_ours, cache):
    """Replaced while it is read: its reader has the old one to its end, with its size and mode, and so has who writes to it."""
    fs.write("f", OLD, 0o640)
    fs.mount(f"cache={cache}")
    with open(fs.mnt / "f", "rb") as reader, open(fs.mnt / "f", "r+b", buffering=0) as writer:
        assert reader.read(1000) == OLD[:1000]
        replace(fs, "f", b"new")
        st = os.fstat(reader.fileno())
        assert (st.st_size, stat.S_IMODE(st.st_mode)) == (len(OLD), 0o640)
        assert reader.read() == OLD[1000:]
        assert writer.write(b"!") == 1
        os.fsync(writer.fileno())
        assert os.fstat(writer.fileno()).st_size == len(OLD)
    m = fs.mnt / "f"
    assert wait_until(lambda: read(m) == b"!" + OLD[1:], 20)
    assert stat.S_IMODE(m.stat().st_mode) == 0o640
    fs.remount()
    assert m.read_bytes() == b"!" + OLD[1:] and stat.S_IMODE(m.stat().st_mode) == 0o640


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("how", ["replaced", "in place"])
def test_a_changed_file_is_moved_and_written(fs, needs_ours, how, cache):
    """The kernel knows it as what it was: its new name is to be that of what is there."""
    f = fs.write("f", OLD)
    fs.mount(f"cache={cache}")
    assert (fs.mnt / "f").stat().st_size == len(OLD)
    new = b"b" * 5000
    if how == "replaced":
        replace(fs, "f", new)
    else:
        f.write_bytes(new)
    os.rename(fs.mnt / "f", fs.mnt / "g")
    with open(fs.mnt / "g", "ab") as out:
        out.write(b"!")
    assert (fs.mnt / "g").read_bytes() == new + b"!" and not (fs.mnt / "f").exists()
    fs.remount()
    assert (fs.mnt / "g").read_bytes() == new + b"!" and sorted(os.listdir(fs.mnt)) == ["g"]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("known", [os.stat, read])
def test_a_file_that_is_gone_is_written_anew(fs, needs_ours, known, cache):
    """By who makes it if it is not there, as a shell's > does, and dpkg: dpkg failed in a box while the host's was at work. Who does not is told."""
    for name in ("made", "cut", "moded"):
        fs.write(name, OLD)
    fs.mount(f"cache={cache}")
    for name in ("made", "cut", "moded"):
        known(fs.mnt / name)
        (fs.lower / name).unlink()
    (fs.mnt / "made").write_bytes(b"new")
    assert (fs.mnt / "made").read_bytes() == b"new" and sorted(os.listdir(fs.mnt)) == ["made"]
    raises(errno.ENOENT, lambda: os.truncate(fs.mnt / "cut", 0))
    raises(errno.ENOENT, lambda: os.chmod(fs.mnt / "moded", 0o600))
    fs.remount()
    assert (fs.mnt / "made").read_bytes() == b"new" and sorted(os.listdir(fs.mnt)) == ["made"]


def test_fast_appends_to_the_file_that_it_knows(fs, needs_ours):
    """A log that the host went on with: the box's line follows what the box knew of it. Of one that was cut off there is nothing to follow."""
    f, g = fs.write("f", b"one\n"), fs.write("g", b"one\n")
    fs.mount("cache=fast")
    for n in "fg":
        assert (fs.mnt / n).stat().st_size == 4
    with open(f, "ab") as out:
        out.write(b"two\n")
    g.write_bytes(b"")
    with open(fs.mnt / "f", "ab") as out:
        out.write(b"box\n")
    assert (fs.mnt / "f").read_bytes() == b"one\nbox\n"

    def append():
        with open(fs.mnt / "g", "ab") as out:
            out.write(b"box\n")
            out.flush()
            os.fsync(out.fileno())
    raises(errno.ESTALE, append)
    read_at_last(fs.mnt / "g", b"")
    append()
    assert (fs.mnt / "g").read_bytes() == b"box\n"


def write_by_call(fd, change):
    change()
    os.pwrite(fd, b"!", AT)
    os.fsync(fd)


def write_before(fd, change):
    """The page is dirty already, and not known to the server, when the host writes."""
    os.pwrite(fd, b"!", AT)
    change()
    os.fsync(fd)


def write_by_mapping(fd, change):
    with mmap.mmap(fd, len(OLD)) as m:
        assert m[AT:AT + 1] == b"a"
        change()
        m[AT:AT + 1] = b"!"
        m.flush()


def write_and_chmod(fd, change):
    """What has it copied up is no write, and leaves the pages where they are."""
    with mmap.mmap(fd, len(OLD)) as m:
        m[AT:AT + 1] = b"!"
        change()
        os.fchmod(fd, 0o600)
        m.flush()


def chmod_and_write(fd, change):
    change()
    os.fchmod(fd, 0o600)
    os.pwrite(fd, b"!", AT)
    os.fsync(fd)


AT = 5000
WAYS = {f.__name__: f for f in (write_by_call, write_before, write_by_mapping, write_and_chmod, chmod_and_write)}


@pytest.mark.parametrize("cache, size", [("fast", len(OLD)), ("fast", len(OLD) + 50_000), ("strict", len(OLD) + 50_000)])
@pytest.mark.parametrize("way", WAYS)
def test_no_page_of_what_was_gets_into_the_copy(fs, needs_ours, cache, way, size):
    """All of the file is in the kernel's cache when the host writes it anew, in place, and the box writes one byte."""
    f = fs.write("f", OLD)
    fs.mount(f"cache={cache}")
    m = fs.mnt / "f"
    assert m.read_bytes() == OLD

    def change():
        with open(f, "r+b", buffering=0) as out:
            out.write(b"b" * size)
    with open(m, "r+b", buffering=0) as both:
        fd = both.fileno()
        try:
            WAYS[way](fd, change)
            lost = False
        except OSError as e:
            assert e.errno in (errno.ESTALE, errno.EIO), e
            lost = True
            assert wait_until(lambda: set(os.pread(fd, 2 * size, 0)) == {ord("b")}, 20)  # once the kernel dropped its pages
        found = os.pread(fd, 2 * size, 0)
    files = [found, m.read_bytes()]
    fs.remount()
    files.append(m.read_bytes())
    # In the order of what is to be said: of one content, with the byte where the write went well, and no other changes.
    for data in files:
        assert len(set(data.replace(b"!", b""))) == 1 and len(data) in (len(OLD), size), (lost, len(data), set(data))
        assert (data.count(b"!") == 1 and data[AT:AT + 1] == b"!") if not lost else b"!" not in data, lost
    assert files == [files[0]] * 3
    # Where the kernel asks before it writes nothing is lost.
    assert not lost or way not in ("write_by_call", "chmod_and_write")


@pytest.mark.parametrize("cache", CACHES)
def test_the_copy_of_a_replaced_file_takes_what_was_written(fs, needs_ours, cache):
    """It is what it was, though without a name on the host."""
    fs.write("f", OLD)
    fs.mount(f"cache={cache}")
    with open(fs.mnt / "f", "r+b", buffering=0) as both, mmap.mmap(both.fileno(), len(OLD)) as m:
        assert m[:] == OLD
        m[AT:AT + 1] = b"!"
        replace(fs, "f", b"new")
        m.flush()
        assert os.pread(both.fileno(), AT + 1, 0) == OLD[:AT] + b"!"


def test_a_log_that_host_and_box_append_to(fs, needs_ours):
    """The line of the box was in the kernel when the host wrote its own behind the same end: the one before them is what it was, and no other is lost."""
    f = fs.write("f", b"one\n")
    fs.mount("cache=fast")
    with open(fs.mnt / "f", "ab", buffering=0) as out:
        out.write(b"box\n")
        with open(f, "ab") as log:
            log.write(b"two\n")
        os.fsync(out.fileno())
        out.write(b"end\n")
        os.fsync(out.fileno())
    assert (fs.mnt / "f").read_bytes() == b"one\nbox\nend\n"


@pytest.mark.parametrize("change", ["read", "append"])
def test_fast_knows_how_large_a_large_file_was(fs, needs_ours, change):
    """A log of 3 GiB that was begun anew: of it there are no zeros to be read, and nothing to be followed."""
    f = fs.write("f", b"line\n")
    os.truncate(f, 3 << 30)
    fs.mount("cache=fast")
    assert (fs.mnt / "f").stat().st_size == 3 << 30
    f.write_bytes(b"")

    def use():
        with open(fs.mnt / "f", "a+b", buffering=0) as both:
            if change == "read":
                assert os.pread(both.fileno(), 1, 0) == b""
            both.write(b"box\n")
            os.fsync(both.fileno())
    raises(errno.ESTALE, use)
    read_at_last(fs.mnt / "f", b"")


@pytest.mark.parametrize("cache", CACHES)
def test_names_of_one_file_that_was_replaced(fs, needs_ours, cache):
    """One of two hard links becomes a file of its own: the other one stays what it was."""
    fs.write("a", OLD)
    os.link(fs.lower / "a", fs.lower / "b")
    fs.mount(f"cache={cache}")
    for n in "ab":
        assert (fs.mnt / n).stat().st_nlink == 2
    replace(fs, "a", b"new")
    if cache == "strict":
        assert (fs.mnt / "a").read_bytes() == b"new"
    else:
        read_at_last(fs.mnt / "a", b"new")
    read_at_last(fs.mnt / "b", OLD)
    with open(fs.mnt / "b", "ab") as out:
        out.write(b"!")
    assert (fs.mnt / "a").read_bytes() == b"new" and (fs.mnt / "b").read_bytes() == OLD + b"!"
