# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boxes by the dozen, of mixed kinds, whose processes are killed at random, for some seconds; 20,000 of them by tests/faults/long --churn."""
import os

import pytest

import churn

SECONDS = float(os.environ.get("USBOX_FAULT_CHURN_SECONDS", "8"))


@pytest.mark.slice
def test_churn(bench):
    bench.clean()
    wrong, boxes, before, after = churn.churn(bench.usbox, bench.world, 100000, SECONDS, seed=os.environ.get("USBOX_FAULT_SEED", "1"))
    churn.forget_half_made(bench.world)
    print(f"{boxes} boxes; before {before}, after {after}")
    assert not wrong, "\n".join(wrong)
    assert boxes > 0 and not churn.grown(before, after)
