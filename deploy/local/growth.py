"""Says how far something is that reports nothing itself: by the bytes that come into its folder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SECONDS = 10.0
#: Takes one line for the person who waits.
Say = Callable[[str], None]


@contextmanager
def told(name: str, folder: Path | None, say: Say, seconds: float = _SECONDS) -> Iterator[None]:
    """While the block runs, say every few seconds that `name` downloads so much, or how long it has taken."""
    done, began, first = threading.Event(), time.monotonic(), _bytes(folder)

    def watch() -> None:
        before = first
        while not done.wait(seconds):
            now = _bytes(folder)
            if now > before:
                say(f"{name}: downloading, {(now - first) / 1e6:,.0f} MB so far")
            else:
                say(f"{name}: still starting after {time.monotonic() - began:.0f} s")
            before = now

    watcher = threading.Thread(target=watch, name=f"watch {name}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _bytes(folder: Path | None) -> int:
    """Bytes on disk below a folder."""
    total = 0
    for parent, _, names in os.walk(folder) if folder is not None else ():
        for name in names:
            with suppress(OSError):  # Files come and go meanwhile.
                # Blocks, not length: a file that is made at its full length is filled later.
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total
