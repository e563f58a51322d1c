# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random lower layers, and the plain tree that they show when merged."""
import os
import pathlib
import random
import shutil
import subprocess

from conftest import whiteout

NAMES = ["a", "b", "c", "d", "e", "f", "g", "h", "-dash", "with space", "line\nfeed", os.fsdecode(b"\xff\xfe not utf-8"), "..dots", "x"]
OLD = 1_000_000_000  # times before 1.6e9 are compared to the nanosecond by the model


def _stamp(rng, path):
    when = rng.randrange(OLD * 10**9)
    os.utime(path, ns=(when, when), follow_symlinks=False)


def _copy_entry(source, target):
    """One entry with all that belongs to it, a directory without its contents."""
    st = source.lstat()
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        target.mkdir(exist_ok=True)
    elif source.is_file():
        shutil.copyfile(source, target)
    for name in [] if source.is_symlink() else os.listxattr(source):
        if not name.startswith("user.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    if not source.is_symlink():
        target.chmod(st.st_mode & 0o7777)
    os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns), follow_symlinks=False)


def _new_file(rng, path):
    kind = rng.random()
    if kind < .12:
        path.symlink_to(rng.choice([*NAMES, "a/b", "/nowhere"]))
    else:
        size = rng.choice([0, 1, 100, 4095, 4096, 5000, 20000, 70000])
        data = rng.randbytes(size)
        if kind > .9:  # with a hole
            with open(path, "wb") as f:
                f.write(data)
                f.seek(rng.randrange(1, 300_000), 1)
                f.write(b"end")
        else:
            path.write_bytes(data)
        if rng.random() < .2:
            os.setxattr(path, rng.choice(["user.a", "user.b"]), rng.randbytes(30))
        path.chmod(rng.choice([0o644, 0o644, 0o600, 0o755, 0o444, 0o4755]))
    _stamp(rng, path)


def populate(rng, top, entries, links):
    dirs, files = [top], []
    for _ in range(entries):
        where = rng.choice(dirs)
        path = where / rng.choice(NAMES)
        if os.path.lexists(path) or len(path.relative_to(top).parts) > 4:
            continue
        if rng.random() < .3:
            path.mkdir()
            dirs.append(path)
        elif links and files and rng.random() < .15:
            os.link(rng.choice(files), path, follow_symlinks=False)
        else:
            _new_file(rng, path)
            files.append(path)
    for d in reversed(dirs):
        d.chmod(rng.choice([0o755, 0o755, 0o700, 0o555, 0o2755]) if d != top else 0o755)
        _stamp(rng, d)


def _make_writable(top):
    for root, dirs, _files in os.walk(top):
        for name in dirs:
            where = os.path.join(root, name)
            if not os.path.islink(where):
                os.chmod(where, os.stat(where).st_mode & 0o7777 | 0o700)


def _parents(layer, oracle, relative):
    """The directories on the way to an entry of a layer are copies of what is below."""
    for parent in reversed(relative.parents):
        if not (layer / parent).is_dir() or parent == pathlib.Path("."):
            (layer / parent).mkdir(exist_ok=True)
            if parent != pathlib.Path("."):
                os.chmod(layer / parent, (oracle / parent).stat().st_mode & 0o7777 | 0o700)


def _layer(rng, layer, oracle, changes):
    """A layer of whiteouts, opaque directories and replaced entries on what the oracle has, done to the oracle, too."""
    for _ in range(changes):
        entries = [pathlib.Path(r).relative_to(oracle) / n for r, d, f in os.walk(oracle) for n in sorted(d + f)]
        relative = rng.choice(sorted(entries))
        in_layer, in_oracle = layer / relative, oracle / relative
        if os.path.lexists(in_layer):
            continue
        _parents(layer, oracle, relative)
        was_dir = in_oracle.is_dir() and not in_oracle.is_symlink()
        if was_dir:
            remove_oracle_dir(in_oracle)
        else:
            in_oracle.unlink()
        kind = rng.random()
        if kind < .4:
            whiteout(in_layer)
        elif kind < .6:
            in_layer.mkdir()
            if was_dir:
                os.setxattr(in_layer, "user.overlay.opaque", b"y")
            _new_file(rng, in_layer / "new")
            _stamp(rng, in_layer)
            _copy_entry(in_layer, in_oracle)
            _copy_entry(in_layer / "new", in_oracle / "new")
            _copy_entry(in_layer, in_oracle)
        else:
            _new_file(rng, in_layer)
            _copy_entry(in_layer, in_oracle)
    # What a directory is like is said by the topmost layer that has it.
    for root, dirs, _files in os.walk(layer, topdown=False):
        for name in dirs:
            path = pathlib.Path(root, name)
            if not path.is_symlink():
                _stamp(rng, path)
                target = oracle / path.relative_to(layer)
                st = path.stat()
                target.chmod(st.st_mode & 0o7777)
                os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))


def remove_oracle_dir(path):
    for root, dirs, _files in os.walk(path):
        for name in dirs:
            where = os.path.join(root, name)
            if not os.path.islink(where):
                os.chmod(where, 0o700)
    os.chmod(path, 0o700)
    shutil.rmtree(path)


def build(overlay, oracle, seed, entries=250, links=True):
    """Fill the overlay's lower layers; the oracle is what they show. Hard links only where there is one layer: what is left of a link
    group when an upper layer hides one of its names, no overlay can tell from stat alone."""
    rng = random.Random(seed)
    base = overlay.lowers[-1]
    populate(rng, base, entries, links and len(overlay.lowers) == 1)
    copy_tree(base, oracle)
    for layer in reversed(overlay.lowers[:-1]):
        _make_writable(oracle)
        _layer(rng, layer, oracle, entries // 6)
    # A directory's mode in the oracle is the topmost layer's, also where it had to be made writable on the way.
    for root, dirs, _files in os.walk(oracle, topdown=False):
        for name in [*dirs]:
            path = pathlib.Path(root, name)
            if path.is_symlink():
                continue
            for layer in overlay.lowers:
                if (layer / path.relative_to(oracle)).is_dir():
                    st = (layer / path.relative_to(oracle)).stat()
                    path.chmod(st.st_mode & 0o7777)
                    os.utime(path, ns=(st.st_mtime_ns, st.st_mtime_ns))
                    break


def copy_tree(source, target):
    """A copy with links, xattrs, holes and times."""
    subprocess.run(["cp", "-a", "--sparse=auto", "-T", str(source), str(target)], check=True)
