# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command fills the disk that boxes are kept on, or meets a quota of it: its status is the run's, what is known of it is written, and with
room again all goes on. On a small tmpfs in a user and mount namespace of the test's own; quotas, which root alone can set, in the machine of tests/vm."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import IN_VM, USBOX, cannot

UNSHARE = ["unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c"]
AS_OURSELVES = "setpriv --ambient-caps=-all --inh-caps=-all"
# What there is of it before the command fills the rest.
DISKS = {"blocks": "size=1M", "inodes": "size=16M,nr_inodes=70", "quota": None}
ERRORS = {"blocks": "No space left on device", "inodes": "No space left on device", "quota": "Disk quota exceeded"}

FILL = "head -c 8000000 /dev/zero >big; i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo >f$i || break; done; {} exit 7"
# Of each run its status, and what is known of it afterwards. In between the disk has room again: when the kernel has taken down the mounts that hold it.
SCRIPT = r"""
known() { "$u" inspect $1 | sed -n 's/^ *"\(status\|error\)": *\([0-9]*\).*/\1 \2/p' | tr '\n' ' '; "$u" diff $1 >diff; grep -c big diff; }
have_room() { mkdir "$disk/p" && head -c 600000 /dev/zero >"$disk/p/f" && for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo >"$disk/p/$i" || return; done; }
room() { until have_room 2>/dev/null; do rm -rf "$disk/p"; sleep 0.02; done; rm -rf "$disk/p"; }
"$u" run "$@" -- sh -c "$fill"; echo "unnamed $?"
known last
"$u" drop last; room
"$u" run "$@" --name=x $trace -- sh -c "$fill"; echo "named $?"
known x
"$u" rm x; room
rm -f "$disk/trace"
id=$("$u" run -d "$@" -- sh -c "$loud"); echo "detached $?"
"$u" wait $id
known $id
"$u" logs $id 2>&1 | grep -o 'of .*log could not be written'
"$u" rm $id; room
"$u" run "$@" --rm -- sh -c 'exit 9'; echo "after all $?"
"""
WANTED = """unnamed 7
status 7 1
named 7
status 7 1
detached 0
7
status 7 1
after all 9
"""


def on_small_disk(box, disk, script, *argv, **env):
    """script, with $disk, which is XDG_DATA_HOME, and the words argv."""
    where = box.top / "small"
    env = {**box.env, **env, "u": USBOX, "disk": os.fspath(where), "XDG_DATA_HOME": os.fspath(where)}
    if disk == "quota":
        where = "/quota/of-test"
        env.update(disk=where, XDG_DATA_HOME=where)
        shutil.rmtree(where, ignore_errors=True)
        os.mkdir(where, 0o700)
        command = ["sh", "-c", script, "sh", *argv]
    else:
        where.mkdir()
        if subprocess.run([*UNSHARE, "mount -t tmpfs t /mnt"], capture_output=True, check=False).returncode != 0:
            cannot("mount a tmpfs as an ordinary user")
        command = [*UNSHARE, f'mount -t tmpfs -o {DISKS[disk]},mode=0700,uid=$(id -u) t "$disk" && exec {AS_OURSELVES} sh -c "$@"', "sh", script, "sh", *argv]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env, cwd=box.dir, check=False, timeout=300, text=True)


@pytest.mark.parametrize("overlay, disk", [pytest.param("fuse", "quota", marks=pytest.mark.limits)] if IN_VM else
                         [(overlay, disk) for overlay in ("fuse", "kernel") for disk in ("blocks", "inodes")])
def test_full_disk(box, overlay, disk):
    trace = "--trace-files=../small/trace" if overlay == "fuse" and disk != "quota" else ""
    loud = FILL.format("head -c 300000 /dev/zero;")
    result = on_small_disk(box, disk, SCRIPT, "--network=none", f"--overlay={overlay}", fill=FILL.format(""), loud=loud, trace=trace)
    assert result.stdout.replace("of log could not be written\n", "").replace("of the log could not be written\n", "") == WANTED, result.stderr
    assert ERRORS[disk] in result.stderr, result
    ours = [line for line in result.stderr.splitlines() if line.startswith("usbox")]
    assert not [line for line in ours if "nothing of it is on the host" not in line and "it ends here" not in line], result
    if disk == "blocks":  # there is nothing to lose where files have room and names have not
        assert "log could not be written" in result.stdout, result
        assert overlay == "kernel" or "trace of files: No space left on device; it ends here" in result.stderr, result


# The changes of the last box are what fills it; without a name, with one, detached, and when that was given back.
NO_ROOM = r"""
"$u" run "$@" -- sh -c "$fill" 2>/dev/null; head -c 8000000 /dev/zero >"$disk/rest" 2>/dev/null
for how in "" "--name x" -d; do "$u" run $how "$@" -- true; echo "$how $?"; done
rm "$disk/rest"; "$u" rm last; until head -c 600000 /dev/zero 2>/dev/null >"$disk/p"; do sleep 0.02; done; rm "$disk/p"
"$u" run "$@" -- true; echo "after all $?"
"""


def test_a_run_on_a_full_disk(box):
    result = on_small_disk(box, "blocks", NO_ROOM, "--network=none", fill=FILL.format(""))
    assert result.stdout == " 125\n--name x 125\n-d 125\nafter all 0\n", result
    lines = result.stderr.splitlines()
    assert len(lines) == 6 and all("No space left on device" in line for line in lines[::2]), result
    assert all(line.startswith("hint: usbox ps -a shows what boxes keep on the disk") for line in lines[1::2]), result


# Refused before the disk is full, while it is, and when there is room again.
REFUSED = r"""
refused() { for _ in $(seq $1); do (echo >/dev/tcp/169.254.169.254/$2) 2>/dev/null; done; }
refused 3 1
head -c 8000000 /dev/zero >big; for i in $(seq 50); do echo >f$i || break; done
refused 100 2
rm big; until head -c 200000 /dev/zero >probe; do rm -f probe; sleep 0.05; done; rm probe
refused 3 3
exit 7
"""


@pytest.mark.slice
def test_full_net_log(box):
    """--net-log on the disk that is full: the run goes on, and says so once; what is written is whole, but for the line at which it happened."""
    result = on_small_disk(box, "blocks", '"$u" run --net-log="$disk/net.log" -- bash -c "$refused"; echo "status $?"; cat "$disk/net.log"', refused=REFUSED)
    status, *lines = result.stdout.splitlines()
    assert status == "status 7" and result.stderr.count("--net-log: lines are missing: No space left on device") == 1, result
    ports, torn = [], 0
    for line in lines:
        try:
            ports.append(int(json.loads(line)["to"].rpartition(":")[2]))
        except ValueError:
            torn += 1
    assert ports[:3] + ports[-3:] == [1] * 3 + [3] * 3 and ports[3:-3] == [2] * (len(ports) - 6) and len(ports) < 60 and torn <= 1, result
