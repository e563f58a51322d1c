# SPDX-License-Identifier: LGPL-2.1-or-later
"""Others' programs on the overlay: torture tests, databases, builds, archives. What they say of themselves counts, and what is there afterwards."""
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

import layers
import unpacked  # tests/lib
from conftest import BUILD, SLOW, WORK, assert_same, cannot, snapshot

CACHE = WORK / "cache"
MIRROR = "http://deb.debian.org/debian"


def run(*argv, timeout=120, **kw):
    """To its end, which must be a good one; → what it printed."""
    result = subprocess.run(list(map(str, argv)), capture_output=True, text=True, errors="backslashreplace", timeout=timeout * SLOW, stdin=subprocess.DEVNULL,
                            check=False, **kw)
    assert result.returncode == 0, f"{argv}: {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            cannot(f"run {program}: not installed")


# Torture

# Of stress-ng's class "filesystem": what an ordinary user can run on any file system, in groups of which each takes some seconds.
STRESSORS = {
    "names": "access chdir dentry dir dirdeep dirmany filename getdent link rename symlink touch",
    "data": "copy-file fallocate fpunch fsize hdd io iomix sync-file",
    "attributes": "chmod chown fcntl fiemap fstat utime xattr mknod",
    "locks": "dup flock inotify lease locka lockf lockofd open",
}


@pytest.mark.limit(120)
@pytest.mark.parametrize("group", STRESSORS)
def test_stress_ng(fs, group):
    needs("stress-ng")
    (fs.lower / "stress").mkdir()
    fs.mount()
    for name in STRESSORS[group].split():
        ops = {"dirmany": 500, "dirdeep": 200, "hdd": 2000, "dentry": 8192}.get(name, 0)
        limit = ["--" + name + "-ops", ops] if ops else ["--timeout", "1"]
        run("stress-ng", "--temp-path", fs.mnt / "stress", "--verify", "--" + name, "2", *limit, *(["--hdd-bytes", "8m"] if name == "hdd" else []), "--quiet")
    assert os.listdir(fs.mnt / "stress") == []


@pytest.mark.parametrize("engine", ["psync", "mmap", "libaio"])
def test_fio_verifies_what_it_wrote(fs, engine):
    needs("fio")
    fs.write("fio.0.0", random.Random(5).randbytes(4 << 20))
    fs.mount()
    job = ["--name=fio", f"--directory={fs.mnt}", f"--ioengine={engine}", "--size=8m", "--numjobs=2", "--bsrange=512-64k", "--rw=randrw", "--verify=crc32c",
           "--verify_fatal=1", "--verify_state_save=0", "--fsync=200", "--fallocate=none", "--randseed=7", "--group_reporting", "--minimal", "--thread"]
    if engine == "libaio":
        job += ["--direct=1", "--iodepth=8"]
    if engine != "psync":
        job[job.index("--bsrange=512-64k")] = "--bsrange=4k-64k"
    run("fio", *job)
    fs.remount()
    run("fio", *[j.replace("--rw=randrw", "--rw=read") for j in job if "verify" not in j and "fsync" not in j])


@pytest.mark.slice
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fsx(fs, seed):
    """On a lower file, and what it left after a remount."""
    fs.write("f", random.Random(seed).randbytes(400_000))
    fs.mount()
    program = BUILD / "tests" / "fs" / "fs-fsx"
    result = subprocess.run([program, fs.mnt / "f", str(seed), "6000"], capture_output=True, timeout=100 * SLOW, check=False)
    assert result.returncode == 0, result.stderr.decode()
    fs.remount()
    assert (fs.mnt / "f").read_bytes() == result.stdout


def test_dbench(fs):
    needs("dbench")
    fs.mount()
    out = run("dbench", "-t", "5", "-D", fs.mnt, "-c", "/usr/share/dbench/client.txt", "3")
    assert "Throughput" in out and not re.search(r"^\[\d+\]|ERROR", out, re.M), out
    shutil.rmtree(fs.mnt / "clients")


# Databases

