"""Prometheus' programs: found, or asked for in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import prometheus_install
from deploy.local.prometheus_install import HINT, PROGRAMS, find


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program on PATH, and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("MINDSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def test_path_goes_before_the_cache_and_half_of_it_is_nothing(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find() is None
    put(nothing / "cache" / "prometheus", *PROGRAMS)
    assert find() == nothing / "cache" / "prometheus"
    assert prometheus_install.install(pytest.fail) == find()
    put(nothing / "half", "prometheus")
    monkeypatch.setenv("PATH", str(nothing / "half"))
    assert find() == nothing / "cache" / "prometheus"
    put(nothing / "whole", *PROGRAMS)
    monkeypatch.setenv("PATH", str(nothing / "whole"))
    assert find() == nothing / "whole"


def test_up_says_how_to_get_it_before_anything_is_started(nothing: Path) -> None:
    command = [sys.executable, "-c", "from services.cli.main import main; main()", "up", "--prometheus", "--data-dir"]
    done = subprocess.run([*command, nothing / "shop"], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == f"Prometheus is not installed (install it once: {HINT})\n"
    assert not (nothing / "shop" / "logs").exists()
