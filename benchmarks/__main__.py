"""`python -m benchmarks [--quick] [--only NAME]`: measure, print, and write benchmarks/results.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

from rich.console import Console

from benchmarks import (
    engine,
    explorer,
    importing,
    metrics_cost,
    release,
    sink,
    soak,
    stage_runtime,
    start,
    worker_memory,
)
from benchmarks.parts import Parts, started
from benchmarks.rows import Row, record, table

#: Measured before Kafka and PostgreSQL are started: they would take a part of the processor.
ALONE: dict[str, Callable[[bool], list[Row]]] = {"engine": engine.measure, "engine.soak": soak.measure}
MEASURES: dict[str, Callable[[Parts], list[Row]]] = {
    "pipeline.stage_runtime": stage_runtime.measure,
    "pipeline.metrics_cost": metrics_cost.measure,
    "pipeline.sink": sink.measure,
    "pipeline.worker_memory": worker_memory.measure,
    "pipeline.start": start.measure,
    "release": release.measure,
    "explorer": explorer.measure,
    "cli.import": importing.measure,
}


def main() -> int:
    """Run what was asked for; 1 where a goal does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and records: minutes")
    parser.add_argument("--only", choices=[*ALONE, *MEASURES], help="one measure")
    asked = parser.parse_args()
    console, made = Console(), list[tuple[Row, str]]()

    def take(name: str, measure: Callable[[], list[Row]]) -> None:
        console.print(f"[dim]{name} ...[/dim]")
        command = f"python -m benchmarks --only {name}" + (" --quick" if asked.quick else "")
        made.extend((row, command) for row in measure())

    for name, alone in ALONE.items():
        if asked.only in (None, name):
            take(name, partial(alone, asked.quick))
    if asked.only not in ALONE:
        with started(asked.quick) as parts:
            for name, measure in MEASURES.items():
                if asked.only in (None, name):
                    take(name, partial(measure, parts))
    table(row for row, _ in made)
    record(made)
    return 0 if all(row.holds for row, _ in made) else 1


if __name__ == "__main__":
    sys.exit(main())
