"""Each ablation runs on the real checkpoint, and writes the same tables for the same seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations import __main__ as command
from ablations.__main__ import ABLATIONS
from services.common.relations import RELATIONS

MARKS = "".join(f"<!-- {name}: written by ablations -->\nof last time\n<!-- end of {name} -->\n" for name in ABLATIONS)
PAIRS = 3


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ablations", *map(str, arguments)])
    return command.main()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All ablations over a few pairs, and a page that had their marks."""
    folder = tmp_path_factory.mktemp("ablations")
    (folder / "page.md").write_text(f"before\n{MARKS}after\n")
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, "all", "--pairs", PAIRS, "--seed", 2, "--out", folder, "--page", folder / "page.md") == 0
    return folder


def tables(written: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    found = json.loads((written / f"{name}.json").read_text())
    assert (found["ablation"], found["seed"], found["pairs"]) == (name, 2, PAIRS)
    assert found["model"].startswith("mindstream-demo-llava@")
    return found["tables"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ABLATIONS)
def test_tables_plot_and_page_are_written(written: Path, name: str) -> None:
    text = on_page(written, name)
    assert f"`python -m ablations {name} --seed 2 --pairs {PAIRS}`" in text
    assert text.count("\n| --- ") == len(tables(written, name))
    assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (written / "page.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "of last time" not in page


def on_page(written: Path, name: str) -> str:
    """What stands between an ablation's marks."""
    _, _, rest = (written / "page.md").read_text().partition(f"<!-- {name}: written by ablations -->\n")
    return rest.partition(f"<!-- end of {name} -->\n")[0]


def test_pictures_show_what_text_does_not(written: Path) -> None:
    (rows,) = tables(written, "text-only").values()
    shown = [row for row in rows if row["among"] == "only pictures show it" and "wrong" not in row["measure"]]
    assert len(shown) == 4
    assert all(row["text only"]["value"] == 0 for row in shown)
    assert all(row["with pictures"]["value"] > 0.5 for row in shown[:2])


def test_a_higher_threshold_keeps_less(written: Path) -> None:
    for rows in tables(written, "threshold").values():
        for name in ("kept", "recall"):
            values = [row[name]["value"] for row in rows]
            assert values == sorted(values, reverse=True)
        assert [row["threshold"] for row in rows if "default" in row["threshold"]] == ["0.5 (default)"]


def test_relations_are_all_there(written: Path) -> None:
    departments, shares, distribution = tables(written, "relations").values()
    assert sum(row["pairs"] for row in departments) == PAIRS
    for rows in (shares, distribution):
        assert [row["relation"] for row in rows] == [relation.name for relation in RELATIONS]
    assert sum(row["of what is kept"] for row in distribution) == pytest.approx(1, abs=0.01)


def test_more_candidates_find_no_less_and_cost_more(written: Path) -> None:
    (rows,) = tables(written, "candidates").values()
    assert [row["candidates"] for row in rows] == [1, 2, 4]
    found = [row["true reasons a pair"]["value"] for row in rows]
    assert found == sorted(found)
    tokens = [row["tokens written a pair"] for row in rows]
    assert tokens == sorted(set(tokens))


def test_the_same_seed_gives_the_same_tables(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "text-only", "--pairs", PAIRS, "--seed", 2, "--out", tmp_path) == 0
    for name in ("text-only.json", "text-only.png"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()
    assert (tmp_path / "text-only.md").read_text() == on_page(written, "text-only")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--checkpoint", "no/such"), "ablations: "),
        (("--page", "page.md"), "ablations: page.md has no lines <!-- features: written by ablations -->"),
        (("--page", "missing.md"), "ablations: missing.md: No such file or directory"),
        (("--out", "page.md"), "ablations: page.md: File exists"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").touch()
    assert run(monkeypatch, "features", *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(line)


@pytest.mark.parametrize("pairs", ["0", "-1", "many"])
def test_no_pairs_are_refused(pairs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "features", "--pairs", pairs)
    assert f"{pairs!r} is no count of pairs" in capsys.readouterr().err
