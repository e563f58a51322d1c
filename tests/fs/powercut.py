# SPDX-License-Identifier: LGPL-2.1-or-later
"""The power-cut model of an upper: what the disk may hold when the power goes, from a record of the calls that usbox-fs made.

A call that changes a file system changes memory first. What of it is on the disk is what was synced, and some of the rest. Two rules say which rest:

ordered   names, attributes and lengths reach the disk in the order in which they were changed (a journal: ext4, XFS, btrfs, F2FS); data that was written
          reaches it in any order, or not at all
loose     names and attributes, too, come in any order, or not at all, but for what belongs together: changes of one file, or of one name

By both a rename happens or does not, fsync(2) of a file is for its data and attributes, fsync(2) of a directory for its names and attributes, fdatasync(2) for data
and length. The calls come from strace(1), with all arguments in hexadecimal (-xx) and descriptors with their paths (-y)."""
import json
import os
import random
import re
import stat

# What a filter of usbox-fs allows and changes no file by itself, or only what the model does not look at (owners: there is one; times).
HARMLESS = set("""newfstatat fstat statx statfs fstatfs getdents64 readlinkat faccessat faccessat2 name_to_handle_at lseek pread64 read write writev pipe2 splice
fgetxattr flistxattr getxattr lgetxattr getxattrat listxattrat listxattr llistxattr umask clone clone3 unshare mmap mprotect eventfd2 munmap mremap madvise brk futex
set_robust_list rseq rt_sigprocmask rt_sigreturn rt_sigaction sigaltstack sysinfo clock_gettime clock_nanosleep gettid getpid sched_yield sched_getaffinity getrandom
restart_syscall poll ppoll exit exit_group tgkill sendmsg recvmsg fchownat fchown utimensat sync_file_range""".split())
# By the descriptor's own path in /proc, where the kernel has them: the recorder has it say that they are not there.
REFUSED = {"setxattrat": 463, "removexattrat": 466}
MODELLED = set("""openat openat2 close fcntl ioctl mkdirat mknodat symlinkat linkat unlinkat renameat renameat2 fchmodat fchmod ftruncate fallocate fsync fdatasync
pwrite64 copy_file_range fsetxattr fremovexattr setxattr lsetxattr removexattr lremovexattr""".split())
TRACED = sorted(MODELLED | {"write", "execve", "clone", "clone3"})

LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
HEX = re.compile(r"\\x([0-9a-f]{2})")
NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")


def text(hexadecimal):
    return os.fsdecode(data(hexadecimal))


def data(hexadecimal):
    return bytes.fromhex(HEX.sub(r"\1", hexadecimal.strip('"')))


def split(arguments):
    """At the commas of the outermost level."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(arguments):
        if c in "[{(":
            depth += 1
        elif c in "]})":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(arguments[start:i].strip())
            start = i + 1
    return [*parts, arguments[start:].strip()]


def calls(trace):
    """(pid, name, arguments, result as text) of each call that did not fail, in the order in which they ended; but a close(2) where it begins, since its
    number is another thread's to get before it has ended."""
    begun = {}
    with open(trace, encoding="ascii") as f:
        for line in f:
            m = LINE.match(line)
            if not m:
                continue
            pid, resumed, name, rest = m.groups()
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest[:-len("<unfinished ...>")]
                if name == "close":
                    yield int(pid), name, [begun[pid].strip()], "0"
                continue
            if resumed:
                name, rest = resumed, begun.pop(pid) + rest
                if name == "close":
                    continue
            arguments, _, result = rest.rpartition(" = ")
            result = result.strip()
            if not result.startswith(("-", "?")):
                yield int(pid), name, split(arguments.rstrip().removesuffix(")")), result


class Inode:
    def __init__(self, kind, mode, target=None):
        self.kind, self.mode, self.target = kind, mode, target


