"""Candidates under each relation: what further samples find, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablations import truth
from ablations.bench import Arm, Bench, Outcome
from ablations.intervals import Estimate, difference, ratio
from ablations.report import Report, Row, Table
from services.common.leaks import text_key

COUNTS = (1, 2, 4)


def measure(bench: Bench) -> Report:
    """1, 2 and 4 candidates: the first greedy, the others sampled, a seed each."""
    runs = {count: bench.run(Arm(samples=count)) for count in COUNTS}
    alone = [(_found(bench, outcome), 1) for outcome in runs[1]]
    rows: list[Row] = []
    for count, outcomes in runs.items():
        found = [(_found(bench, outcome), 1) for outcome in outcomes]
        kept = [[one for one in outcome.answers if bench.kept(one)] for outcome in outcomes]
        true = [
            sum(truth.names_reason(outcome.pair, one.relation, one.text) for one in some)
            for outcome, some in zip(outcomes, kept, strict=True)
        ]
        rows.append({
            "candidates": count,
            "true reasons a pair": ratio(found, bench.seed),
            "more than with one": difference(found, alone, bench.seed),
            "relations answered": ratio([_answered(bench, outcome) for outcome in outcomes], bench.seed),
            "precision": ratio([(n, len(some)) for n, some in zip(true, kept, strict=True)], bench.seed),
            "tokens read a pair": _mean([outcome.read for outcome in outcomes]),
            "tokens written a pair": _mean([outcome.written for outcome in outcomes]),
            "written for a true reason": sum(o.written for o in outcomes) / max(1, sum(n for n, _ in found)),
        })  # fmt: skip
    return Report("candidates", [Table("Candidates under each relation", rows)], lambda on: _draw(on, rows))


def _found(bench: Bench, outcome: Outcome) -> int:
    """Distinct texts that are true and kept, over all relations of a pair."""
    return len({
        (one.relation, text_key(one.text))
        for one in outcome.answers
        if bench.kept(one) and truth.word_for_word(outcome.pair, one.relation, one.text)
    })  # fmt: skip


def _answered(bench: Bench, outcome: Outcome) -> tuple[int, int]:
    """Relations that fit of which a true text is kept, and all that fit."""
    fits = [name for name in {one.relation for one in outcome.answers} if truth.fits(outcome.pair, name)]
    right = {
        one.relation
        for one in outcome.answers
        if bench.kept(one) and truth.word_for_word(outcome.pair, one.relation, one.text)
    }
    return len(right.intersection(fits)), len(fits)


def _mean(counts: Sequence[int]) -> float:
    return sum(counts) / max(1, len(counts))


def _draw(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    written = [row["tokens written a pair"] for row in rows]
    found = [one for one in (row["true reasons a pair"] for row in rows) if isinstance(one, Estimate)]
    ends = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    axes.errorbar(written, [one.value for one in found], yerr=ends, marker="o", capsize=3)
    for row, at, one in zip(rows, written, found, strict=True):
        axes.annotate(f" {row['candidates']}", (at, one.value), va="bottom")
    axes.set(xlabel="tokens written a pair", ylabel="true reasons kept a pair (95 % interval)")
    axes.set_ylim(bottom=0)
    axes.set_title("Candidates under each relation", fontsize=10)
