"""How the supervisor starts again what has ended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.local import platform
from deploy.local.platform import Platform, PlatformOptions
from deploy.local.process import Child


def _delays(supervisor: Platform, said: list[str], ends: int) -> list[float]:
    """What it said to wait after each of so many ends."""
    said.clear()
    while len(said) < ends:
        supervisor.tick()
    return [float(found[1]) for line in said if (found := re.search(r"starts again in ([\d.]+) s", line))]


def test_the_wait_grows_with_ends_in_a_row_and_is_short_again_after_a_good_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    supervisor = Platform(PlatformOptions(tmp_path), said.append)
    child = Child("short", ["true"], {}, tmp_path / "short.log")
    monkeypatch.setitem(supervisor._children, "short", child)
    child.start()
    assert _delays(supervisor, said, 3) == [0.2, 0.4, 0.8]
    monkeypatch.setattr(platform, "_WELL_SECONDS", 0.0)
    assert _delays(supervisor, said, 2) == [0.2, 0.2]


def test_what_is_held_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    supervisor = Platform(PlatformOptions(tmp_path), said.append)
    child = Child("short", ["true"], {}, tmp_path / "short.log")
    monkeypatch.setitem(supervisor._children, "short", child)
    child.start()
    child.wait_stopped(10)
    supervisor.held.add("short")
    for _ in range(100):
        supervisor.tick()
    assert said == []
    supervisor.held.clear()
    assert _delays(supervisor, said, 1) == [0.2]
