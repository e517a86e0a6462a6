"""Answers that cost much: each is asked for once, however many look, and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from services.common.errors import WorldFault

T = TypeVar("T")
#: An answer is asked for again after this many times as long as it took: whoever asks takes a small share of a server.
_REST = 20
#: And this soon, seconds, where none came.
_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What was found last, and why it was not found again."""

    found: T | None
    trouble: str = ""


class Kept(Generic[T]):
    """One answer for all who ask within some seconds; nobody waits for it long."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        seconds: float,
        first: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`first` is what is told before there is any answer."""
        self._ask, self._seconds, self._clock = ask, seconds, clock
        self._asking: asyncio.Task[None] | None = None
        self._until = float("-inf")
        self._answer: Answer[T] = Answer(None, first)

    async def get(self, wait: float) -> Answer[T]:
        """The answer, after `wait` seconds at the latest: then it is the one before."""
        if self._asking is None and self._clock() >= self._until:
            self._asking = asyncio.create_task(self._answered())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=wait)
        return self._answer

    async def _answered(self) -> None:
        began, rest = self._clock(), _AGAIN_SECONDS
        try:
            self._answer = Answer(await self._ask())
            rest = max(self._seconds, _REST * (self._clock() - began))
        except WorldFault as fault:
            self._answer = replace(self._answer, trouble=str(fault))
        finally:
            self._until = self._clock() + rest
            self._asking = None