class Recorder:
    """From calls to changes. Each change is a tuple: kind, inode, what.
    names:  {(directory, name): inode or None, ...}, all at once      attr: (key, value or None)
    length: size        write: (offset, bytes)        sync: all, or only data"""

    def __init__(self, top, server):
        self.top, self.server = top, server
        self.roots = {f"{top}/upper": Inode("d", 0o755), f"{top}/work": Inode("d", 0o755)}
        self.now = {}      # (directory, name) → inode
        self.fds = {}      # descriptor of the server → inode, or the path of a file that is no part of it
        self.changes, self.marks = [], []

    # Where things are.

    def walk(self, at, path):
        """(inode of the directory, last name), or (None, path) where it is outside of the upper and the work directory."""
        parts = [p for p in path.split("/") if p not in ("", ".")]
        for part in parts[:-1]:
            at = self.now.get((at, part))
        return at, parts[-1] if parts else "."

    def place(self, fd, path=None):
        name = text(path) if path and path != "NULL" else ""
        number = re.match(r"/proc/self/fd/(\d+)/?(.*)", name)
        if number:
            at, name = self.fds.get(int(number[1])), number[2]
        elif name.startswith("/"):
            root = next((r for r in self.roots if name == r or name.startswith(r + "/")), None)
            at, name = self.roots.get(root), name[len(root or ""):]
        else:
            at = self.fds.get(int(NUMBER.match(fd)[0])) if not fd.startswith("AT_FDCWD") else None
        if not isinstance(at, Inode):
            return None, os.path.join(at or "", name)
        return self.walk(at, name)

    def inode(self, fd, path=None):
        at, name = self.place(fd, path)
        return None if at is None else at if name == "." else self.now.get((at, name))

    # What happens.

    def change(self, kind, inode, what):
        if inode is not None:
            self.changes.append((kind, inode, what))

    def names(self, inode, entries):
        if all(at is not None for at, _ in entries):
            self.now.update(entries)
            self.changes.append(("names", inode, entries))

    def made(self, fd, path, inode):
        at, name = self.place(fd, path)
        if at is not None:
            self.names(inode, {(at, name): inode})
        return inode

    def opened(self, fd, path, flags, mode, result):
        number = int(NUMBER.match(result)[0])
        at, name = self.place(fd, path)
        if name == "..":  # the look whether the upper and the work directory lie within one another
            at = None
        inode = at if name == "." else self.now.get((at, name)) if at is not None else None
        if at is not None and "O_TMPFILE" in flags:
            inode = Inode("f", mode)
        elif at is not None and inode is None:
            assert "O_CREAT" in flags, (name, flags)
            inode = self.made(fd, path, Inode("f", mode))
        elif inode is not None and "O_TRUNC" in flags:
            self.change("length", inode, 0)
        self.fds[number] = inode if inode is not None else text(result[result.index("<") + 1:result.rindex(">")])

    def renamed(self, fd, path, fd2, path2, flags):
        (a, name), (b, name2) = self.place(fd, path), self.place(fd2, path2)
        if a is None:
            return
        one, two = self.now[a, name], self.now.get((b, name2))
        left = two if "EXCHANGE" in flags else Inode("w", 0) if "WHITEOUT" in flags else None
        if one is not two:
            self.names(one, {(a, name): left, (b, name2): one})

    def copied(self, source, offset, target, offset2, size):
        inode, path = self.inode(target), self.fds.get(int(NUMBER.match(source)[0]))
        if isinstance(path, Inode):
            content = State(self.changes).content(path)[offset:offset + size]
        else:
            with open(path, "rb") as f:
                f.seek(offset)
                content = f.read(size)
        self.change("write", inode, (offset2, content))

    def call(self, name, a, result):
        if name == "openat":
            self.opened(a[0], a[1], a[2], int(a[3], 8) if len(a) > 3 else 0, result)
        elif name == "openat2":
            mode = re.search(r"mode=(\d+)", a[2])
            self.opened(a[0], a[1], a[2], int(mode[1], 8) if mode else 0, result)
        elif name == "close":
            self.fds.pop(int(NUMBER.match(a[0])[0]), None)
        elif name == "fcntl":
            if "DUPFD" in a[1]:
                self.fds[int(NUMBER.match(result)[0])] = self.fds.get(int(NUMBER.match(a[0])[0]))
        elif name == "mkdirat":
            self.made(a[0], a[1], Inode("d", int(a[2], 8)))
        elif name == "mknodat":
            self.made(a[0], a[1], Inode("w" if "S_IFCHR" in a[2] else "p", 0o644))
        elif name == "symlinkat":
            self.made(a[1], a[2], Inode("l", 0o777, text(a[0])))
        elif name == "linkat":
            self.made(a[2], a[3], self.inode(a[0], a[1]))
        elif name == "unlinkat":
            at, last = self.place(a[0], a[1])
            if at is not None:
                self.names(self.now[at, last], {(at, last): None})
        elif name.startswith("renameat"):
            self.renamed(*a[:4], a[4] if len(a) > 4 else "0")
        elif name in ("fchmod", "fchmodat"):
            self.change("attr", self.inode(a[0], a[1] if name == "fchmodat" else None), ("mode", int(a[-2 if len(a) > 3 else -1], 8)))
        elif name == "ftruncate":
            self.change("length", self.inode(a[0]), int(a[1]))
        elif name == "pwrite64":
            self.change("write", self.inode(a[0]), (int(a[3]), data(a[1])[:int(result)]))
        elif name == "copy_file_range":
            begin, begin2 = (int(re.search(r"\d+", x)[0]) for x in (a[1], a[3]))
            self.copied(a[0], begin, a[2], begin2, int(result))
        elif name in ("fsync", "fdatasync"):
            self.change("sync", self.inode(a[0]), name == "fsync")
        elif "setxattr" in name:
            self.change("attr", self.inode(a[0] if name[0] == "f" else "AT_FDCWD", None if name[0] == "f" else a[0]), (text(a[1]), data(a[2])))
        elif "removexattr" in name:
            self.change("attr", self.inode(a[0] if name[0] == "f" else "AT_FDCWD", None if name[0] == "f" else a[0]), (text(a[1]), None))
        else:
            assert False, f"the model does not know {name}({a})"

    def read(self, trace, marks):
        record, servers = list(calls(trace)), set()
        # A thread's first calls may stand before the end of the clone(2) that made it: whose thread it is comes first.
        leader = {int(result): pid for pid, name, a, result in record if name.startswith("clone") and "CLONE_THREAD" in a[-1] + a[0]}
        for pid, name, a, result in record:
            while pid in leader:
                pid = leader[pid]
            if name == "execve" and text(a[0]) == self.server:
                servers.add(pid)
            elif name == "write" and pid not in servers:
                path = re.match(r"\d+<(\\x[^>]*)>$", a[0])
                if path and text(path[1]) == marks:
                    self.marks.append((len(self.changes), json.loads(data(a[1]))))
            elif pid in servers and name != "write" and not name.startswith("clone"):
                self.call(name, a, result)
        return self


