"""Questions of the source's form and of a release, and what their answers are worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common import choices
from services.common.media import MediaStore
from tests.training.releases import release
from training.asking import Asked
from training.errors import TrainingError
from training.questions import Question, floors, read
from training.report import report, table


def sourced(number: int, task: int = 1, options: int = 4) -> dict[str, Any]:
    """A row as the source has them."""
    distractors = {1: "distractors_asserstion", 2: "distractors_product"}[task]
    return {
        "id": f"FS_{number}", "item_a_id": f"a{number // 2}", "item_b_id": "b", "item_a_name": "Cup &amp; Lid",
        "item_b_name": "Saucer", "assertion": "PersonX bought Item A and Item B because they are both nice.",
        distractors: ["-"] * (options - 1), "distractors_score": [number / 10] * (options - 1),
        "gold_ind": choices.LETTERS[number % options],
        "options": {choices.LETTERS[place]: f"because of {place}" for place in range(options)},
    }  # fmt: skip


def written(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_the_sources_rows_are_read_as_they_are_asked(tmp_path: Path) -> None:
    rows = [*(sourced(number) for number in range(9)), sourced(9, options=2)]
    found, too_few = read(written(tmp_path / "task1.jsonl", rows), 1)
    assert (len(found), too_few) == (9, 1)
    first = found[0]
    assert first.text == "A customer buys Cup & Lid and Saucer. What is the most likely intention for buying them?"
    assert first.listed.splitlines()[1:] == [
        "A. because of 0", "B. because of 1", "C. because of 2", "D. because of 3", "Answer with the letter only.",
    ]  # fmt: skip
    assert [question.right for question in found] == [number % 4 for number in range(9)]
    assert [question.difficulty for question in found][::4] == ["easy", "medium", "hard"]
    [other], _ = read(written(tmp_path / "task2.jsonl", [sourced(1, task=2)]), 2)
    assert other.text.startswith("A customer buys Cup & Lid because they are both nice. What other product")


@pytest.mark.parametrize(
    ("rows", "task", "line"),
    [
        ([], 1, "no question of task 1"),
        ([sourced(1, task=2)], 1, "1: no row of IntentionQA's task 1: it has no 'distractors_asserstion'"),
        ([sourced(1), {**sourced(2), "gold_ind": "Z"}], 1, ":2: no row"),
        ([["a", "list"]], 1, ":1: no row"),
        ([sourced(1, options=2)], 1, "no question of task 1 with 4 options"),
    ],
)
def test_a_file_of_something_else_is_refused_by_its_line(tmp_path: Path, rows: Any, task: int, line: str) -> None:
    with pytest.raises(TrainingError, match=line):
        read(written(tmp_path / "data.jsonl", rows), task)


def test_a_releases_own_questions_are_read(tmp_path: Path) -> None:
    release(tmp_path / "release", MediaStore(f"file://{tmp_path}/media"))
    found, too_few = read(str(tmp_path / "release"), 1)
    assert (len(found), too_few) == (4, 0)
    assert all(question.text.endswith("What is the most likely intention for buying them?") for question in found)
    assert [question.right for question in found] == [0, 1, 2, 3]
    assert read(str(tmp_path / "release"), 2, "train")[0]
    with pytest.raises(TrainingError, match=r"nowhere is not a whole release: .*has no manifest.json"):
        read(str(tmp_path / "nowhere"), 1)


def asked(rights: list[int]) -> list[Question]:
    return [
        Question(str(number), f"pair {number // 2}", "?", ("a", "b", "c", "d"), right, ("easy", "hard")[number % 2])
        for number, right in enumerate(rights)
    ]


def test_floors_are_those_of_who_understands_nothing() -> None:
    questions = asked([1, 1, 0, 3])
    questions[1] = replace(questions[1], text="A customer buys Tea and Cup.", options=("red", "for tea", "cups", "-"))
    questions[2] = replace(questions[2], text="A customer buys Tea and Cup.", options=("tea", "cup", "tea leaf", "-"))
    assert floors(questions) == {
        "random": [0.25] * 4,
        "always B": [1, 1, 0, 0],
        "words in common": [0.25, 1, 0.5, 0.25],
    }


def test_models_are_compared_on_the_same_questions() -> None:
    questions = asked([0, 1, 2, 3] * 25)
    worse, better = Asked("base@1", [0, 1, None, 1] * 25), Asked("base@1+tuned@2", [0, 1, 2, 1] * 25)
    told = report(questions, [worse, better], seed=3)
    assert told == report(questions, [worse, better], seed=3)
    first, second = told["models"]
    assert (first["accuracy"]["all"]["value"], first["unparsable"]) == (0.5, 25)
    assert second["accuracy"]["easy"]["value"] == 1
    hard = second["accuracy"]["hard"]
    assert (hard["questions"], hard["value"]) == (50, 0.5)
    # 50 independent throws: 1.96 standard deviations.
    assert (hard["low"], hard["high"]) == pytest.approx((0.5 - 0.139, 0.5 + 0.139), abs=0.03)
    gain = second["better than the first by"]
    assert gain["value"] == 0.25
    assert 0 < gain["low"] < 0.25 < gain["high"]
    headings, *rows = table(told)
    assert all(len(row) == len(headings) for row in rows)
    assert [row[0] for row in rows] == ["random", "always A", "words in common", "base@1", "base@1+tuned@2"]
