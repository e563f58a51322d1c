# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boxes with faults in them. The world of a test and the look at what it left behind are those of the integration tests."""
import importlib.util
import os
import pathlib

import pytest

import faults

HERE = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("integration", HERE.parent / "integration" / "conftest.py")
integration = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(integration)
box, subids = integration.box, integration.subids
pytest_configure = integration.pytest_configure
INJECT = integration.BUILD / "tests" / "faults" / "inject"
PORTRAIT = INJECT.with_name("portrait")


def new_bench(name):
    """A world of its own, which the caller removes or not."""
    top = integration.WORK / "t" / f"{os.getpid()}-{name}"
    integration.remove_tree(top)
    top.mkdir(parents=True)
    return faults.Bench(integration.Env(top), integration.USBOX, INJECT, PORTRAIT)


@pytest.fixture
def bench(box):
    """The test's boxes, under the injector."""
    if not INJECT.exists():
        integration.cannot("run tests/faults/inject, which writes registers of x86-64")
    return faults.Bench(box, integration.USBOX, INJECT, PORTRAIT)
