# SPDX-License-Identifier: LGPL-2.1-or-later
"""Project hooks in a tree that is written through, while the host works in it: what git executes there must stay the host's own."""
import subprocess

import pytest

from conftest import SLOW

pytestmark = pytest.mark.usefixtures("both_overlays")

# Whoever renames what is above the tree has another one where it was, with a repository of his own in it. turns: an end, where no guard comes.
ATTACK = """
python3 -c 'import os; os.rename("../../{top}", "../../{top}-away")' && mkdir -p ../../{top}/work/.git && echo decoy >../../{top}/work/.git/config
ln -s config .git/other; mkdir .git/config.lock.d; ln -s /etc .git/etc
echo ready
turns=3000
until grep -q mine .git/config && [ ! -w .git/config ] || [ $((turns -= 1)) = 0 ]; do sleep 0.01; done
for f in .git/config .git/other; do printf '[core]\\n\\tfsmonitor = touch stolen\\n' >>$f; done
cp .git/config .git/new; mv .git/new .git/config; ln -f .git/config .git/same; rm -f .git/config; mv .git .git-away
touch .git/hooks/post-index-change
"""


@pytest.mark.slice
def test_the_config_that_the_host_has_replaced(no_kept):
    subprocess.run(["git", "init", "-q", "--template=", no_kept.dir], check=True)
    no_kept.write(".git/hooks/pre-commit", "true\n")
    script = ATTACK.format(top=no_kept.top.name)
    with no_kept.popen("run", "--rm", "--rw", ".", "--", "sh", "-c", script) as proc:
        assert proc.stdout.readline() == b"ready\n"
        subprocess.run(["git", "config", "user.name", "mine"], cwd=no_kept.dir, check=True)
        _, err = proc.communicate(timeout=120 * SLOW)
    config = (no_kept.dir / ".git/config").read_text()
    assert "name = mine" in config and "fsmonitor" not in config, (config, err)
    assert [p.name for p in (no_kept.dir / ".git/hooks").iterdir()] == ["pre-commit"]
    subprocess.run(["git", "status"], cwd=no_kept.dir, check=True, capture_output=True)
    assert not (no_kept.dir / "stolen").exists()
