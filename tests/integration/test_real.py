# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real programs and real source: what comes out is compared with what comes out without a box."""
import hashlib
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import WORK, cannot, snapshot

CACHE = WORK / "cache"
MIRROR = "http://deb.debian.org/debian"


@pytest.fixture(scope="session")
def internet():
    if subprocess.run(["getent", "ahostsv4", "deb.debian.org"], capture_output=True, check=False).returncode != 0:
        cannot("resolve deb.debian.org")


@pytest.fixture(scope="session")
def sources(internet):
    """hello and zlib as Debian has them; apt's lists and configuration are this test's own, not the machine's."""
    if not shutil.which("apt-get"):
        cannot("run apt-get source")
    top = CACHE / "sources"
    done = top / "done"
    if not done.exists():
        shutil.rmtree(top, ignore_errors=True)
        for d in ("state/lists/partial", "cache/archives/partial", "etc/parts", "unpacked"):
            (top / d).mkdir(parents=True)
        (top / "etc" / "sources.list").write_text(
            f"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {MIRROR} bookworm main\n", encoding="ascii")
        apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={top}/etc/sources.list", "-o", f"Dir::Etc::sourceparts={top}/etc/parts",
               "-o", f"Dir::State={top}/state", "-o", f"Dir::Cache={top}/cache", "-o", "APT::Sandbox::User=", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        subprocess.run([*apt, "update"], check=True, timeout=180)
        subprocess.run([*apt, "source", "hello", "zlib"], check=True, timeout=180, cwd=top / "unpacked")
        done.touch()
    return top / "unpacked"


def source(sources, name, where):
    found = [d for d in sources.iterdir() if d.is_dir() and d.name.startswith(name + "-")]
    assert len(found) == 1, found
    shutil.copytree(found[0], where, symlinks=True)
    return where


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_hello_built_in_a_box_is_hello(box, sources):
    build = "cd '{}' && ./configure --disable-nls --disable-dependency-tracking --quiet >/dev/null && make -j2 >/dev/null 2>&1 && ./hello && ./hello -g 'in a box' && ./hello --version | head -1"
    inside = source(sources, "hello", box.dir / "inside tree")
    version, = (d.name.partition("-")[2] for d in sources.iterdir() if d.is_dir() and d.name.startswith("hello-"))
    before = snapshot(inside)
    result = box.run("--", "sh", "-c", build.format(inside), timeout=300)
    assert result.lines() == ["Hello, world!", "in a box", f"hello (GNU Hello) {version}"]
    assert snapshot(inside) == before
    # Kept apart from the host as it was, what the box made is whole: it runs outside.
    made = [p for p in box.boxes.rglob("hello") if p.is_file() and os.access(p, os.X_OK)]
    assert len(made) == 1 and subprocess.run([str(made[0]), "-g", "out again"], capture_output=True, text=True, check=True).stdout == "out again\n"


def test_zlib_built_in_a_box_compresses_the_same(box, sources):
    build = "cd {} && ./configure --static >/dev/null && make -j2 libz.a minigzip >/dev/null 2>&1 && ./minigzip <ChangeLog >out.gz && ./minigzip -d <out.gz | cmp - ChangeLog && sha256sum <out.gz"
    outside = source(sources, "zlib", box.dir / "outside")
    inside = source(sources, "zlib", box.dir / "inside")
    expected = subprocess.run(["sh", "-ec", build.format(outside)], env=box.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=True).stdout
    assert box.sh(build.format(inside), f"--rw={inside}", timeout=300).ok().out == expected
    assert digest(inside / "out.gz") == digest(outside / "out.gz")
    # A static library made twice by the same compiler from the same names is the same, but for its path and dates.
    assert sorted(subprocess.check_output(["ar", "t", inside / "libz.a"])) == sorted(subprocess.check_output(["ar", "t", outside / "libz.a"]))


@pytest.fixture(scope="session")
def debian(internet):
    """A small Debian as a tar file."""
    if not shutil.which("mmdebstrap"):
        cannot("make a root file system: mmdebstrap is not installed")
    tar = CACHE / "bookworm.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / "partial.tar"
        subprocess.run(["mmdebstrap", "--mode=unshare", "--variant=apt", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                        "bookworm", str(partial), MIRROR], check=True, timeout=300, stdin=subprocess.DEVNULL, cwd=CACHE)
        partial.rename(tar)
    return tar


def test_apt_as_the_boxes_root(box, subids, debian):
    """apt-get update and install with subordinate ids in a Debian tree, which is not changed by it."""
    root = box.dir / "debian"
    root.mkdir()
    box.run("--rm", "--network=none", "--user=root", f"--rw={root}", "--ro", debian, "--", "tar", "-C", root, "--numeric-owner", "--exclude=./dev/*", "-xpf", debian, timeout=120).ok()
    try:
        listing = ["find", ".", "-xdev", "-printf", "%p %m %U %G %s %T@\n"]
        before = box.run("--rm", "--user=root", f"--ro={root}", "-w", root, "--", *listing).ok().out
        script = ("apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends hello sl >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; "
                  "hello -g installed; dpkg-query -W -f '${Status}\\n' hello; stat -c %U:%G /var/cache/apt/archives/partial; id -un")
        result = box.run("--rm", "--user=root", f"--rootfs={root}", "-w", "/", "--", "sh", "-ec", script, timeout=240)
        assert result.lines() == ["installed", "install ok installed", "_apt:root", "root"]
        after = box.run("--rm", "--user=root", f"--ro={root}", "-w", root, "--", *listing).ok().out
        assert after == before
    finally:
        # Files of subordinate ids are the box's root's to remove.
        box.run("--rm", "--network=none", "--user=root", f"--rw={box.dir}", "--", "rm", "-rf", root, timeout=60)