def test_sqlite_with_writers_that_die(fs):
    path = fs.lower / "db"
    with sqlite3.connect(path) as db:
        db.execute("create table t(id integer primary key, who int, text text)")
        db.executemany("insert into t(who, text) values (0, ?)", [("x" * (i % 300),) for i in range(3000)])
    db.close()
    fs.mount()
    code = ("import sqlite3, sys, random\n"
            "db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
            "for i in range(int(sys.argv[3])):\n"
            "    db.execute('begin immediate')\n"
            "    db.execute('insert into t(who, text) values (?, ?)', (int(sys.argv[2]), 'y' * random.randrange(2000)))\n"
            "    db.execute('delete from t where id = (select min(id) from t)')\n"
            "    db.execute('commit')\n")
    for mode in ("delete", "wal"):
        db = sqlite3.connect(fs.mnt / "db", timeout=30)
        assert db.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
        before = db.execute("select count(*) from t").fetchone()[0]
        writers = [subprocess.Popen(["/usr/bin/python3", "-c", code, fs.mnt / "db", str(n), "120"]) for n in (1, 2)]
        victim = subprocess.Popen(["/usr/bin/python3", "-c", code, fs.mnt / "db", "3", "100000"])
        time.sleep(1)
        victim.kill()
        victim.wait()
        assert [w.wait(60 * SLOW) for w in writers] == [0, 0]
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert db.execute("select count(*) from t").fetchone()[0] == before
        db.close()
        fs.remount()
    with sqlite3.connect(fs.mnt / "db") as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",) and db.execute("select count(*) from t").fetchone() == (3000,)
    db.close()


