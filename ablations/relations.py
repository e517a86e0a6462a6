"""Relations before and after filtering, by department: the filter decides what a KB is about (MIND, section 4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ablations import truth
from ablations.bench import Bench
from ablations.report import Report, Row, Table
from models.demo import lessons
from services.common.relations import RELATIONS

_NAMES = [relation.name for relation in RELATIONS]
#: Of one department, by relation.
Counts = Counter[str]


def measure(bench: Bench) -> Report:
    """Greedy candidates of pairs as they come."""
    pairs: Counter[str] = Counter()
    said: dict[str, Counts] = {}
    kept: dict[str, Counts] = {}
    for outcome in bench.run():
        where = truth.department(outcome.pair)
        pairs[where] += 1
        for one in outcome.answers:
            said.setdefault(where, Counter())[one.relation] += one.text not in ("", lessons.NOTHING)
            kept.setdefault(where, Counter())[one.relation] += bench.kept(one)
    departments = [name for name in (*truth.DEPARTMENTS, truth.UNHEARD_OF) if pairs[name]]
    tables = [
        Table(
            "By department, over all relations",
            [_department(name, pairs[name], said[name], kept[name]) for name in departments],
        ),
        Table("Share kept, by relation and department", _shares(pairs, kept, departments)),
        Table("Share among what is kept, by relation", _distribution(said, kept)),
    ]
    return Report("relations", tables, lambda on: _draw(on, pairs, kept, departments), (8, 7))


def entropy(counts: Mapping[str, int]) -> float:
    """Of a distribution over relations, bits: log2(20) = 4.32 where all are alike, 0 where there is one."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values() if n) if total else math.nan


def _department(name: str, pairs: int, said: Counts, kept: Counts) -> Row:
    asked = pairs * len(_NAMES)
    return {
        "department": name,
        "pairs": pairs,
        "candidates": asked,
        "say something": said.total() / asked,
        "kept": kept.total() / asked,
        "entropy of all": math.log2(len(_NAMES)),
        "entropy of what says something": entropy(said),
        "entropy of what is kept": entropy(kept),
    }


def _shares(pairs: Counts, kept: Mapping[str, Counts], departments: list[str]) -> list[Row]:
    return [{"relation": name, **{where: kept[where][name] / pairs[where] for where in departments}} for name in _NAMES]


def _distribution(said: Mapping[str, Counts], kept: Mapping[str, Counts]) -> list[Row]:
    before, after = (sum(found.values(), Counter[str]()) for found in (said, kept))
    return [
        {
            "relation": name,
            "of all": 1 / len(_NAMES),
            "of what says something": before[name] / max(1, before.total()),
            "of what is kept": after[name] / max(1, after.total()),
        }
        for name in _NAMES
    ]


def _draw(figure: Any, pairs: Counts, kept: Mapping[str, Counts], departments: list[str]) -> None:
    axes = figure.subplots()
    shares = [[kept[where][name] / pairs[where] for where in departments] for name in _NAMES]
    image = axes.imshow(shares, vmin=0, vmax=1, aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(departments)), [f"{where}\n({pairs[where]} pairs)" for where in departments], fontsize=8)
    axes.set_yticks(range(len(_NAMES)), _NAMES, fontsize=8)
    figure.colorbar(image, label="share of candidates kept (before filtering: 1 everywhere)")
