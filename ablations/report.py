"""What an ablation found: tables as Markdown and JSON, and a plot; the same bytes for the same seed and checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.intervals import Estimate

#: A cell: text, a count, a share, or a share with its interval.
Cell = str | int | float | Estimate
Row = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Rows of the same columns, and what they are."""

    title: str
    rows: list[Row]

    def markdown(self) -> str:
        """A table of GitHub's Markdown under its title."""
        columns = list(self.rows[0])
        lines = [f"{self.title}:", "", f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
        lines += [f"| {' | '.join(_shown(row[name]) for name in columns)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Report:
    """An ablation's findings. `draw` plots them on a matplotlib figure of `size` inches."""

    name: str
    tables: list[Table]
    draw: Callable[[Any], None]
    size: tuple[float, float] = (7, 4)

    def markdown(self, run: str) -> str:
        """All tables; `run` says how they were made."""
        return "\n".join([f"{run}\n", *(table.markdown() for table in self.tables)])

    def write(self, folder: Path, run: dict[str, Any]) -> None:
        """NAME.json and NAME.png; `run` is what the figures depend on."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            table.title: [{name: _plain(cell) for name, cell in row.items()} for row in table.rows]
            for table in self.tables
        }
        written = {"ablation": self.name, **run, "tables": tables}
        (folder / f"{self.name}.json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")
        figure = pyplot.figure(figsize=self.size, layout="constrained")
        self.draw(figure)
        # Without the program's version: the same figures are the same file.
        figure.savefig(folder / f"{self.name}.png", dpi=100, metadata={"Software": None})
        pyplot.close(figure)


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _plain(cell: Cell) -> Any:
    """For JSON; the last digits, in which processors differ, are left out."""
    if isinstance(cell, Estimate):
        return {name: _plain(getattr(cell, name)) for name in ("value", "low", "high")}
    if isinstance(cell, float):
        return None if math.isnan(cell) else round(cell, 4)
    return cell
