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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import metrics, tracing
from services.common.current import CURRENT, Current
from services.common.dead_letters import cut, dead_letter
from services.common.errors import EventFault, Parked, ServerCrashed, TooLarge, WorldFault, one_line, reason_label
from services.common.logs import where
from services.common.records import ORIGIN, Output, Record, check_outputs, check_record, decimal
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.stage import Handler, Result, Stage
from services.common.runtime.window import Entry
from services.common.settings import Settings
from services.common.topics import is_retry, letter_max_bytes, retry_name

_log = logging.getLogger(__name__)

_PROBE_SECONDS = 2.0
#: Outcome of a record that is set aside; its reason follows.
_DEAD_LETTER = "dead_letter:"
#: When a parked record may be tried again, and when it was first parked; milliseconds since the epoch. Heeded on retry
#: topics only: on the others anyone may have written them.
NOT_BEFORE = "mindstream-not-before"
PARKED_SINCE = "mindstream-parked-since"
_LATEST_MS = 2**53
#: How far the clocks of two workers may be apart.
_CLOCKS_APART_MS = 60_000


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
        #: Why what the handlers call would not answer, when last asked; empty where it would.
        self.trouble = "" if stage.trouble is None else "not asked yet"
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

    def refused(self, entry: Entry, error: TooLarge | EventFault) -> None:
        """Put a dead letter in place of a result that Kafka or the database does not take; of a dead letter, one
        without the event.
        """
        result, record = entry.result, entry.record
        assert result is not None, "it was to be committed"
        if result.outcome.startswith(_DEAD_LETTER):
            entry.result = replace(result, outputs=[cut(letter, 0) for letter in result.outputs])
        else:
            token = CURRENT.set(Current(record.idempotency_key, entry.traceparent))
            entry.result = self._dead_letter(record, error.reason, error, 1)
            CURRENT.reset(token)

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
        if self._stage.trouble:
            self._tasks.append(self._loop.create_task(self._probe(self._stage.trouble)))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._stage.stop:
            await self._stage.stop()

    async def _probe(self, ask: Callable[[], Awaitable[str]]) -> None:
        # Of a name with several addresses the troubles take turns: each is logged once.
        said: deque[str] = deque(maxlen=10)
        while True:
            try:
                found = await ask()
            except Exception as bug:
                _log.exception("%s cannot tell whether it is ready", self._stage.name)
                found = one_line(bug)
            if not found:
                said.clear()
            elif found not in said:
                said.append(found)
                _log.warning("%s is not ready: %s", self._stage.name, found)
            self.trouble = found
            await asyncio.sleep(_PROBE_SECONDS)

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
            try:
                with tracing.processing(self._stage.name, entry.record) as span:
                    entry.traceparent = span.traceparent
                    result = await self._handle(entry)
                    span.says("mindstream.outcome", result.outcome if result else "lost")
            except Exception as bug:
                # Of setting it aside, then: whatever it was, this task and the partition go on.
                _log.error("%s failed on %s/%d: %s", self._stage.name, entry.partition, entry.record.offset, where(bug))
                plain = replace(entry.record, headers=[])
                result = self._dead_letter(plain, reasons.DEAD_LETTER_REASON_INTERNAL, bug, 1)
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
                check_record(record, self._settings.event_max_bytes)
                handler = self._handlers[record.topic]
                result = await (self._handle_alone(handler, record) if crashes else handler(record))
                check_outputs(result.outputs, self._settings.event_max_bytes)
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
                _log.error("%s failed on %s: %s", self._stage.name, record.idempotency_key, where(bug))
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

    def _dead_letter(
        self, record: Record, reason: reasons.DeadLetterReason.ValueType, error: Exception, attempts: int
    ) -> Result:
        line, kind, room = one_line(error), type(error).__name__, letter_max_bytes(self._settings)
        # Why stands in the letter (mindstream dlq): it may quote the event.
        _log.warning("dead letter %s (%s)", record.idempotency_key, reason_label(reason))
        _log.debug("dead letter %s: %s", record.idempotency_key, line)
        letter = dead_letter(record, self._stage.name, reason, line, error_class=kind, attempts=attempts, room=room)
        return Result(outputs=[letter], outcome=f"{_DEAD_LETTER}{reason_label(reason)}")

    def _park(self, record: Record, parked: Parked, attempts: int) -> Result:
        now = int(time.time() * 1000)
        said = decimal(record.text_header(PARKED_SINCE), _LATEST_MS) if is_retry(record.topic) else None
        since = now if said is None else min(said, now)
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


def not_before(record: Record, now: int, settings: Settings) -> int:
    """When the record may be tried, milliseconds since the epoch; 0 for one that is not parked."""
    if not is_retry(record.topic):
        return 0
    at = decimal(record.text_header(NOT_BEFORE), _LATEST_MS) or 0
    # Further off than any wait of ours: a setting that was changed, or not written by us.
    return at if at <= now + settings.park_seconds * 1000 + _CLOCKS_APART_MS else 0
