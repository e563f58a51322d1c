# SPDX-License-Identifier: LGPL-2.1-or-later
"""In `unshare -Urm`: forget.py SERVER OPTIONS MNT STATS. Mounts, looks at every file, has the kernel forget them all, and prints what the server holds at
each of these three points, as JSON. A remount of the file system, which only root of its user namespace may do, drops what the kernel knows of its names
(reconfigure_super(), fs/super.c)."""
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

MS_REMOUNT, MS_NOSUID, MS_NODEV, MS_NOATIME = 32, 2, 4, 1024


def main(server, options, mnt, stats):
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.stat(mnt).st_dev
    process = subprocess.Popen([server, "-f", "-o", options, mnt], stdin=subprocess.DEVNULL)
    while os.stat(mnt).st_dev == device and process.poll() is None:
        time.sleep(.01)

    def held():
        if os.path.exists(stats):
            os.unlink(stats)
        process.send_signal(signal.SIGUSR1)
        for _ in range(500):
            time.sleep(.01)
            try:
                with open(stats, encoding="ascii") as f:
                    found = json.load(f)
                break
            except (FileNotFoundError, json.JSONDecodeError):
                pass
        with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
            rss = [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]
        with os.scandir(f"/proc/{process.pid}/fd") as entries:
            return {"nodes": found["nodes"], "rss": rss, "fds": sum(1 for _ in entries)}
    os.listdir(mnt)
    result = [held()]
    for root, _dirs, files in os.walk(mnt):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                f.read()
    result.append(held())
    if libc.mount(None, mnt.encode(), None, MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOATIME, None) != 0:
        raise OSError(ctypes.get_errno(), "remount")
    time.sleep(.5)
    result.append(held())
    subprocess.run(["umount", mnt], check=True)
    assert process.wait(10) == 0
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