class State:
    """What a disk holds: some of the changes, in their order."""

    def __init__(self, changes):
        self.changes = changes

    def content(self, inode):
        found = bytearray()
        for kind, of, what in self.changes:
            if of is not inode:
                continue
            if kind == "write":
                offset, content = what
                found.extend(bytes(max(0, offset - len(found))))
                found[offset:offset + len(content)] = content
            elif kind == "length":
                del found[what:]
                found.extend(bytes(what - len(found)))
        return bytes(found)

    def key(self):
        return tuple(map(id, self.changes))

    def write(self, roots):
        """Make the directories, which are there and empty, what the disk holds."""
        names, attrs = {}, {}
        for kind, inode, what in self.changes:
            if kind == "names":
                names.update(what)
            elif kind == "attr":
                attrs.setdefault(inode, {})[what[0]] = what[1]
        below, made, closed = {}, {}, []
        for (at, name), inode in names.items():
            if inode is not None:
                below.setdefault(at, []).append((name, inode))

        def attributes(inode, path):
            for key, value in attrs.get(inode, {}).items():
                if key != "mode" and value is not None:
                    os.setxattr(path, key, value)
            mode = attrs.get(inode, {}).get("mode", inode.mode)
            closed.append((path, mode)) if inode.kind == "d" else os.chmod(path, mode)

        def fill(at, path):
            for name, inode in below.get(at, []):
                entry = f"{path}/{name}"
                if inode in made:
                    os.link(made[inode], entry, follow_symlinks=False)
                    continue
                made[inode] = entry
                if inode.kind == "d":
                    os.mkdir(entry, 0o700)
                    fill(inode, entry)
                elif inode.kind == "l":
                    os.symlink(inode.target, entry)
                    continue
                elif inode.kind == "f":
                    with open(entry, "wb") as f:
                        f.write(self.content(inode))
                else:
                    os.mknod(entry, {"w": stat.S_IFCHR, "p": stat.S_IFIFO}[inode.kind] | 0o644)
                    if inode.kind == "w":
                        continue
                attributes(inode, entry)
        for path, root in roots.items():
            fill(root, path)
            attributes(root, path)
        for path, mode in reversed(closed):
            os.chmod(path, mode)


