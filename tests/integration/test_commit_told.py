# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbox commit: what comes to the host as something else than it was in the box is said to."""
import json

import pytest

from conftest import cannot, has_subids

NOTE = "its ACL names ids of the box, which on the host are subordinate numbers"


@pytest.mark.slice
@pytest.mark.parametrize("overlay", ("fuse", "kernel"))
def test_acls_of_other_ids(box, overlay):
    """They are no owners, and go along."""
    if not has_subids():
        cannot("give a box more than one id")
    box.run("--network=none", f"--overlay={overlay}", "-u", "root", "--", "sh", "-c",
            "set -e; for f in a b c d; do echo >$f; done; mkdir e; setfacl -m u:5:r a; setfacl -m g:7:r b; setfacl -m u:0:r c; setfacl -d -m u:1:r e").ok()
    told = {line["path"].rsplit("/", 1)[1]: line.get("note", "") for line in map(json.loads, box.usbox("commit", "last", "--json", "--dry-run").lines())}
    assert {name for name, note in told.items() if NOTE in note} == {"a", "b", "e"}, told
    result = box.usbox("commit", "last").ok()
    assert result.err.count(NOTE) == 3 and f"{box.dir}/a: {NOTE}" in result.err, result
