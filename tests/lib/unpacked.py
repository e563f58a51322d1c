# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of packages that ./check has taken apart and not installed (unpack_packages() of shell.sh), or that are installed here."""
import glob
import os

ROOT = os.environ.get("USBOX_TEST_UNPACKED")


def program(name):
    """What to execute, as the beginning of an argv; None: it is not here."""
    for root in filter(None, (ROOT, "/")):
        path = os.path.join(root, "usr/sbin", name)
        if os.access(path, os.X_OK):
            libraries = glob.glob(os.path.join(root, "usr/lib/*-linux-gnu*")) if root == ROOT else []
            return (["env", "LD_LIBRARY_PATH=" + ":".join(libraries)] if libraries else []) + [path]
    return None
