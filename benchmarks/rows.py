"""What a measure gives, and on which machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

#: What was measured last, row by row.
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Row:
    """One figure with its goal."""

    name: str
    goal: str
    measured: str
    holds: bool


def table(rows: Iterable[Row]) -> None:
    """Print rows."""
    printed = Table("name", "goal", "measured", "holds")
    for row in rows:
        printed.add_row(row.name, row.goal, row.measured, "yes" if row.holds else "NO")
    Console().print(printed)


def machine() -> str:
    """Processor, cores, memory and Python: what a figure depends on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    """Its name, where Linux tells it, and the widest of its vectors that matters here."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        return platform.processor() or "unknown processor"
    known = {name.strip(): value.strip() for name, value in facts.items()}
    vectors = [name for name in ("avx512f", "avx2") if name in known.get("flags", "").split()]
    return " ".join([known.get("model name", platform.machine()), *vectors[:1]])


def record(rows: Iterable[tuple[Row, str]]) -> None:
    """Replace the rows that were measured now, each with its command, and keep the others."""
    new = {row.name: {**asdict(row), "command": command, "machine": machine()} for row, command in rows}
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    made = [row for row in kept if row["name"] not in new] + list(new.values())
    RESULTS.write_text(json.dumps(sorted(made, key=lambda row: row["name"]), indent=1) + "\n")
