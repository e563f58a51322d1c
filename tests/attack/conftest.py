# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures of the integration tests: attacks are made on the same boxes."""
import importlib.util
import pathlib
import sys

path = pathlib.Path(__file__).resolve().parents[1] / "integration" / "conftest.py"
sys.path.insert(0, str(path.parent))
spec = importlib.util.spec_from_file_location("integration_conftest", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
globals().update({name: value for name, value in vars(module).items() if not name.startswith("__")})
