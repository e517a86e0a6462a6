"""Dashboards are what the code makes, and each panel says where it asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deploy.monitoring import __main__ as command
from deploy.monitoring.__main__ import DASHBOARDS, stale


def test_the_files_are_what_the_code_makes() -> None:
    assert stale() == [], "write them anew: make dashboards"


def test_every_panel_asks_the_prometheus_that_is_chosen() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")]
    assert len(boards) == 7
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for board in boards:
        assert [one["name"] for one in board["templating"]["list"]] == ["datasource"]
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["title"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
            assert all(target["expr"] and target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_a_stale_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "DASHBOARDS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["deploy.monitoring"])
    (tmp_path / "old.json").write_text("{}")
    assert command.main() == 0
    assert command.stale() == []
    (tmp_path / "mindstream.json").write_text("{}")
    (tmp_path / "old.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["deploy.monitoring", "--check"])
    assert command.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "mindstream.json is stale: make dashboards",
        "old.json is stale: make dashboards",
    ]
