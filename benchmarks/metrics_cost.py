"""What metrics cost the stage runtime: all of them counted and scraped every second, against none of either.

In one run of the null model, in turns of a second, so that whatever else the machine does meets both alike. What
scrapes is another process, as Prometheus is.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import sys
import threading
import time
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
#: Records a second that are enough for any machine; all of them lie there before the first turn.
_MOST_RECORDS = 25_000
#: Scrapes once for every line that it is sent.
_SCRAPER = "import sys, urllib.request as r\nfor _ in sys.stdin: r.urlopen(sys.argv[1]).read()"


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
def _working(settings: Settings, committer: _Counting) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a thread, and who scrapes it."""
    worker = Worker(stage(settings), settings, committer)
    port = health.serve(settings, worker.health)
    thread = threading.Thread(target=worker.run)
    thread.start()
    command = [sys.executable, "-c", _SCRAPER, f"http://127.0.0.1:{port}/metrics"]
    scraper = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    try:
        yield scraper
    finally:
        scraper.kill()
        scraper.wait()
        _count()
        worker.stop()
        thread.join()


def measure(parts: Parts) -> list[Row]:
    """Processor time a record, with metrics and without, in turns whose order is drawn anew for each two.

    Of the processor, since a worker's rate is bound by it, and since it does not count what else the machine does.
    """
    pairs = 8 if parts.quick else 24
    settings = parts.settings()
    total = int((2 * pairs * _TURN_SECONDS + _WARM_SECONDS) * _MOST_RECORDS)
    fill(settings, total, _VALUE_BYTES)
    committer, draw = _Counting(settings), random.Random(1)
    #: Of every turn, with metrics (True) and without: processor time a record, microseconds, and records per second.
    each, rates = ({True: list[float](), False: list[float]()} for _ in range(2))
    with _working(settings, committer) as scraper:
        assert scraper.stdin is not None
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
                began, before, used = time.monotonic(), committer.records, time.process_time()
                if counted:
                    scraper.stdin.write(b"\n")
                time.sleep(_TURN_SECONDS)
                used, records = time.process_time() - used, committer.records - before
                each[counted].append(1e6 * used / records)
                rates[counted].append(records / (time.monotonic() - began))
    if committer.records >= total:
        raise RuntimeError("the worker has done all before the last turn: _MOST_RECORDS is too small for this machine")
    cost, slower = _median_of_pairs(each), -_median_of_pairs(rates)
    measured = (
        f"{cost:+.1%} ({statistics.median(each[True]):.1f} against {statistics.median(each[False]):.1f} µs a record; "
        f"{slower:+.1%} time by the clock; medians of {pairs} pairs of turns)"
    )
    goal = "at most 2% of a null model's processor time a record"
    return [Row("pipeline.metrics_cost", goal, measured, cost <= 0.02)]


def _median_of_pairs(found: Mapping[bool, Sequence[float]]) -> float:
    """How much more it is with metrics than without in the turn beside it."""
    return statistics.median(on / off for on, off in zip(found[True], found[False], strict=True)) - 1
