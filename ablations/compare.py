"""Two arms of the pipeline side by side, over the same pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.bench import Bench, Outcome
from ablations.intervals import Estimate, Part, difference, ratio
from ablations.report import Row
from models.demo.jobs import Answer
from models.demo.shop import Pair


@dataclass(frozen=True)
class Measure:
    """A share: what is counted, of what, and for one pair how often it was so."""

    name: str
    among: str
    of: Callable[[Outcome], Part]


def share_of_answers(
    counted: Callable[[Pair, Answer], bool], among: Callable[[Pair, Answer], bool]
) -> Callable[[Outcome], Part]:
    """A measure's `of` over a pair's intentions."""

    def of(outcome: Outcome) -> Part:
        asked = [one for one in outcome.answers if among(outcome.pair, one)]
        return sum(counted(outcome.pair, one) for one in asked), len(asked)

    return of


def rows(bench: Bench, arms: Mapping[str, Sequence[Outcome]], measures: Sequence[Measure]) -> list[Row]:
    """A row a measure: both arms, and how much more often it is so in the first."""
    made: list[Row] = []
    for measure in measures:
        first, second = ([measure.of(outcome) for outcome in outcomes] for outcomes in arms.values())
        row: Row = {"measure": measure.name, "among": measure.among, "asked": int(sum(asked for _, asked in first))}
        row |= {name: ratio(parts, bench.seed) for name, parts in zip(arms, (first, second), strict=True)}
        made.append({**row, "difference": difference(first, second, bench.seed)})
    return made


def draw(figure: Any, made: Sequence[Row], arms: Sequence[str]) -> None:
    """Bars with their intervals, one arm under the other."""
    axes = figure.subplots()
    places = range(len(made))
    for shift, arm in ((-0.18, arms[0]), (0.18, arms[1])):
        found = [one for one in (row[arm] for row in made) if isinstance(one, Estimate)]
        ends = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
        axes.barh([at + shift for at in places], [one.value for one in found], 0.34, xerr=ends, label=arm)
    axes.set(xlabel="share, with its 95 % interval", xlim=(0, 1.02), yticks=places)
    axes.set_yticklabels([f"{row['measure']}\n({row['among']})" for row in made], fontsize=7)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2)
