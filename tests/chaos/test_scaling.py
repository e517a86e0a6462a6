"""Workers that come and go under load."""

from __future__ import annotations

import pytest

from tests.chaos.scaling import measure
from tests.common.runtime.conftest import Bench, bench

__all__ = ["bench"]


@pytest.mark.integration
def test_scaling_out_and_in_under_load_loses_nothing_and_doubles_nothing(bench: Bench) -> None:
    found = measure(bench, 3, watched=0)
    assert (found.lost, found.doubled) == (0, 0)
