# SPDX-License-Identifier: LGPL-2.1-or-later
"""What takes too long for ./check: tests/fs/long runs it, with the others' tests on more and larger input."""
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import cannot
from test_real import fetch_sources, run

REGRESS = "src/test/regress"


@pytest.fixture(scope="session")
def postgresql():
    """Where its programs are, and the sources of its regression tests, with the library that these call."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        cannot("run PostgreSQL: not installed (apt-get install postgresql)")
    programs = found[-1].parent
    package = f"postgresql-{programs.parent.name}"
    unpacked = fetch_sources(package)
    top = next(d for d in unpacked.iterdir() if d.is_dir())
    version = run(programs / "postgres", "--version").split()[2]
    if top.name != f"{package}-{version}":
        cannot(f"fetch the sources of PostgreSQL {version}, which is installed: there are those of {top.name}")
    if not (top / REGRESS / "regress.so").exists():
        run("./configure", "--quiet", "--without-readline", "--without-zlib", cwd=top, timeout=600)
        run("make", "-s", "-C", "src/backend", "generated-headers", cwd=top, timeout=600)
        run("gcc", "-O1", "-shared", "-fPIC", "-I", "../../include", "-o", "regress.so", "regress.c", cwd=top / REGRESS)
    return programs, top / REGRESS


@pytest.mark.limit(3600)
def test_postgresql_regression(fs, postgresql):
    """Its own suite, some 200 scripts whose output is compared, and then its check of every page and index."""
    if os.getuid() == 0:
        cannot("run PostgreSQL as root: it refuses")
    programs, regress = postgresql
    shutil.copytree(regress, fs.lower / "regress", symlinks=True)
    for name in ("autoinc.so", "refint.so"):  # of postgresql-contrib
        shutil.copy(programs.parent / "lib" / name, fs.lower / "regress")
    fs.mount()
    data, scripts, sockets = fs.mnt / "data", fs.mnt / "regress", fs.top / "s"
    sockets.mkdir(0o700)
    env = {**os.environ, "PGHOST": str(sockets), "PGUSER": "postgres", "LC_ALL": "C"}
    run(programs / "initdb", "-D", data, "-U", "postgres", "--no-locale", "-E", "UTF8", env=env)
    with open(data / "postgresql.conf", "a", encoding="ascii") as f:
        f.write(f"listen_addresses = ''\nunix_socket_directories = '{sockets}'\nshared_buffers = 64MB\nmax_wal_size = 256MB\n")
    with open(fs.top / "pg.log", "ab") as log:
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-t", "120", "start"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    try:
        run(programs.parent / "lib/pgxs" / REGRESS / "pg_regress", f"--bindir={programs}", f"--inputdir={scripts}", f"--outputdir={fs.mnt}/out",
            f"--dlpath={scripts}", f"--schedule={scripts}/parallel_schedule", "--max-concurrent-tests=20", f"--host={sockets}", "--user=postgres",
            env=env, timeout=3000)
        run(programs / "pg_amcheck", "--install-missing", "-d", "regression", "--heapallindexed", env=env, timeout=600)
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop", env=env)
    assert os.listdir(fs.mnt / "out" / "results")
