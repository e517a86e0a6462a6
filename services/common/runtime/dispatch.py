"""Runs the handlers: an event loop in a thread of its own, with as many workers as calls may be in flight.

Records of a partition may finish out of order; the window puts them back in order. What a record raises decides what
becomes of it: see services/common/errors.py.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import metrics
from services.common.dead_letters import dead_letter
from services.common.errors import EventFault, Parked, ServerCrashed, WorldFault, reason_label
from services.common.records import ORIGIN, Output, Record
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.stage import Handler, Result, Stage
from services.common.runtime.window import Entry
from services.common.settings import Settings
from services.common.topics import retry_name

_log = logging.getLogger(__name__)

#: When a parked record may be tried again, and when it was first parked; milliseconds since the epoch.
NOT_BEFORE = "mindstream-not-before"
PARKED_SINCE = "mindstream-parked-since"


class Dispatcher:
    """Feeds entries to handlers and sets their results. Entries come from one thread; results may be read by it."""

    def __init__(self, stage: Stage, handlers: Mapping[str, Handler], settings: Settings) -> None:
        self._stage = stage
        self._handlers = handlers
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="handlers", daemon=True)
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._alone = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = 0
        #: Results set so far; grows only.
        self.finished = 0
        self._progress = threading.Event()

    @property
    def answering(self) -> bool:
        """False while a handler waits out something outside."""
        return self._waiting == 0

    def start(self) -> None:
        """Start the loop and the handlers' own preparations.

        Raises:
            Exception: whatever the stage's `start` raises.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def submit(self, entries: Sequence[Entry]) -> None:
        """Hand entries over; returns at once."""
        self._loop.call_soon_threadsafe(self._enqueue, entries)

    def wait_progress(self, seconds: float) -> None:
        """Wait until a result was set since the last call, `seconds` at the most."""
        self._progress.wait(seconds)
        self._progress.clear()

    def stop(self) -> None:
        """Cancel what is unfinished and end the loop."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _start(self) -> None:
        if self._stage.start:
            await self._stage.start()
        self._tasks = [self._loop.create_task(self._work()) for _ in range(self._settings.concurrency)]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stage.stop:
            await self._stage.stop()

    def _enqueue(self, entries: Sequence[Entry]) -> None:
        self._queue.extend(entries)
        self._wake.set()

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            entry = self._queue.popleft()
            if entry.dropped:
                continue
            result = await self._handle(entry)
            if result is not None:
                entry.result = result
                self.finished += 1
                self._progress.set()

    async def _handle(self, entry: Entry) -> Result | None:
        """The record's result; None when its partition was lost meanwhile."""
        record, attempts, crashes = entry.record, 0, 0
        while not entry.dropped:
            attempts += 1
            try:
                if len(record.value) > self._settings.event_max_bytes:
                    raise EventFault(
                        reasons.DEAD_LETTER_REASON_TOO_LARGE,
                        f"{len(record.value)} bytes; at most {self._settings.event_max_bytes}",
                    )
                handler = self._handlers[record.topic]
                result = await (self._handle_alone(handler, record) if crashes else handler(record))
                self._check_size(result)
                return result
            except EventFault as fault:
                return self._dead_letter(record, fault.reason, fault, attempts)
            except Parked as parked:
                return self._park(record, parked, attempts)
            except ServerCrashed as crash:
                # The first crash makes it a suspect; only those in which it ran alone count against it.
                crashes += 1
                if crashes > self._settings.crash_attempts:
                    return self._dead_letter(record, reasons.DEAD_LETTER_REASON_MODEL_CRASH, crash, attempts)
                await self._wait_out(crash, crashes, record)
            except WorldFault as fault:
                await self._wait_out(fault, attempts, record)
            except Exception as bug:
                _log.exception("%s failed on %s", self._stage.name, record.idempotency_key)
                return self._dead_letter(record, reasons.DEAD_LETTER_REASON_INTERNAL, bug, attempts)
        return None

    async def _handle_alone(self, handler: Handler, record: Record) -> Result:
        async with self._alone:
            token = ISOLATE.set(True)
            try:
                return await handler(record)
            finally:
                ISOLATE.reset(token)

    async def _wait_out(self, fault: WorldFault, attempt: int, record: Record) -> None:
        """Back off with jitter; the worker shows as not ready meanwhile."""
        top = min(self._settings.backoff_max_seconds, self._settings.backoff_min_seconds * 2 ** min(attempt - 1, 20))
        delay = top * random.uniform(0.5, 1.0)
        level = logging.WARNING if attempt in (1, 10, 100, 1000) else logging.DEBUG
        _log.log(level, "%s waits %.1f s (%s): %s", record.idempotency_key, delay, fault.kind, fault)
        metrics.WORLD_FAULTS.labels(self._stage.name, fault.kind).inc()
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1

    def _check_size(self, result: Result) -> None:
        limit = self._settings.event_max_bytes
        for output in result.outputs:
            if len(output.value) > limit:
                raise EventFault(
                    reasons.DEAD_LETTER_REASON_TOO_LARGE,
                    f"makes a record of {len(output.value)} bytes for {output.topic}; at most {limit}",
                )

    def _dead_letter(
        self, record: Record, reason: reasons.DeadLetterReason.ValueType, error: Exception, attempts: int
    ) -> Result:
        line = " ".join(str(error).split()) or type(error).__name__
        _log.warning("dead letter %s (%s): %s", record.idempotency_key, reason_label(reason), line)
        letter = dead_letter(
            record, self._stage.name, reason, line, error_class=type(error).__name__, attempts=attempts
        )
        return Result(outputs=[letter], outcome=f"dead_letter:{reason_label(reason)}")

    def _park(self, record: Record, parked: Parked, attempts: int) -> Result:
        now = int(time.time() * 1000)
        since_text = record.text_header(PARKED_SINCE)
        since = int(since_text) if since_text.isdecimal() else now
        if now - since >= self._settings.park_grace_seconds * 1000:
            return self._dead_letter(record, parked.reason, parked, attempts)
        source = record.source
        ours = {
            ORIGIN: f"{source.topic}/{source.partition}/{source.offset}",
            NOT_BEFORE: str(now + int(self._settings.park_seconds * 1000)),
            PARKED_SINCE: str(since),
        }
        headers = [(name, value) for name, value in record.headers if name.lower() not in ours]
        headers += [(name, value.encode()) for name, value in ours.items()]
        retry = Output(retry_name(source.topic, self._stage.name), record.key or b"", record.value, headers)
        return Result(outputs=[retry], outcome="parked")


def not_before(record: Record) -> int:
    """When the record may be tried, milliseconds since the epoch; 0 for one that was not parked."""
    # Called for every record: most have no such header, and for them nothing is built.
    text = next((value for name, value in record.headers if name == NOT_BEFORE), b"")
    return int(text) if text.isdigit() else 0
