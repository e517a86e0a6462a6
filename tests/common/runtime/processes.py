"""Workers on Kafka in memory, each as a process would be: it can be killed at any of its producer's calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import topics
from services.common.errors import EventFault, Parked
from services.common.records import Output, Record
from services.common.runtime.dispatch import Dispatcher
from services.common.runtime.routes import handlers
from services.common.runtime.stage import Fenced, Result, Route, Stage
from services.common.runtime.transactions import KafkaCommitter
from services.common.runtime.worker import Worker
from services.common.settings import Settings
from tests.common.runtime.memory import Broker, MemoryConsumer, MemoryProducer

SETTINGS = Settings(
    concurrency=3, window_records=6, commit_interval_seconds=0.01, park_seconds=3.0, drain_seconds=1.0,
    backoff_min_seconds=0.01, backoff_max_seconds=0.02,
)  # fmt: skip
IN, OUT = topics.COBUYS.base, topics.FEATURED.base
RETRY, DLQ = topics.retry_name(IN, "extractor"), topics.dlq_name(IN, "extractor")
FROM = "from"


class Killed(BaseException):
    """SIGKILL: nothing of the process goes on."""


class Clock:
    """In place of the module `time`."""

    now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Process:
    """One worker with its model, which answers when it is told to."""

    def __init__(self, broker: Broker, clock: Clock, slot: str) -> None:
        self.slot = slot
        self.consumer = MemoryConsumer(broker, clock.pass_by)
        #: How many of which calls go well before a fault strikes, and what it does.
        self.fault: tuple[int, tuple[str, ...], Callable[[], Callable[[], None] | None]] | None = None
        self._asked: list[asyncio.Event] = []
        stage = Stage("extractor", [Route(topics.COBUYS, self._handle)])
        self._dispatcher = Dispatcher(stage, handlers(stage, SETTINGS), SETTINGS)
        name = f"extractor.{slot}"
        committer = KafkaCommitter(
            SETTINGS,
            "extractor",
            lambda: self.worker._heartbeat(),
            lambda _: MemoryProducer(broker, name, self._strike, lambda topic, key: 0 if topic == DLQ else int(key)),  # type: ignore[arg-type, return-value]
        )
        self.worker = Worker(stage, SETTINGS, committer, self._dispatcher)
        self._dispatcher.start()
        self.worker.join(self.consumer)  # type: ignore[arg-type]

    def _strike(self, what: str) -> Callable[[], None] | None:
        if self.fault is None:
            return None
        left, calls, fault = self.fault
        if what not in calls:
            return None
        self.fault = (left - 1, calls, fault) if left else None
        return None if left else fault()

    async def _handle(self, record: Record) -> Result:
        answer = asyncio.Event()
        self._asked.append(answer)
        await answer.wait()
        event = json.loads(record.value)
        if event["mode"] == "poison":
            raise EventFault(reasons.DEAD_LETTER_REASON_INVALID, "poison")
        if event["mode"] == "park" and record.topic == IN:
            raise Parked(reasons.DEAD_LETTER_REASON_UNKNOWN_PRODUCT, "not yet")
        place = f"{record.topic}/{record.partition}/{record.offset}"
        return Result([Output(OUT, record.key or b"", record.value, [(FROM, place.encode())])])

    def answer(self, which: int | None = None) -> None:
        """The model answers one call, or all that it was asked."""
        chosen = self._asked[:] if which is None else self._asked[which % max(1, len(self._asked)) :][:1]
        for one in chosen:
            self._asked.remove(one)
            self._dispatcher._loop.call_soon_threadsafe(one.set)
        self._settle()

    def _settle(self) -> None:
        """Wait until the handlers have nothing more to do without an answer."""

        async def settled() -> None:
            for _ in range(8):  # A record given, a handler woken, its call; or an answer, a result, the next record.
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(settled(), self._dispatcher._loop).result(10)

    def step(self) -> bool:
        """As the worker's own loop does; False when it has ended."""
        try:
            self.worker.step(self.consumer)  # type: ignore[arg-type]
        except Fenced:
            self.leave()
            return False
        self._settle()
        return True

    def drain(self) -> bool:
        """As the worker's own end does."""
        self.worker.stop()
        with contextlib.suppress(Fenced):
            self.worker.drain(self.consumer)  # type: ignore[arg-type]
        self.leave()
        return False

    def leave(self) -> None:
        self.worker.close(self.consumer)  # type: ignore[arg-type]

    def kill(self) -> None:
        """Its handlers' thread is ours to end; of what it held with Kafka nothing is told to anyone."""
        self._dispatcher.stop()
