# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs of packages that ./check has taken apart and not installed (unpack_packages() of shell.sh), or that are installed here."""
import glob
import os

ROOT = os.environ.get("USBOX_TEST_UNPACKED")


def libraries(path):
    """What the environment has to say for a program of ROOT's."""
    found = glob.glob(os.path.join(ROOT, "usr/lib/*-linux-gnu*")) if ROOT and path.startswith(ROOT + "/") else []
    return {"LD_LIBRARY_PATH": ":".join(found)} if found else {}


def find(pattern):
    """The last file of that pattern ("usr/lib/postgresql/*/bin/initdb") that can be executed, of ROOT's before the machine's; None: there is none."""
    for root in filter(None, (ROOT, "/")):
        found = [path for path in sorted(glob.glob(os.path.join(root, pattern))) if os.access(path, os.X_OK)]
        if found:
            return found[-1]
    return None


def program(name):
    """What to execute, as the beginning of an argv; None: it is not here."""
    path = find("usr/sbin/" + name)
    return path and ["env", *(f"{key}={value}" for key, value in libraries(path).items()), path]