@pytest.mark.limit(150)
def test_postgresql_under_load_and_through_a_crash(fs):
    """Its own load (pgbench) and its own check of every page and index (pg_amcheck). Its regression suite takes longer: test_long.py."""
    pgbench = unpacked.find("usr/lib/postgresql/*/bin/pgbench")
    if not pgbench:
        cannot("run PostgreSQL: ./check unpacks it")
    if os.getuid() == 0:
        cannot("run PostgreSQL as root: it refuses")
    where = pathlib.Path(pgbench).parent
    fs.mount()
    data, sockets = fs.mnt / "data", fs.top / "s"
    sockets.mkdir(0o700)
    env = {**os.environ, **unpacked.libraries(pgbench), "PGHOST": str(sockets), "PGUSER": "postgres", "PGDATABASE": "postgres", "LC_ALL": "C.UTF-8"}
    run(where / "initdb", "-D", data, "-U", "postgres", "--no-locale", "-E", "UTF8", env=env)
    with open(data / "postgresql.conf", "a", encoding="ascii") as f:
        f.write(f"listen_addresses = ''\nunix_socket_directories = '{sockets}'\nshared_buffers = 16MB\nmax_wal_size = 64MB\n")

    def ctl(*words):
        with open(fs.top / "pg.log", "ab") as log:
            rc = subprocess.run([where / "pg_ctl", "-D", data, "-w", "-t", "60", *words], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
        assert rc == 0, (fs.top / "pg.log").read_text(errors="replace")[-2000:]

    def sql(text):
        return run(where / "psql", "-Atqc", text, env=env).strip()
    ctl("start")
    try:
        run(where / "pgbench", "-i", "-s", "3", "-q", env=env)
        run(where / "pgbench", "-c", "4", "-j", "2", "-T", "4", "-n", env=env)
        total = sql("select sum(abalance) from pgbench_accounts")
        assert total == sql("select sum(delta) from pgbench_history")
        ctl("stop", "-m", "immediate")
        ctl("start")
        assert sql("select sum(abalance) from pgbench_accounts") == total == sql("select sum(delta) from pgbench_history")
        sql("create table big as select g, md5(g::text) from generate_series(1, 20000) g; create index on big(md5)")
        sql("vacuum full big")
        sql("checkpoint")
        ctl("stop", "-m", "fast")
        fs.remount()
        ctl("start")
        assert sql("select count(*), count(distinct md5) from big") == "20000|20000"
        run(where / "pg_amcheck", "--install-missing", "-d", "postgres", "--heapallindexed", env=env)
    finally:
        ctl("stop", "-m", "immediate")


# Source

# GIT_FILES=30000 for as large a tree as a large project's; a quarter of that takes a quarter of the time.
GIT_FILES = int(os.environ.get("GIT_FILES", "8000"))


@pytest.mark.limit(120 + GIT_FILES / 50)
def test_git(fs):
    needs("git")
    count = GIT_FILES
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    run("git", "init", "-q", "-b", "main", fs.lower / "origin", env=env)
    stream = ["commit refs/heads/main\ncommitter a <a@b> 1000000000 +0000\ndata 1\nx\n"]
    for i in range(count):
        text = f"file {i}\n" * (i % 50 + 1)
        stream.append(f"M 100644 inline d{i % 100}/s{i % 7}/f{i}\ndata {len(text)}\n{text}\n")
    subprocess.run(["git", "-C", fs.lower / "origin", "fast-import", "--quiet"], input="".join(stream).encode(), check=True, env=env)
    fs.mount()

    def git(*words):
        return run("git", "-C", fs.mnt / "clone", *words, env=env)
    run("git", "clone", "-q", "--no-local", fs.mnt / "origin", fs.mnt / "clone", env=env)
    assert git("status", "--porcelain") == ""
    for i in range(0, count, 40):
        (fs.mnt / f"clone/d{i % 100}/s{i % 7}/f{i}").write_text("changed\n", encoding="ascii")
    git("mv", "d1", "moved")
    shutil.rmtree(fs.mnt / "clone/d2")
    git("add", "-A")
    git("commit", "-qm", "changes")
    git("checkout", "-q", "-b", "old", "HEAD~1")
    git("checkout", "-q", "main")
    git("gc", "-q", "--prune=now")
    assert "error" not in git("fsck", "--full", "--strict")
    fs.remount()
    assert git("status", "--porcelain") == "" and git("fsck", "--full") == ""
    assert len(git("ls-files").split()) == count - count // 100


def fetch_sources(*packages):
    """Packages as Debian has them, unpacked; apt's lists and configuration are this test's own, not the machine's."""
    if not shutil.which("apt-get") or subprocess.run(["getent", "ahostsv4", "deb.debian.org"], capture_output=True, check=False).returncode != 0:
        cannot("fetch source packages from deb.debian.org")
    top = CACHE / f"fs-sources-{'-'.join(packages)}"
    if not (top / "done").exists():
        shutil.rmtree(top, ignore_errors=True)
        for d in ("state/lists/partial", "cache/archives/partial", "etc/parts", "unpacked"):
            (top / d).mkdir(parents=True)
        (top / "etc/sources.list").write_text(
            f"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {MIRROR} bookworm main\n", encoding="ascii")
        apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={top}/etc/sources.list", "-o", f"Dir::Etc::sourceparts={top}/etc/parts",
               "-o", f"Dir::State={top}/state", "-o", f"Dir::Cache={top}/cache", "-o", "APT::Sandbox::User=", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        subprocess.run([*apt, "update"], check=True, timeout=180)
        subprocess.run([*apt, "source", *packages], check=True, timeout=180, cwd=top / "unpacked")
        (top / "done").touch()
    return top / "unpacked"


@pytest.fixture(scope="session")
def sources():
    return fetch_sources("zlib", "bzip2", "mawk")


@pytest.mark.limit(180)
@pytest.mark.parametrize("package, script", [
    ("zlib", "./configure >/dev/null && make -j2 >/dev/null 2>&1 && make check"), ("bzip2", "make -j2 >/dev/null 2>&1 && make check"),
    ("mawk", "./configure --quiet >/dev/null 2>&1 && make >/dev/null 2>&1 && make check")])
def test_a_source_package_builds_and_checks_itself(fs, sources, package, script):
    found = [d for d in sources.iterdir() if d.is_dir() and d.name.startswith(package + "-")]
    shutil.copytree(found[0], fs.lower / "tree", symlinks=True)
    fs.mount()
    out = run("sh", "-c", f"exec 2>&1; cd {fs.mnt}/tree && {script}", timeout=170)
    assert {"zlib": "*** zlib test OK ***", "bzip2": "you're in business", "mawk": "results consistent"}[package] in out, out[-2000:]
    run("make", "-C", fs.mnt / "tree", "clean")


# Archives

def make_all_kinds(top):
    """A tree with all that an archive may have to keep."""
    layers.populate(random.Random(77), top, 300, True)
    subprocess.run(["chmod", "-R", "u+rwX", str(top)], check=True)
    (top / "special").mkdir()
    os.mkfifo(top / "special/fifo", 0o640)
    with open(top / "special/sparse", "wb") as f:
        f.truncate(40 << 20)
        f.seek(20 << 20)
        f.write(b"data")
    os.link(top / "special/sparse", top / "special/sparse2")
    os.symlink("x" * 3000, top / "special/long")
    (top / "special/acl").write_bytes(b"acl")
    for words in (["-m", f"u:{os.getuid()}:rwx"], ["-m", "g::r"]):
        subprocess.run(["setfacl", *words, str(top / "special/acl")], check=True)
    subprocess.run(["setfacl", "-d", "-m", f"u:{os.getuid()}:rx", str(top / "special")], check=True)
    for i, (root, _dirs, _files) in enumerate(os.walk(top)):
        os.setxattr(root, "user.number", str(i).encode())
        os.utime(root, ns=(i, 10**18 + i * 1_000_000_007))
    os.utime(top / "special", ns=(1, 2))


def links(top):
    """Which names are one file."""
    groups = {}
    for root, _dirs, files in os.walk(top):
        for n in files:
            path = os.path.join(root, n)
            groups.setdefault(os.lstat(path).st_ino, set()).add(os.path.relpath(path, top))
    return sorted(sorted(g) for g in groups.values() if len(g) > 1)


def same(top, expected_top):
    assert_same(snapshot(top), snapshot(expected_top))
    assert links(top) == links(expected_top)


def test_rsync_round_trip(fs):
    needs("rsync")
    (fs.top / "source").mkdir()
    make_all_kinds(fs.top / "source")
    fs.mount()
    run("rsync", "-aHAXS", "--modify-window=-1", f"{fs.top}/source/", f"{fs.mnt}/copy/")
    same(fs.mnt / "copy", fs.top / "source")
    assert run("rsync", "-aHAXnic", "--modify-window=-1", "--delete", f"{fs.top}/source/", f"{fs.mnt}/copy/") == ""
    assert os.stat(fs.mnt / "copy/special/sparse").st_blocks < 1000
    fs.remount()
    run("rsync", "-aHAXS", "--modify-window=-1", f"{fs.mnt}/copy/", f"{fs.top}/back/")
    same(fs.top / "back", fs.top / "source")


def test_rsync_over_a_lower_tree(fs):
    """Only what differs is written, and comes out as the source is."""
    needs("rsync")
    (fs.top / "source").mkdir()
    make_all_kinds(fs.top / "source")
    run("cp", "-a", "-T", fs.top / "source", fs.lower / "copy")
    found = [pathlib.Path(r, n) for r, _d, f in os.walk(fs.top / "source") for n in f]
    for i, path in enumerate(sorted(p for p in found if not p.is_symlink() and p.is_file())):
        if i % 7 == 0:
            path.write_bytes(b"changed")
        elif i % 11 == 0:
            path.unlink()
    fs.mount()
    run("rsync", "-aHAXSc", "--modify-window=-1", "--delete", f"{fs.top}/source/", f"{fs.mnt}/copy/")
    same(fs.mnt / "copy", fs.top / "source")


def test_tar_round_trip(fs):
    (fs.top / "source").mkdir()
    make_all_kinds(fs.top / "source")
    words = ["--xattrs", "--xattrs-include=user.*", "--acls", "--sparse", "--format=posix", "--pax-option=delete=atime,delete=ctime"]
    run("tar", *words, "-C", fs.top / "source", "-cf", fs.top / "a.tar", ".")
    fs.mount()
    (fs.mnt / "copy").mkdir()
    run("tar", *words, "-p", "-C", fs.mnt / "copy", "-xf", fs.top / "a.tar")
    same(fs.mnt / "copy", fs.top / "source")
    fs.remount()
    run("tar", *words, "-C", fs.mnt / "copy", "-cf", fs.mnt / "b.tar", ".")
    run("tar", *words, "-C", fs.mnt / "copy", "--compare", "-f", fs.mnt / "b.tar")
    (fs.top / "back").mkdir()
    run("tar", *words, "-p", "-C", fs.top / "back", "-xf", fs.mnt / "b.tar")
    same(fs.top / "back", fs.top / "source")


def test_cp_of_all_kinds(fs):
    (fs.lower / "a").mkdir()
    make_all_kinds(fs.lower / "a")
    fs.mount()
    run("cp", "-a", "--sparse=always", "-T", fs.mnt / "a", fs.mnt / "b")
    same(fs.mnt / "b", fs.mnt / "a")
    run("mv", fs.mnt / "a", fs.mnt / "c")
    same(fs.mnt / "c", fs.mnt / "b")
    shutil.rmtree(fs.mnt / "c")
    assert os.listdir(fs.mnt) == ["b"]

