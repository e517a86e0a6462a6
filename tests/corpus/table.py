"""What the corpora saw, for `python -m tests.corpus`."""

from __future__ import annotations

from collections import defaultdict

#: By corpus: kind, expected, seen.
ROWS: dict[str, list[tuple[str, str, str]]] = defaultdict(list)


def seen(corpus: str, kind: str, expected: str, found: str) -> None:
    """Note one case."""
    ROWS[corpus].append((kind, expected, found))
