"""How far a long command is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two words of it: on a terminal, and where lines are kept.
_EVERY_TERMINAL, _EVERY_LINE = 0.2, 10.0


@contextmanager
def shown() -> Iterator[Callable[[str], None]]:
    """Says now and then how far it is: on a terminal in one line, which goes when all is done."""
    terminal = sys.stderr.isatty()
    every, begin, end = (_EVERY_TERMINAL, "\r\x1b[K", "") if terminal else (_EVERY_LINE, "", "\n")
    last = time.monotonic()

    def show(line: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= every:
            last = now
            print(begin + line, file=sys.stderr, end=end, flush=True)

    try:
        yield show
    finally:
        if terminal:
            print(begin, file=sys.stderr, end="", flush=True)
