"""Whose call is computed next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiting:
    job: str
    alone: bool
    begun: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """Up to `most` calls at once.

    Of the jobs that wait, the one with the fewest calls under way is next, or else the one whose last turn is longest
    ago: none keeps the others out. A call that is to be computed alone waits until nothing else is, and all others for
    it; between two such, one other has its turn.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[_Waiting] = []
        self._running: Counter[str] = Counter()
        #: The number of each job's last turn.
        self._turns: Counter[str] = Counter()
        self._count = 0
        #: Whether the call under way is computed alone, and whether the last one was.
        self._alone = self._was_alone = False

    @property
    def busy(self) -> bool:
        """Whether anybody has a turn."""
        return self._running.total() > 0

    @asynccontextmanager
    async def turn(self, job: str, alone: bool) -> AsyncIterator[None]:
        """Wait for the turn, and hold it."""
        place = _Waiting(job, alone)
        self._waiting.append(place)
        self._next()
        try:
            await place.begun
        except asyncio.CancelledError:
            if not place.begun.cancelled():
                self._end(place)
            self._next()
            raise
        try:
            yield
        finally:
            self._end(place)
            self._next()

    def _next(self) -> None:
        # A cancelled call may not have heard of it yet.
        self._waiting = [one for one in self._waiting if not one.begun.done()]
        while self._waiting and not self._alone and self._running.total() < self._most:
            place = self._choice()
            if place.alone and self._running.total():
                return
            self._waiting.remove(place)
            self._running[place.job] += 1
            self._count += 1
            self._turns[place.job] = self._count
            self._alone = self._was_alone = place.alone
            place.begun.set_result(None)

    def _choice(self) -> _Waiting:
        alone, others = ([one for one in self._waiting if one.alone is kind] for kind in (True, False))
        if alone and not (self._was_alone and others):
            return alone[0]
        return min(others, key=lambda one: (self._running[one.job], self._turns[one.job]))

    def _end(self, place: _Waiting) -> None:
        self._running[place.job] -= 1
        if place.alone:
            self._alone = False
