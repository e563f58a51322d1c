# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same as root with subordinate ids: usbox-fs is root of a user namespace then, mounts by itself, and needs no agent. All of it: tests/fs/long."""
import os
import subprocess
import sys

import pytest

from conftest import IN_NAMESPACE, SERVER, cannot

AS_ROOT = ["unshare", "-Um", "--propagation", "private", "--map-root-user", "--map-auto"]

if not IN_NAMESPACE:
    @pytest.mark.limit(300)
    def test_a_slice_as_root_with_subids():
        if subprocess.run([*AS_ROOT, "true"], capture_output=True, check=False).returncode != 0:
            cannot("make a user namespace with subordinate ids: this user has none, or newuidmap(1) is not there")
        result = subprocess.run([*AS_ROOT, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "slice", os.path.dirname(__file__)],
                                env={**os.environ, "USBOX_FS": SERVER}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-6000:]
        assert "skipped" not in result.stdout.splitlines()[-1], result.stdout[-2000:]
