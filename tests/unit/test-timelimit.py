#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tells of a test that hangs: tests/lib/timelimit.py, tests/vm/guest/watch.

test-timelimit.py SOURCE_DIR
"""
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

TOP = sys.argv[1]
TESTS = """
import subprocess
import time

import pytest


@pytest.fixture
def way_back():
    yield
    time.sleep(1000)


def test_waits_for_a_process():
    subprocess.run(["sleep", "1000"], check=True)


def test_back(way_back):
    pass


def test_passes():
    pass
"""
CONFTEST = """
import timelimit


def pytest_configure(config):
    config.pluginmanager.register(timelimit)
"""


@unittest.skipIf(subprocess.run(["/usr/bin/python3", "-c", "import pytest"], check=False, capture_output=True).returncode, "this machine has no pytest")
class Pytest(unittest.TestCase):
    def test_one_that_hangs_fails_and_the_next_runs(self):
        with tempfile.TemporaryDirectory() as top:
            for name, text in (("test_some.py", TESTS), ("conftest.py", CONFTEST)):
                with open(os.path.join(top, name), "w", encoding="utf-8") as f:
                    f.write(text)
            progress = os.path.join(top, "progress")
            env = {**os.environ, "PYTHONPATH": os.path.join(TOP, "tests", "lib"), "USBOX_TEST_SECONDS": "5", "USBOX_TEST_PROGRESS": progress}
            run = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "test_some.py"], cwd=top, env=env,
                                 stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
            self.assertEqual(run.returncode, 1, run)
            for line in ("FAILED test_some.py::test_waits_for_a_process - Failed: took more than 5 s", "PASSED test_some.py::test_back",
                         "ERROR test_some.py::test_back - Failed: took more than 5 s", "PASSED test_some.py::test_passes"):
                self.assertIn(line + "\n", run.stdout)
            # Where it hung, and what was there.
            self.assertRegex(run.stdout, r'(?m)^> *subprocess\.run\(\["sleep", "1000"\], check=True\)$')
            self.assertRegex(run.stdout, r"(?m)^\d+ child of \d+ S in .*: sleep 1000$")
            with open(progress, encoding="utf-8") as f:
                self.assertEqual(f.read(), "the tests have ended\n")


class Watch(unittest.TestCase):
    def test_it_says_that_it_lives_and_once_what_is_waited_for(self):
        # A name that nobody else says: the console has everybody's command lines.
        name = f"test_some.py::test_{os.urandom(8).hex()}"
        with tempfile.TemporaryDirectory() as top:
            alive, console, progress = (os.path.join(top, file) for file in ("alive", "console", "progress"))
            with open(progress, "w", encoding="utf-8") as f:
                f.write(name + "\n")

            def said(path):
                try:
                    with open(path, encoding="utf-8", errors="replace") as f:
                        return f.read()
                except FileNotFoundError:
                    return ""
            watch = subprocess.Popen([os.path.join(TOP, "tests", "vm", "guest", "watch"), alive, console, progress, "1"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                end = time.monotonic() + 200
                while "usbox-watch: that is all\n" not in said(console) or said(alive).count("\n") < 5:
                    self.assertTrue(watch.poll() is None and time.monotonic() < end, (said(alive), said(console)[-2000:]))
                    time.sleep(0.1)
            finally:
                watch.kill()
                watch.wait()
            for line in said(alive).splitlines():
                self.assertRegex(line, r"^up \d+ s, load \d+\.\d+, for \d+ s at " + name + "$")
            self.assertEqual(re.findall(f".*what runs is {name}.*", said(console)), [f"usbox-watch: no test has ended for 1 s; what runs is {name}"])
            self.assertRegex(said(console), r"(?m)^ *PID +TID +PPID ")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
