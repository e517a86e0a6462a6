"""Members of a stage's group that come and go: real workers, each in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from services.common.runtime.stage import Committer, Stage
from services.common.runtime.worker import Worker
from services.common.settings import Settings
from services.extractor.handler import Extractor
from services.filter.handler import Filter
from services.generator.handler import Generator
from services.kb_sink.__main__ import stage as kb_sink
from services.kb_sink.committer import PostgresCommitter

_STAGES: dict[str, Callable[[Settings], Stage]] = {
    "extractor": lambda settings: Extractor(settings).stage(),
    "generator": lambda settings: Generator(settings).stage(),
    "filter": lambda settings: Filter(settings).stage(),
    "kb_sink": kb_sink,
}


class Members:
    """Workers in the order in which they came."""

    def __init__(self, stage: str, settings: Settings) -> None:
        self._stage, self._settings = stage, settings
        self._slots = count()
        self._here: deque[tuple[Worker, threading.Thread]] = deque()
        self._left: list[threading.Thread] = []

    def change(self) -> None:
        """One comes while fewer than two are there; else the first one leaves."""
        if len(self._here) < 2:
            settings = self._settings.model_copy(update={"slot": f"storm-{next(self._slots)}", "drain_seconds": 2.0})
            committer: Committer | None = PostgresCommitter(settings) if self._stage == "kb_sink" else None
            worker = Worker(_STAGES[self._stage](settings), settings, committer)
            thread = threading.Thread(target=worker.run, name=settings.slot, daemon=True)
            thread.start()
            self._here.append((worker, thread))
        else:
            worker, thread = self._here.popleft()
            worker.stop()
            self._left.append(thread)

    def leave(self) -> None:
        """All leave."""
        while self._here:
            worker, thread = self._here.popleft()
            worker.stop()
            self._left.append(thread)
        for thread in self._left:
            thread.join(60)
            assert not thread.is_alive(), "a worker does not leave"


@contextmanager
def members(stage: str, settings: Settings) -> Iterator[Members]:
    """Nobody at first, and nobody at the end."""
    made = Members(stage, settings)
    try:
        yield made
    finally:
        made.leave()