class PowerCut:
    """Disks as the power may leave them, at one moment: after the first n changes."""

    def __init__(self, changes, n):
        self.happened = changes[:n]
        self.kept = [False] * n  # surely
        forced = 0               # changes of names and attributes before it are on the disk, by the rule "ordered"
        last = {}                # inode → index of its last change that is no data
        for i, (kind, inode, what) in enumerate(self.happened):
            if kind == "sync":
                for k in range(i):
                    self.kept[k] |= self.is_synced(self.happened[k], inode, what)
                forced = max(forced, last.get(inode, 0)) if what else forced
            elif kind == "names":
                for at, _ in what:
                    last[at] = i + 1
                last[inode] = i + 1
            elif kind != "write":
                last[inode] = i + 1
        self.forced = forced

    @staticmethod
    def is_synced(change, inode, all_of_it):
        kind, of, what = change
        if kind == "names":
            return any(at is inode for at, _ in what)
        return of is inode and (all_of_it or kind in ("write", "length"))

    def ordered(self, until, keep_data):
        """The journal was written as far as that, and of the data that nobody synced what keep_data() says."""
        return State([c for i, c in enumerate(self.happened) if c[0] != "sync" and (
            self.kept[i] or (keep_data() if c[0] == "write" else i < max(until, self.forced)))])

    def loose(self, keep):
        """Each change by itself, but for those before it of the same file or name."""
        wanted, keys = [False] * len(self.happened), set()
        for i in reversed(range(len(self.happened))):
            kind, inode, what = self.happened[i]
            own = {inode, *what} if kind == "names" else {inode} if kind != "write" else set()
            wanted[i] = self.kept[i] or keep() or (kind == "names" and bool(own & keys))
            if wanted[i] and kind == "names":
                keys |= own
        return State([c for i, c in enumerate(self.happened) if wanted[i] and c[0] != "sync"])

    def disks(self, rng):
        """Some of all that are possible, the worst first: (rule, State)."""
        n = len(self.happened)
        yield "ordered, no data", self.ordered(n, lambda: False)
        yield "ordered, only what was synced", self.ordered(0, lambda: False)
        yield "ordered, all", self.ordered(n, lambda: True)
        yield "loose, only what was synced", self.loose(lambda: False)
        while True:
            until = rng.randrange(n + 1)
            yield f"ordered, {until} of {n}, some data", self.ordered(until, lambda: rng.random() < .5)
            share = rng.choice([.1, .5, .9])
            yield f"loose, {share} of the rest", self.loose(lambda: rng.random() < share)


class Allowed:
    """What a name may show, after the marks that the program in the box had made: contents as text, None for no such name."""

    def __init__(self, start, marks, n):
        self.paths = {path: {content} for path, content in start.items()}
        self.pairs = set()
        for at, mark in marks:
            if at > n:
                break
            kind, path, content = mark
            if kind == "may":
                self.paths.setdefault(path, {None}).add(content)
            elif kind == "must":
                self.paths[path] = {content}
            elif kind == "one":
                self.pairs.add((path, content))
