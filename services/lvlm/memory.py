"""How the process gets its memory."""

from __future__ import annotations

import ctypes

#: glibc's name for the most arenas, malloc.h.
_M_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Let all threads take memory from the same two arenas of glibc; without glibc nothing changes.

    With arenas of its own each thread that computes keeps what large tensors leave behind: a server grew by a
    tenth over 2,000 calls (`python -m benchmarks --only engine.soak`), and took a third more to begin with.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
