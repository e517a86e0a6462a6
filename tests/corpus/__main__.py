"""`python -m tests.corpus`: every corpus against the real parts, and a table of each: kind, expected, seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.corpus.table import ROWS


def main() -> int:
    """Run the corpora; pytest's exit code."""
    code = pytest.main(["-q", str(Path(__file__).parent), *sys.argv[1:]])
    console = Console(width=160)
    for corpus, rows in sorted(ROWS.items()):
        table = Table("kind", "expected", "seen", title=f"{corpus}: {len(rows)} kinds")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
