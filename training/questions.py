"""IntentionQA's questions (arXiv 2406.10173): of the source's own files, and of a release's test split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common import choices
from services.common.grounding import content_words, grounding
from services.common.pairs import pair_id
from services.common.titles import readable
from training import rows
from training.errors import TrainingError

#: A release's configuration of each task.
CONFIGS = {1: "intent-understand", 2: "intent-utilize"}
LEVELS = ("easy", "medium", "hard")
#: The source scores no question that has fewer, for lack of distractors.
_FEWEST_OPTIONS = 4
_OPENINGS = ("because", "as a result,")


@dataclass(frozen=True)
class Question:
    """One question, its options, and the place of the right one. Questions of one `pair` are not independent."""

    id: str
    pair: str
    text: str
    options: tuple[str, ...]
    right: int
    difficulty: str

    @property
    def listed(self) -> str:
        """As the source asks: with the options by letter."""
        return choices.listed(self.text, self.options)


def read(data: str, task: int, split: str = "test") -> tuple[list[Question], int]:
    """Questions of a JSONL file or of a release, and how many rows have too few options to be asked.

    Raises:
        TrainingError: it is neither, is of another task, or has no question.
        WorldFault: the release's storage is away.
    """
    found = _of_file(Path(data), task) if Path(data).is_file() else _of_release(data, task, split)
    asked = [question for question in found if len(question.options) >= _FEWEST_OPTIONS]
    if not asked:
        raise TrainingError(f"{data} has no question of task {task} with {_FEWEST_OPTIONS} options")
    return asked, len(found) - len(asked)


def _of_release(url: str, task: int, split: str) -> list[Question]:
    manifest = rows.verified(url)
    columns = ["id", "pair_id", "messages", "options", "answer", "difficulty"]
    return [_released(row) for row in rows.table(manifest, CONFIGS[task], split, columns)]


def _released(row: dict[str, Any]) -> Question:
    options = tuple(row["options"])
    # The row asks with its options listed: the question alone is what stands before them.
    text = row["messages"][0]["content"].removesuffix(choices.listed("", options))
    return Question(row["id"], row["pair_id"], text, options, choices.LETTERS.index(row["answer"]), row["difficulty"])


def _of_file(path: Path, task: int) -> list[Question]:
    read_rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            read_rows.append((_sourced(row, task), max(row["distractors_score"], default=0.0)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path}:{number}: no row of IntentionQA's task {task}: {_what(error)}") from None
    levels = _thirds([likeness for _, likeness in read_rows])
    return [
        Question(one.id, one.pair, one.text, one.options, one.right, level)
        for (one, _), level in zip(read_rows, levels, strict=True)
    ]


def _sourced(row: dict[str, Any], task: int) -> Question:
    """A row of the source's; each task's has a column of distractors of its own."""
    distractors = {1: "distractors_asserstion", 2: "distractors_product"}
    if distractors[task] not in row:
        raise KeyError(distractors[task])
    a, b = readable(row["item_a_name"]), readable(row["item_b_name"])
    text = choices.understand(a, b) if task == 1 else choices.utilize(a, _reason(row["assertion"]))
    letters = sorted(row["options"])
    options = tuple(readable(row["options"][letter]) for letter in letters)
    return Question(
        row["id"], pair_id(row["item_a_id"], row["item_b_id"]), text, options, letters.index(row["gold_ind"]), ""
    )


def _reason(assertion: str) -> str:
    """What stands behind the source's opening, `PersonX bought … because`."""
    starts = [assertion.find(opening) for opening in _OPENINGS if opening in assertion]
    return assertion[min(starts, default=0) :].strip()


def _thirds(likeness: Sequence[float]) -> list[str]:
    """A level a row: a third each, by how like the nearest wrong option is to the right one."""
    ranked = sorted(range(len(likeness)), key=lambda place: (likeness[place], place))
    levels = [""] * len(likeness)
    for rank, place in enumerate(ranked):
        levels[place] = LEVELS[rank * len(LEVELS) // len(ranked)]
    return levels


def _what(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def floors(questions: Iterable[Question]) -> dict[str, list[float]]:
    """By name, how right each question is answered without understanding it.

    At random; by the commonest letter; by the option most of whose content words stand in the question (where several
    have as many, at random among them).
    """
    asked = list(questions)
    counts = [sum(one.right == place for one in asked) for place in range(max(len(one.options) for one in asked))]
    commonest = counts.index(max(counts))
    return {
        "random": [1 / len(one.options) for one in asked],
        f"always {choices.LETTERS[commonest]}": [float(one.right == commonest) for one in asked],
        "words in common": [_by_words(one) for one in asked],
    }


def _by_words(question: Question) -> float:
    known = content_words(question.text)
    shares = [grounding(option, known) or 0.0 for option in question.options]
    best = [place for place, share in enumerate(shares) if share == max(shares)]
    return (question.right in best) / len(best)
