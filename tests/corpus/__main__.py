"""`python -m tests.corpus`: every corpus against the real parts, and a table of each: kind, expected, seen.

`--page docs/corpora.md` writes them as a page too, where all went well; what follows is pytest's.
"""

from __future__ import annotations

import argparse
import sys
from html import escape
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from services.common.errors import printable
from tests.corpus.table import ROWS

_PAGE = """\
# The corpora

What is hostile, what each must come to, and what was seen: written by `python -m tests.corpus --page docs/corpora.md`,
which runs them against real Kafka, PostgreSQL, workers and servers on loopback. `make test` runs them all.
"""


def main() -> int:
    """Run the corpora; pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("--page", type=Path, help="a Markdown file to write")
    asked, others = parser.parse_known_args()
    code = pytest.main(["-q", str(Path(__file__).parent), *others])
    console = Console(width=160)
    for corpus, rows in sorted(ROWS.items()):
        table = Table("kind", "expected", "seen", title=f"{corpus}: {len(rows)} kinds")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if asked.page and not code:
        asked.page.write_text("\n".join([_PAGE, *(_markdown(*corpus) for corpus in sorted(ROWS.items()))]), "utf-8")
    return int(code)


def _markdown(corpus: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"## {corpus}: {len(rows)} kinds", "", "| kind | expected | seen |", "| --- | --- | --- |"]
    lines += [
        "| " + " | ".join(escape(printable(cell), quote=False).replace("|", "\\|") for cell in row) + " |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