def test_git_clone_over_http(box, peer):
    result = box.sh(f"git clone -q http://{peer}/repo.git 'clone here' && git -C 'clone here' rev-parse HEAD^{{tree}} && "
                    f"git -C 'clone here' status --porcelain | wc -l && wc -l <'clone here/file 199.txt' && curl -s http://{peer}/repo.tree", timeout=90)
    out = result.lines()
    assert out[0] == out[3] and out[1] == "0" and out[2] == "200"
    assert not (box.dir / "clone here").exists()


def test_git_work_in_a_repository(box):
    script = ("git init -q r && cd r && git config user.email a@b && git config user.name n && for i in $(seq 50); do echo $i >f$i; done && git add . && git commit -qm first && "
              "git checkout -qb other && git rm -q f1 && git commit -qm second && git log --oneline | wc -l && git fsck 2>&1 | grep -c error; ls | wc -l")
    assert box.sh(script).lines() == ["2", "0", "49"]


@pytest.mark.slice
def test_python(box):
    script = """
import asyncio, json, multiprocessing, sqlite3, ssl, subprocess, tempfile, venv, zlib
def square(n): return n * n
if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        total = sum(pool.map(square, range(100)))
    db = sqlite3.connect("data.db"); db.execute("create table t (n)"); db.executemany("insert into t values (?)", [(n,) for n in range(1000)]); db.commit()
    async def echo():
        p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        return (await p.communicate(b"x"))[0].decode()
    print(json.dumps([total, db.execute("select sum(n) from t").fetchone()[0], asyncio.run(echo()), zlib.crc32(b"usbox")]))
"""
    path = box.write("prog.py", script)
    expected = subprocess.run(["/usr/bin/python3", str(path)], cwd=box.top, capture_output=True, text=True, check=True).stdout
    assert box.run("--rm", "--", "/usr/bin/python3", path).ok().out == expected
    assert not (box.dir / "data.db").exists()


def test_perl(box):
    out = box.run("--rm", "--", "perl", "-MSocket", "-e", 'open(F, ">f") or die; print F "x" x 10; close F; print -s "f", " ", join(",", map { $_ ** 2 } 1..5), " ", `echo sub`').ok().out
    assert out == "10 1,4,9,16,25 sub\n"


def test_node(box):
    if not shutil.which("node", path="/usr/bin:/bin"):
        cannot("run node: it is not installed")
    script = """
const { Worker } = require('worker_threads'); const http = require('http'); const fs = require('fs');
fs.writeFileSync('f', 'y'.repeat(7));
const s = http.createServer((q, r) => r.end('served')).listen(0, '127.0.0.1', () => http.get({ port: s.address().port, host: '127.0.0.1' }, r => r.on('data', d => {
  const w = new Worker("require('worker_threads').parentPort.postMessage(6*7)", { eval: true });
  w.on('message', m => { console.log(String(d), m, fs.statSync('f').size); s.close(); }); })));
"""
    assert box.run("--rm", "--", "/usr/bin/node", "-e", script, timeout=90).ok().out == "served 42 7\n"


def test_compiler_and_threads(box):
    box.write("p.c", """
#include <pthread.h>
#include <stdio.h>
static void *f(void *p) { return (void *) ((long) p * 2); }
int main(void) { pthread_t t[64]; long sum = 0; void *r;
  for (long i = 0; i < 64; i++) pthread_create(&t[i], NULL, f, (void *) i);
  for (int i = 0; i < 64; i++) { pthread_join(t[i], &r); sum += (long) r; }
  printf("%ld\\n", sum); }
""")
    assert box.sh("gcc -O2 -pthread -o p p.c && ./p && clang -O1 -pthread -o q p.c && ./q").lines() == ["4032", "4032"]


def test_names_in_the_working_tree(box):
    names = ["with space", "new\nline", "ünïcödé 名前 🎁", "-n", "a\\b", "tab\t", "'q\"", "*", "x" * 255, "\x7f\x01"]
    for name in names:
        (box.dir / name).write_text(name, encoding="utf-8")
    raw = os.fsencode(box.dir) + b"/\xff\xfe raw"
    pathlib.Path(os.fsdecode(raw)).write_text("raw", encoding="utf-8")
    script = """
import os
for n in sorted(os.listdir(b".")):
    data = open(n, "rb").read()
    assert data == (b"raw" if n.endswith(b" raw") else n), n
    os.rename(n, n[:250] + b".new"); open(n[:250] + b".new", "ab").write(b"+")
print(len(os.listdir(b".")))
"""
    assert box.python(script).ok().out == f"{len(names) + 1}\n"
    assert sorted(os.listdir(box.dir)) == sorted([*names, os.fsdecode(b"\xff\xfe raw")])


def test_large_tree(box):
    """Ten thousand files read, changed and removed, and none of it seen outside."""
    for d in range(100):
        (box.dir / f"d{d}").mkdir()
        for f in range(100):
            (box.dir / f"d{d}" / f"f{f}").touch()
    out = box.sh("find . -type f | wc -l; rm -rf d?; find . -type f | wc -l; cp -r d10 new; find . -type f | wc -l; mv d11 d12 && ls d12/d11 | wc -l", timeout=120).lines()
    assert out == ["10000", "9000", "9100", "100"]
    assert len(os.listdir(box.dir)) == 100


def test_one_after_another(box):
    """A hundred runs: none is lost, nothing piles up."""
    for i in range(100):
        assert box.run("--rm", "--network=none", "--", "sh", "-c", f"exit {i % 7}").rc == i % 7
    assert not box.boxes.is_dir() or os.listdir(box.boxes) == []
