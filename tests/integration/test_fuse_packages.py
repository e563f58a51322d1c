# SPDX-License-Identifier: LGPL-2.1-or-later
"""The box's root on the copy-on-write root, with a range of ids: a package manager's work, and what of the tests of usbox-fs can be run there."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, TOP, cannot

PACKAGES = 50


@pytest.fixture(autouse=True)
def as_root(box, subids):
    box.options = ["--overlay=fuse", "--user=root", "--network=none"]


def scripts_of(name, number, version):
    """What its scripts do: at its first configuration, and when it is purged."""
    state = f"/var/lib/usbox-t/{name}"
    configure, purge = [f"mkdir -p /var/lib/usbox-t; echo {version} >>{state}"], [f"rm -f {state}; rmdir /var/lib/usbox-t 2>/dev/null || true"]
    if number == 0:
        configure += ["useradd -r -d /nonexistent -s /usr/sbin/nologin _usbox-t", f"chown _usbox-t:_usbox-t {state}; chmod 640 {state}"]
        purge.append("userdel _usbox-t")
    elif number == 1:
        configure.append(f"update-alternatives --quiet --install /usr/bin/usbox-t usbox-t /usr/bin/{name} 10")
        purge.append(f"update-alternatives --quiet --remove usbox-t /usr/bin/{name}")
    return configure, purge


def make_package(top, number, version, depends=()):
    """The tree of a package that has what packages have: programs, links, a conffile, scripts that make and remove what no list has."""
    name = f"usbox-t{number:02}"
    root = top / f"{name}-{version}"
    share = root / "usr/share" / name

    def write(path, text, mode=0o644):
        path = root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
        path.chmod(mode)
    for n in range(3):
        write(f"usr/share/{name}/data{n}", f"{name} {version} {n}\n" * 40 * (n + 1))
    os.link(share / "data0", share / "again")
    (share / "link").symlink_to("data1")
    write(f"usr/bin/{name}", f"#!/bin/sh\necho {name} {version}\n", 0o755)
    write(f"etc/usbox-t/{name}.conf", f"# {name} {'' if number % 2 else version}\n")
    write("DEBIAN/conffiles", f"/etc/usbox-t/{name}.conf\n")
    if version == 1:
        write(f"usr/share/{name}/only-first/file", "first\n")
    else:
        write(f"usr/share/{name}/kind/file", "of a new directory\n")
    relations = f"Depends: {', '.join(depends)}\n" if depends else ""
    write("DEBIAN/control", f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@b>\n{relations}Description: test\n")
    configure, purge = scripts_of(name, number, version)
    removed = ""
    if number == 2:
        divert = f"dpkg-divert --quiet --package {name} --rename --divert /usr/bin/yes.real"
        write("usr/bin/yes", "#!/bin/sh\necho no\n", 0o755)
        write("DEBIAN/preinst", f"#!/bin/sh\nset -e\n{divert} --add /usr/bin/yes\n", 0o755)
        removed = f"[ $1 != remove ] || {divert} --remove /usr/bin/yes\n"
    write("DEBIAN/postinst", "#!/bin/sh\nset -e\n[ -z \"$2\" ] || exit 0\n" + "\n".join(configure) + "\n", 0o755)
    write("DEBIAN/postrm", f"#!/bin/sh\nset -e\n{removed}[ $1 = purge ] || exit 0\n" + "\n".join(purge) + "\n", 0o755)


SCRIPT = r"""
set -e
quiet() { "$@" >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; }
names() { dpkg-query -W -f '${Package}\n' 'usbox-t*'; }
mkdir debs debs2
for d in packages/*-1; do quiet dpkg-deb --root-owner-group -Znone -b $d debs/; done
for d in packages/*-2; do quiet dpkg-deb --root-owner-group -Znone -b $d debs2/; done
sha256sum /usr/bin/yes /etc/passwd /etc/group /var/lib/dpkg/diversions >before
quiet dpkg --force-unsafe-io -i debs/*.deb
dpkg --audit; dpkg -V $(names)
echo installed $(dpkg-query -W -f '${db:Status-Abbrev}\n' 'usbox-t*' | grep -c '^ii')
usbox-t; usbox-t49; yes; stat -c '%U:%G %a' /var/lib/usbox-t/usbox-t00; stat -c '%h %U' /usr/share/usbox-t07/again
quiet dpkg --force-unsafe-io -i debs2/*.deb
dpkg --audit; dpkg -V $(names)
usbox-t05; usbox-t25; cat /usr/share/usbox-t05/kind/file; ls -d /usr/share/usbox-t*/only-first | wc -l
quiet dpkg -r $(names)
echo left $(ls -d /usr/share/usbox-t* /usr/bin/usbox-t?* 2>/dev/null) $(ls /etc/usbox-t | wc -l) $(ls /var/lib/usbox-t | wc -l)
quiet dpkg -P $(names)
dpkg --audit; ls -d /etc/usbox-t /var/lib/usbox-t 2>/dev/null || echo purged
names 2>/dev/null | wc -l
sha256sum --quiet -c before && echo as before
"""


def test_dpkg_installs_fifty_packages(box):
    """And upgrades ten of them, and removes all, and everything is where its lists say it is."""
    if not shutil.which("dpkg-deb") or not os.path.exists("/usr/sbin/useradd"):
        cannot("install packages: no dpkg, or no useradd")
    (box.dir / "packages").mkdir()
    for number in range(PACKAGES):
        make_package(box.dir / "packages", number, 1, [f"usbox-t{number - 1:02}"] if number % 5 == 4 else [])
    for number in range(10):
        make_package(box.dir / "packages", number, 2)
    before = os.stat("/var/lib/dpkg/status")
    assert box.sh(SCRIPT, timeout=300).lines() == [
        f"installed {PACKAGES}", "usbox-t01 1", "usbox-t49 1", "no", "_usbox-t:_usbox-t 640", "2 root",
        "usbox-t05 2", "usbox-t25 1", "of a new directory", str(PACKAGES - 10), f"left {PACKAGES} {PACKAGES}", "purged", "0", "as before"]
    after = os.stat("/var/lib/dpkg/status")
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino) and not list(pathlib.Path("/usr/bin").glob("usbox-t*"))


def lower_tree(box, seed):
    """A random tree of tests/fs in the working directory."""
    (box.dir / "tree").mkdir()
    code = "import layers, pathlib, random, sys; layers.populate(random.Random(int(sys.argv[1])), pathlib.Path(sys.argv[2]), 250, True)"
    subprocess.run([sys.executable, "-c", code, str(seed), str(box.dir / "tree")], check=True, cwd=TOP / "tests" / "fs", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.slice
@pytest.mark.parametrize("seed", [29, 34])  # which found faults once
def test_the_model_checker_as_the_boxes_root(box, seed):
    """Random operations, with owners of all the box's ids, beside a plain directory: the box's /tmp, which cannot do all that a disk's file system can."""
    lower_tree(box, seed)
    shutil.copy(BUILD / "tests" / "fs" / "fs-model", box.dir / "model")
    # Symlinks of the tree lead to /nowhere, which root could make.
    script = f"ln -s nowhere /nowhere && cp -a -T tree /tmp/oracle && exec ./model --ids 1 --seed {seed} --ops 5000 --compare 1000 --without fallocate tree /tmp/oracle"
    assert box.sh(script, timeout=120).ok().out.startswith("done 5000 operations")


def test_fsx_as_the_boxes_root(box):
    """Random writes to a file of another id of the box."""
    (box.dir / "f").write_bytes(os.urandom(400_000))
    shutil.copy(BUILD / "tests" / "fs" / "fs-fsx", box.dir / "fsx")
    assert box.sh("chown 33:33 f && ./fsx f 4 4000 >out && cmp out f && stat -c %u:%g f", timeout=120).lines() == ["33:33"]
