"""What metrics cost the stage runtime: all of them counted and scraped every second, against none of either.

In one run of the null model, in turns of a second, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer
from prometheus_client.metrics import Counter, Gauge, Histogram, MetricWrapperBase

from benchmarks.null_worker import stage
from benchmarks.parts import Parts, fill
from benchmarks.rows import Row
from services.common import health
from services.common.runtime.stage import Finished, Partition
from services.common.runtime.transactions import KafkaCommitter
from services.common.runtime.worker import Worker
from services.common.settings import Settings

_VALUE_BYTES, _TURN_SECONDS = 1000, 1.0
#: At its start a worker joins its group, and everything is read for the first time.
_WARM_SECONDS = 3.0


class _Counting(KafkaCommitter):
    """The runtime's own committer, which also counts what is committed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "extractor", lambda: True)
        self.records = 0

    def commit(self, batch: Sequence[Finished], offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """Commit and count."""
        super().commit(batch, offsets, consumer)
        self.records += len(batch)


class _Nothing:
    """A metric that counts nothing."""

    def inc(self, *_: object) -> None: ...

    dec = set = observe = set_to_current_time = remove = inc

    def time(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    track_inprogress = time


_METHODS = {
    MetricWrapperBase: ("labels", "remove"),
    Counter: ("inc",),
    Gauge: ("inc", "dec", "set", "set_to_current_time", "track_inprogress"),
    Histogram: ("observe", "time"),
}
_ORIGINAL: dict[tuple[Any, str], Any] = {
    (kind, name): getattr(kind, name) for kind, names in _METHODS.items() for name in names
}


def _count_nothing() -> None:
    nothing = _Nothing()
    for kind, names in _METHODS.items():
        for name in names:
            empty = getattr(nothing, name, None)
            # Called on a metric itself, or, through `labels`, on this one.
            setattr(kind, name, (lambda *_: nothing) if name == "labels" else (lambda *_, empty=empty: empty()))


def _count() -> None:
    for (kind, name), method in _ORIGINAL.items():
        setattr(kind, name, method)


@contextlib.contextmanager
def _working(settings: Settings, committer: _Counting) -> Iterator[int]:
    """A worker as a thread, and the port of its metrics."""
    worker = Worker(stage(settings), settings, committer)
    port = health.serve(settings, worker.health)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield port
    finally:
        _count()
        worker.stop()
        thread.join()


def measure(parts: Parts) -> list[Row]:
    """Records per second with metrics and without, in turns whose order is drawn anew for each two."""
    pairs = 8 if parts.quick else 30
    settings = parts.settings()
    # More than a worker can do in the time.
    fill(settings, int((2 * pairs * _TURN_SECONDS + _WARM_SECONDS) * 40_000), _VALUE_BYTES)
    committer, draw = _Counting(settings), random.Random(1)
    seconds, records = {True: 0.0, False: 0.0}, {True: 0, False: 0}
    with _working(settings, committer) as port:
        deadline = time.monotonic() + 60
        while not committer.records:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker does not begin")
            time.sleep(0.01)
        time.sleep(_WARM_SECONDS)
        for _ in range(pairs):
            turns = [True, False]
            draw.shuffle(turns)
            for counted in turns:
                (_count if counted else _count_nothing)()
                began, before = time.monotonic(), committer.records
                if counted:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                        answer.read()
                time.sleep(max(0.0, began + _TURN_SECONDS - time.monotonic()))
                seconds[counted] += time.monotonic() - began
                records[counted] += committer.records - before
    rates = {counted: records[counted] / seconds[counted] for counted in (True, False)}
    cost = 1 - rates[True] / rates[False]
    measured = f"{cost:+.1%} ({rates[True]:,.0f} against {rates[False]:,.0f} records/s, {2 * pairs} turns)"
    return [Row("pipeline.metrics_cost", "at most 2% of a null model's records/s", measured, cost <= 0.02)]
