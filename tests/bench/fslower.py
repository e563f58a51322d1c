# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/bench/fs measures on: one lower tree, generated, the same bytes each time."""
import dataclasses
import os
import random
import subprocess

OLD = 1_600_000_000  # the mtime of all that is generated: git's index is then never "racy"


@dataclasses.dataclass(frozen=True)
class Sizes:
    files: int = 30_000
    tree_bytes: int = 480_000_000
    big: int = 1 << 30
    append: int = 500 << 20
    sources: int = 200
    repository: int = 5_000
    entries: int = 100_000
    churn: int = 20_000
    small: int = 1_000


QUICK = Sizes(3_000, 48_000_000, 64 << 20, 50 << 20, 20, 500, 10_000, 2_000, 200)


class Generator:
    """Makes the parts of the lower tree that the chosen cases need."""

    def __init__(self, top, sizes):
        self.top, self.sizes = top, sizes
        self.lower = top / "lower"
        self.random = random.Random(3)
        self.noise = self.random.randbytes(600_000).hex().encode()

    def text(self, size):
        start = self.random.randrange(len(self.noise) // 2)
        whole = self.noise[start:start + size]
        while len(whole) < size:
            whole += self.noise[:size - len(whole)]
        return whole

    def file(self, path, content):
        with open(path, "wb") as f:
            f.write(content)
        os.utime(path, (OLD, OLD))

    def tree(self):
        """Like a kernel's source: some 2,000 directories, many small files, few large ones."""
        weights = [self.random.lognormvariate(0, 1.2) for _ in range(self.sizes.files)]
        scale = self.sizes.tree_bytes / sum(weights)
        names = []
        for i, weight in enumerate(weights):
            d = f"tree/d{i % 30:02}/s{i // 30 % 10}/t{i // 300 % 7}"
            if i < 2100:
                (self.lower / d).mkdir(parents=True, exist_ok=True)
            names.append(f"{d}/file-{i:05}.c")
            self.file(self.lower / names[-1], self.text(max(1, int(weight * scale))))
        (self.top / "tree.list").write_text("\n".join(sorted(names)) + "\n")

    def tar(self):
        subprocess.run(["tar", "-C", self.lower, "--sort=name", "-cf", self.top / "tree.tar", "tree"], check=True)

    def big(self):
        self.large(self.lower / "big", self.sizes.big)

    def append(self):
        self.large(self.lower / "append", self.sizes.append)

    def large(self, path, size):
        with open(path, "wb") as f:
            for _ in range(size >> 20):
                f.write(self.noise[:1 << 20])

    def project(self):
        project = self.lower / "project"
        (project / "include").mkdir(parents=True)
        for i in range(60):
            lines = [f"static inline int header_{i:02}_{k}(int x) {{ return x * {k + 3} + {i}; }}" for k in range(40)]
            self.file(project / f"include/header_{i:02}.h", "\n".join(["#pragma once", *lines, ""]).encode())
        sources = [f"source_{i:03}.c" for i in range(self.sizes.sources)]
        for i, name in enumerate(sources):
            headers = sorted(self.random.sample(range(60), 15))
            lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>", *[f'#include "include/header_{h:02}.h"' for h in headers]]
            for k in range(20):
                h = self.random.choice(headers)
                lines.append(f"int source_{i:03}_{k}(int n) {{ int s = 0; for (int i = 0; i < n; i++) s += header_{h:02}_{k}(i) ^ {k}; return s; }}")
            self.file(project / name, "\n".join([*lines, ""]).encode())
        objects = " ".join(name[:-1] + "o" for name in sources)
        self.file(project / "Makefile", (f"all: libproject.a\nlibproject.a: {objects}\n\tar rcs $@ $^\n"
                                         "%.o: %.c\n\tcc -O1 -g -MMD -c -o $@ $<\n-include $(wildcard *.d)\n").encode())

    def repository(self):
        top = self.lower / "repository"
        for i in range(self.sizes.repository):
            d = top / f"d{i % 50:02}" / f"e{i // 50 % 5}"
            d.mkdir(parents=True, exist_ok=True)
            self.file(d / f"file-{i:04}.txt", self.text(2000))
        git = ["git", "-C", top, "-c", "user.name=bench", "-c", "user.email=bench@invalid", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"], ["status", "--short"]):
            subprocess.run([*git, *command], check=True, stdout=subprocess.DEVNULL)

    def entries(self):
        top = self.lower / "entries"
        top.mkdir()
        for i in range(self.sizes.entries):
            os.close(os.open(top / f"entry-{i:06}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))

    def small(self):
        (self.lower / "small").mkdir()
        names = [f"small-{i:04}" for i in range(self.sizes.small)]
        for name in names:
            self.file(self.lower / "small" / name, self.text(500))
        (self.top / "small.list").write_text("\n".join(names) + "\n")

    def make(self, parts):
        self.lower.mkdir()
        self.file(self.lower / "marker", b"")
        for part in ("tree", "tar", "big", "append", "project", "repository", "entries", "small"):
            if part in parts:
                getattr(self, part)()
