# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox commit: what the host has of a file stays until it has it where the box moved it, too, and a later commit does the rest."""
import json
import re

import pytest

ALL = ["--network=none", "--name=b"]


def words(box, *names):
    """What the host has by these names; None: nothing."""
    return [(box.dir / name).read_text(encoding="utf-8").strip() if (box.dir / name).exists() else None for name in names]


def run(box, script):
    """In shut/ nothing can be made on the host."""
    box.run(*ALL, *box.options, "--", "sh", "-c", f"set -e; chmod 755 shut; {script}; chmod 555 shut").ok()


def commit(box, why=None):
    """What fails, why or not; None: it all comes, where shut/ is open."""
    if not why:
        (box.dir / "shut").chmod(0o755)
    result = box.usbox("commit", "b", *([] if why else ["--force"]))
    assert (result.rc == 1 and f"/f: the box has it, or something in it, by a name that {why}" in result.err) if why else result.rc == 0, result
    return result


@pytest.fixture
def shut(box):
    """With f, g and h on the host."""
    for name in ("f", "g", "h", "shut/other"):
        box.write(name, f"{name}\n")
    (box.dir / "shut").chmod(0o555)
    yield box
    (box.dir / "shut").chmod(0o755)


# What the box does, and what the host has by the name f when all is through.
MOVED = {
    "a new file": ("mv f shut/f; echo new >f", "new"),
    "a new directory": ("mv f shut/f; mkdir f; echo new >f/n", None),
    "what another one was": ("mv f shut/f; mv g f", "g"),
}


@pytest.mark.slice
@pytest.mark.parametrize("case, overlay", [*((case, "fuse") for case in MOVED), *((case, "kernel") for case in MOVED if case != "what another one was")])
def test_what_takes_the_place_of_a_file_waits_for_that(shut, case, overlay):
    """As on a full disk, of which nobody knows where it gets full: what stood there comes to where it is in the box first. That
    the kernel copied what stands at f now, and not what stood there, nobody can tell."""
    script, then = MOVED[case]
    shut.options = [f"--overlay={overlay}"]
    run(shut, script)
    commit(shut, "could not be made")
    assert words(shut, "f", "g") == ["f", "g"]
    commit(shut)
    assert words(shut, "shut/f") == ["f"] and (words(shut, "f") == [then] if then else words(shut, "f/n") == ["new"])
    assert (shut.dir / "g").exists() == (then != "g")
    assert shut.usbox("diff", "b", "f", "g").lines() == []


def test_what_a_commit_brought_stays_until_it_is_where_a_later_run_moved_it(shut):
    """It has another inode number by now than the box copied it from."""
    shut.options = ["--overlay=fuse"]
    run(shut, "echo more >>f; echo n >n")
    shut.usbox("commit", "b").ok()
    run(shut, "mv f n shut")
    commit(shut, "could not be made")
    assert words(shut, "f", "n") == ["f\nmore", "n"]
    commit(shut)
    assert words(shut, "f", "n", "shut/f", "shut/n") == [None, None, "f\nmore", "n"]


def test_what_has_the_inode_number_of_what_a_commit_brought_may_be_another(shut):
    """The file that came next after that was removed, say: its birth tells. Which number a file gets nobody can choose, so the journal has another birth."""
    shut.options = ["--overlay=fuse"]
    run(shut, "echo n >n")
    shut.usbox("commit", "b").ok()
    journal = next(shut.boxes.glob("*/commit"))
    records, n = re.subn(rb"(/n\0[0-9a-f]+ )[0-9]+(\.[0-9]{9}\0)", rb"\g<1>1\2", journal.read_bytes())
    assert n == 1, journal.read_bytes()
    journal.write_bytes(records)
    run(shut, "mv n shut")
    result = shut.usbox("commit", "b")
    assert result.rc == 1 and "shut/n: " in result.err and words(shut, "n") == [None], result


def test_what_the_box_hid_and_wrote_anew_stays(shut):
    """The new one would take the place of the only copy that comes to the host; so would what was moved to it, and that stays where it was."""
    shut.options = ["--overlay=fuse"]
    run(shut, "mkdir -p ~/.ssh; mv f ~/.ssh; mv g f; mv h g; echo new >free")
    result = shut.usbox("commit", "b")
    assert result.rc == 1 and result.err.count("the box has it, or something in it, by a name that is passed over") == 3, result
    assert words(shut, "f", "g", "h", "free") == ["f", "g", "h", "new"]
    shut.usbox("commit", "b", "f").ok()
    assert words(shut, "f", "g", "h") == ["g", "g", "h"]


def test_a_dry_run_knows_of_a_directory_that_is_closed(shut):
    """It says what the commit would."""
    shut.options = ["--overlay=fuse"]
    run(shut, "echo n >shut/n; echo >shut/other; chmod 600 f; mkdir d; echo n >d/n")
    (shut.dir / "shut").chmod(0o555)
    said = [shut.usbox("commit", "b", "--json", *argv) for argv in (["--dry-run"], [])]
    told = [sorted((line["path"], line["result"].replace("would", "done")) for line in map(json.loads, result.out.splitlines())) for result in said]
    assert said[0].rc == said[1].rc == 1 and told[0] == told[1] and sum(result == "failed" for _, result in told[0]) == 2, said
