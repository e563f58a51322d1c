# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own overlayfs, as an ordinary user may have it: in a user namespace of its own, with the option userxattr.

As a program (in `unshare -Urm`): overlayfs.py LOWERS UPPER WORK MNT [COMMAND...] mounts there, runs the command, and writes a pickle of the
snapshot of what is shown then."""
import pickle
import subprocess
import sys

from conftest import cannot, snapshot


def comparable(found):
    """Without owners, which have other numbers inside, and without times, which overlayfs does not keep for directories."""
    return {name: [what[0], *what[3:]] for name, what in found.items()}


def shown(path):
    return comparable(snapshot(path, times=False))


def run(lowers, upper, work, mnt, *command):
    """→ what overlayfs shows of these layers, after command was run while they were mounted."""
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode != 0:
        cannot("make a user namespace without rights")
    result = subprocess.run(["unshare", "-Urm", sys.executable, __file__, ":".join(map(str, lowers)), str(upper), str(work), str(mnt), *map(str, command)],
                            capture_output=True, check=False, timeout=120)
    if result.returncode == 77:
        cannot("mount overlayfs in a user namespace")
    assert result.returncode == 0, f"exit status {result.returncode}: " + result.stderr.decode("utf-8", "replace") + result.stdout.decode("utf-8", "replace")[-2000:]
    return pickle.loads(result.stdout)


def main(lowers, upper, work, mnt, *command):
    options = f"lowerdir={lowers},upperdir={upper},workdir={work},userxattr"
    if subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, mnt], check=False, stdout=2).returncode != 0:
        return 77 if not subprocess.run(["sh", "-c", "grep -w overlay /proc/filesystems"], check=False, capture_output=True).stdout else 1
    if command and subprocess.run(command, check=False, stdout=2, stdin=subprocess.DEVNULL).returncode != 0:
        return 1
    found = shown(mnt)
    subprocess.run(["umount", mnt], check=True, stdout=2)
    sys.stdout.buffer.write(pickle.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
