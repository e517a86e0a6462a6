"""The filter's threshold: how much it keeps against how much of that is true (MIND, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ablations import truth
from ablations.bench import WHOLE, Arm, Bench
from ablations.intervals import ratio
from ablations.report import Report, Row, Table
from models.demo import lessons

_THRESHOLDS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999)
#: Candidates of the model's own, under each relation: sampled ones go wrong more often than the greedy one.
SAMPLES = 4
#: Planted ones a pair, half of them false in the ways in which models go wrong.
PLANTED = 16
_PLOTTED = ("kept", "precision", "recall", "F1")


class Judged(NamedTuple):
    """A candidate: its score, whether it names a true reason, and whether it is true word for word."""

    score: float
    true: bool
    exact: bool


def measure(bench: Bench) -> Report:
    """The sweep over the model's own candidates, and over planted ones."""
    own = [
        [
            Judged(
                one.score,
                truth.names_reason(outcome.pair, one.relation, one.text),
                truth.word_for_word(outcome.pair, one.relation, one.text),
            )
            for one in outcome.answers
        ]
        for outcome in bench.run(Arm(samples=SAMPLES))
    ]
    rng = bench.rng("planted")
    planted = []
    for pair, views in zip(bench.pairs("shop"), bench.views("shop", WHOLE.pictures), strict=True):
        asked = lessons.judgements(rng, "held-out", pair, PLANTED)
        scores = bench.model.scores(pair, asked, views)
        planted.append([Judged(score, one.good, one.good) for score, one in zip(scores, asked, strict=True)])
    pools = {
        f"The model's own candidates, {SAMPLES} under each relation": own,
        f"Planted candidates, {PLANTED} a pair, half of them false": planted,
    }
    thresholds = sorted({*_THRESHOLDS, bench.threshold})
    tables = [
        Table(title, [_row(bench, pool, at, exact=pool is own) for at in thresholds]) for title, pool in pools.items()
    ]
    return Report("threshold", tables, lambda on: _draw(on, tables, bench.threshold), (11, 4.5))


def _row(bench: Bench, pool: Sequence[Sequence[Judged]], threshold: float, *, exact: bool) -> Row:
    kept = [[one for one in judged if one.score >= threshold] for judged in pool]
    right = [sum(one.true for one in some) for some in kept]
    precision = ratio([(true, len(some)) for true, some in zip(right, kept, strict=True)], bench.seed)
    recall = ratio([(true, sum(one.true for one in some)) for true, some in zip(right, pool, strict=True)], bench.seed)
    both = precision.value + recall.value
    row: Row = {
        "threshold": f"{threshold:g}" + (" (default)" if threshold == bench.threshold else ""),
        "kept": ratio([(len(some), len(judged)) for some, judged in zip(kept, pool, strict=True)], bench.seed),
        "precision": precision,
        "recall": recall,
        "F1": 2 * precision.value * recall.value / both if both else math.nan,
    }
    if exact:
        letters = [(sum(one.exact for one in some), len(some)) for some in kept]
        row["precision, word for word"] = ratio(letters, bench.seed)
    return row


def _draw(figure: Any, tables: Sequence[Table], default: float) -> None:
    for axes, table in zip(figure.subplots(1, len(tables), sharey=True), tables, strict=True):
        at = [float(str(row["threshold"]).split()[0]) for row in table.rows]
        for name in _PLOTTED:
            values = [cell if isinstance(cell, float) else getattr(cell, "value", math.nan)
                      for cell in (row[name] for row in table.rows)]  # fmt: skip
            axes.plot(at, values, marker=".", label=name)
        axes.axvline(default, color="grey", linestyle="--", linewidth=1, label="default threshold")
        # Scores crowd at both ends.
        axes.set_xscale("logit")
        axes.set(xlabel="threshold of the filter", ylim=(0, 1.02))
        axes.set_title(table.title, fontsize=9)
    axes.legend()
