"""A real Prometheus' programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import prometheus_install


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of `prometheus` and `promtool`; the first run installs them."""
    return prometheus_install.install()
