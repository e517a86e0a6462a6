"""What a measure gives, and on which machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table


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
    """Cores, memory and Python: what a figure depends on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )
