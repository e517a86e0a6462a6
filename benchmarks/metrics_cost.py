"""What metrics cost the stage runtime: each counted twice and scraped twice a second, against each once.

Not against none: what stands in a method's place and does nothing is a call as well, so that it hides what it should
show. What comes on top when all is done twice is what it costs once, or a little more, for the calls around it. In one
run of the null model, in turns of a second, so that whatever else the machine does meets both alike. What scrapes is
another process, as Prometheus is.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


#: What is called for an event; a timer observes.
_METHODS = {
    MetricWrapperBase: ("labels",),
    Counter: ("inc",),
    Gauge: ("inc", "dec", "set"),
    Histogram: ("observe",),
}
_ONCE: dict[tuple[Any, str], Any] = {
    (kind, name): getattr(kind, name) for kind, names in _METHODS.items() for name in names
}


def _twice(method: Callable[..., Any]) -> Callable[..., Any]:
    def called(*given: Any) -> Any:
        method(*given)
        return method(*given)

    return called


_TWICE = {place: _twice(method) for place, method in _ONCE.items()}


def _count(methods: Mapping[tuple[Any, str], Any]) -> None:
    for (kind, name), method in methods.items():
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
        _count(_ONCE)
        worker.stop()
        thread.join()


def measure(parts: Parts) -> list[Row]:
    """Processor time a record, metrics twice and once, in turns whose order is drawn anew for each two.

    Of the processor, since a worker's rate is bound by it, and since it does not count what else the machine does.
    """
    pairs = 8 if parts.quick else 24
    settings = parts.settings()
    total = int((2 * pairs * _TURN_SECONDS + _WARM_SECONDS) * _MOST_RECORDS)
    fill(settings, total, _VALUE_BYTES)
    committer, draw = _Counting(settings), random.Random(1)
    #: Of every turn, metrics twice (True) and once: processor time a record, microseconds, and records per second.
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
            for twice in turns:
                _count(_TWICE if twice else _ONCE)
                began, before, used = time.monotonic(), committer.records, time.process_time()
                scraper.stdin.write(b"\n\n" if twice else b"\n")
                time.sleep(_TURN_SECONDS)
                used, records = time.process_time() - used, committer.records - before
                each[twice].append(1e6 * used / records)
                rates[twice].append(records / (time.monotonic() - began))
    if committer.records >= total:
        raise RuntimeError("the worker has done all before the last turn: _MOST_RECORDS is too small for this machine")
    cost, slower = _median_of_pairs(each), -_median_of_pairs(rates)
    measured = (
        f"{cost:+.1%} ({statistics.median(each[True]):.1f} against {statistics.median(each[False]):.1f} µs a record; "
        f"{slower:+.1%} time by the clock; medians of {pairs} pairs of turns, metrics twice and once)"
    )
    goal = "at most 2% of a null model's processor time a record"
    return [Row("pipeline.metrics_cost", goal, measured, cost <= 0.02)]


def _median_of_pairs(found: Mapping[bool, Sequence[float]]) -> float:
    """How much more it is with metrics twice than once in the turn beside it."""
    return statistics.median(twice / once for twice, once in zip(found[True], found[False], strict=True)) - 1
