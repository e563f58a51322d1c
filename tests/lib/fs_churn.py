# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random changes in a tree, and what the tree then is: fs_churn.py SEED COUNT DIR prints it as JSON. Also a module: snapshot(), populate()."""
import json
import os
import random
import stat
import sys

NAMES = ["a", "b", "c", "dir", "dir.d", "x y", "new\nline", "ä", "\udcff", "-", ".hidden"]


def text(data):
    return data.decode("utf-8", "surrogateescape")


def snapshot(top):
    """Path → (type, mode, content or target) of all below top, which itself is not in it."""
    found = {}

    def walk(directory, prefix):
        for entry in os.scandir(directory):
            path = prefix + "/" + os.fsdecode(entry.name)
            st = entry.stat(follow_symlinks=False)
            mode = stat.S_IMODE(st.st_mode)
            if stat.S_ISDIR(st.st_mode):
                found[path] = ("dir", mode, "")
                walk(entry.path, path)
            elif stat.S_ISLNK(st.st_mode):
                found[path] = ("symlink", mode, os.readlink(entry.path))
            elif stat.S_ISREG(st.st_mode):
                with open(entry.path, "rb") as file:
                    found[path] = ("file", mode, text(file.read()))
            else:
                found[path] = ("fifo", mode, "")
    walk(top, "")
    return found


def populate(top, rng, depth=3):
    """Some files, links and directories."""
    for name in rng.sample(NAMES, 7):
        path = os.path.join(top, name)
        kind = rng.randrange(10)
        if kind < 4 and depth > 0:
            os.mkdir(path, rng.choice([0o755, 0o700, 0o775]))
            populate(path, rng, depth - 1)
        elif kind < 5:
            os.symlink(rng.choice(["/etc/passwd", "a", ".."]), path)
        else:
            write(path, rng)
            os.chmod(path, rng.choice([0o644, 0o600, 0o755]))


def write(path, rng):
    # Neither through a link nor into a FIFO, where open(2) would wait for a reader.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    with open(fd, "wb") as file:
        file.write(bytes(rng.choices(b"abc\n", k=rng.randrange(40))))


def all_below(top):
    return sorted(os.path.join(directory, name) for directory, folders, files in os.walk(top) for name in folders + files)


def change(top, rng):
    """One step; what cannot be done is not."""
    paths = all_below(top)
    some = rng.choice(paths) if paths else top
    directories = [top] + [p for p in paths if os.path.isdir(p) and not os.path.islink(p)]
    fresh = os.path.join(rng.choice(directories), rng.choice(NAMES))
    step = rng.randrange(14)
    if step < 2:
        write(fresh, rng)
    elif step < 3:
        os.mkdir(fresh)
    elif step < 4:
        os.symlink(rng.choice(NAMES), fresh)
    elif step < 5:
        os.link(some, fresh, follow_symlinks=False)
    elif step < 6:
        os.mkfifo(fresh)
    elif step < 8:
        os.rename(some, fresh)
    elif step < 10:
        os.unlink(some)
    elif step < 11:
        os.rmdir(some)
    elif step < 12 and not os.path.islink(some):
        os.chmod(some, rng.choice([0o644, 0o700, 0o755]) | (0o700 if os.path.isdir(some) else 0))
    elif os.path.isfile(some) and not os.path.islink(some):
        if step < 13:
            with open(some, "ab") as file:
                file.write(b"more")
        else:
            os.truncate(some, 3)


def main():
    seed, count, top = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    rng = random.Random(seed)
    for _ in range(count):
        try:
            change(top, rng)
        except OSError:
            pass
    json.dump(snapshot(top), sys.stdout)


if __name__ == "__main__":
    main()
