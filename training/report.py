"""What answers are worth: accuracy by difficulty with intervals, beside floors, and compared with the first model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablations.intervals import Estimate, Part, difference, ratio
from training.asking import Asked
from training.questions import LEVELS, Question, floors


def report(questions: Sequence[Question], models: Sequence[Asked], seed: int = 0) -> dict[str, Any]:
    """Figures as JSON has them; `models` in the order that they were asked, the first is what others are compared with.

    Accuracy counts an answer that names no option as wrong; how many these are stands beside it. What the bootstrap
    draws anew are pairs: questions of one are right or wrong together.
    """
    pairs = [question.pair for question in questions]
    first = models[0].right(questions)
    told: dict[str, Any] = {
        "questions": len(questions),
        "pairs": len(set(pairs)),
        "seed of the bootstrap": seed,
        "floors": {name: _levels(right, questions, seed) for name, right in floors(questions).items()},
        "models": [],
    }
    for number, one in enumerate(models):
        right = one.right(questions)
        row = {
            "model": one.model,
            "accuracy": _levels(right, questions, seed),
            "unparsable": sum(chosen is None for chosen in one.chosen),
        }
        if number:
            better = difference(by_pair(right, pairs), by_pair(first, pairs), seed)
            row["better than the first by"] = plain(better)
        told["models"].append(row)
    return told


def _levels(right: Sequence[float], questions: Sequence[Question], seed: int) -> dict[str, Any]:
    """By level, and over all."""
    found = {}
    for level in (*LEVELS, "all"):
        chosen = [place for place, question in enumerate(questions) if level in (question.difficulty, "all")]
        if chosen:
            parts = by_pair([right[place] for place in chosen], [questions[place].pair for place in chosen])
            found[level] = {"questions": len(chosen), **plain(ratio(parts, seed))}
    return found


def by_pair(right: Sequence[float], pairs: Sequence[str]) -> list[Part]:
    """Of each pair how many answers are right, of how many; in the pairs' order."""
    found: dict[str, Part] = {}
    for value, pair in zip(right, pairs, strict=True):
        before, asked = found.get(pair, (0.0, 0.0))
        found[pair] = (before + value, asked + 1)
    return list(found.values())


def plain(found: Estimate) -> dict[str, float]:
    """For JSON."""
    return {name: round(getattr(found, name), 4) for name in ("value", "low", "high")}


def said(found: dict[str, float], sign: str = "") -> str:
    """An interval as tables have it: `0.712 (0.684 to 0.741)`."""
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"


def table(told: dict[str, Any]) -> list[list[str]]:
    """A report's rows, headings first."""
    rows = [["model", *LEVELS, "all", "unparsable", "better than the first by"]]
    for name, levels in told["floors"].items():
        rows.append([name, *(f"{levels[level]['value']:.3f}" if level in levels else "" for level in LEVELS)])
        rows[-1] += [f"{levels['all']['value']:.3f}", "", ""]
    for one in told["models"]:
        cells = [said(one["accuracy"][level]) if level in one["accuracy"] else "" for level in (*LEVELS, "all")]
        better = one.get("better than the first by")
        rows.append([one["model"], *cells, str(one["unparsable"]), said(better, "+") if better else ""])
    return rows
