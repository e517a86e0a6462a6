"""How long it took to recover, by kind of fault and process."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from tests.chaos.pipeline import Pipeline
from tests.chaos.schedule import Fault


class Recoveries:
    """Times of the KB's rows, by partition of the co-buys: a pair stands in the same partition of every topic."""

    def __init__(self, pipeline: Pipeline) -> None:
        rows = pipeline.query(
            "SELECT DISTINCT source_partition, extract(epoch FROM written_at)::float8 FROM kb.intentions ORDER BY 2"
        )
        self._times: dict[int, list[float]] = defaultdict(list)
        for partition, at in rows:
            self._times[partition].append(at)
        self._all = sorted(at for times in self._times.values() for at in times)

    def any(self, fault: Fault) -> float | None:
        """Seconds from the fault's end to the next row; None where there is none."""
        return _after(self._all, fault.ended)

    def every(self, fault: Fault) -> float | None:
        """Seconds from the fault's end until every partition has had a row; None where one never has."""
        found = [_after(times, fault.ended) for times in self._times.values()]
        known = [one for one in found if one is not None]
        return max(known) if known and len(known) == len(found) else None


def _after(times: Sequence[float], at: float) -> float | None:
    index = bisect_right(times, at)
    return times[index] - at if index < len(times) else None


def table(faults: Iterable[Fault], recoveries: Recoveries) -> str:
    """A row for every kind and target, and one for every kind."""
    groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.kind, "(all)"].append(fault)
        groups[fault.kind, fault.target].append(fault)
    head = ("fault", "of", "times", "next row: median", "worst", "every partition: median", "worst")
    rows = [head]
    for (kind, target), struck in sorted(groups.items()):
        if target == "(all)" and len({fault.target for fault in struck}) == 1:
            continue
        cells = [_seconds([found for fault in struck if (found := how(fault)) is not None])
                 for how in (recoveries.any, recoveries.every)]  # fmt: skip
        rows.append((kind, target, str(len(struck)), *cells[0], *cells[1]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _seconds(found: Sequence[float]) -> tuple[str, str]:
    return (f"{median(found):.1f} s", f"{max(found):.1f} s") if found else ("-", "-")
