"""What is computed for one key, for all calls that ask for it, and the engine as it sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.common import metrics
from services.lvlm.batcher import Batcher
from services.lvlm.engine import Branch, Completion, Engine, Prefix, Run, SteppedEngine, Usage

#: Branches of one request that are computed together: what stands behind a prefix is read in one piece.
_MOST_BRANCHES = 64


class Dropped(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class Computation:
    """One computation, shared by all calls with its key."""

    #: Seconds that it goes on when nobody waits for it.
    grace: float
    #: Set when its turn has come.
    started: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when a caller was told so, or all are gone.
    announced: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when nobody waits any more, and since when; read by the engine's thread between two steps.
    dropped: threading.Event = field(default_factory=threading.Event)
    since: float = 0.0
    #: Whether the engine's thread has heeded that.
    stopped: bool = False
    waiting: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self) -> bool:
        """Whether one more caller can wait for it.

        One that took longer than its caller waited goes on for the next try: begun anew, it would never be done.
        """
        with self._lock:
            if self.stopped or (self.dropped.is_set() and not self.started.is_set()):
                return False
            self.dropped.clear()
            return True

    def drop(self) -> None:
        """The last caller is gone."""
        with self._lock:
            self.since = time.monotonic()
            self.dropped.set()

    def go_on(self) -> None:
        """Called by the engine's thread between two steps.

        Raises:
            Dropped: nobody has waited for too long.
        """
        with self._lock:
            self.stopped = self.dropped.is_set() and time.monotonic() - self.since >= self.grace
        if self.stopped:
            raise Dropped


class Asked(Protocol):
    """The engine as a call's work sees it; see Engine."""

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""


class Direct:
    """An engine that computes each request by itself."""

    def __init__(self, engine: Engine, job: str, computation: Computation) -> None:
        self._engine, self._job, self._computation = engine, job, computation

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        self._next(branches)
        return self._engine.complete(prefix, branches, max_new_tokens)

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        self._next(branches)
        return self._engine.score(prefix, branches)

    def _next(self, branches: Sequence[Branch]) -> None:
        self._computation.go_on()
        metrics.SERVER_BATCH.labels(self._job).observe(len(branches))


class Beside:
    """An engine that computes requests beside others; of many branches, some after the other."""

    def __init__(self, engine: SteppedEngine, batcher: Batcher, job: str, computation: Computation) -> None:
        self._engine, self._batcher, self._job, self._computation = engine, batcher, job, computation

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        runs = self._runs(prefix, branches, max_new_tokens)
        return [said for run in runs for said in run.completions], _sum(runs)

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        runs = self._runs(prefix, branches, 0)
        return [score for run in runs for score in run.scores], _sum(runs)

    def _runs(self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int) -> list[Run]:
        runs = []
        for start in range(0, len(branches), _MOST_BRANCHES):
            some = branches[start : start + _MOST_BRANCHES]
            metrics.SERVER_BATCH.labels(self._job).observe(len(some))
            run: Run = self._engine.begin(prefix, some, max_new_tokens)
            self._batcher.compute(run, self._computation.go_on)
            runs.append(run)
        return runs


def _sum(runs: Sequence[Run]) -> Usage:
    return Usage(sum(run.usage.prompt_tokens for run in runs), sum(run.usage.generated_tokens for run in runs))
