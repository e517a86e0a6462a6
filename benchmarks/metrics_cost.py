"""What metrics cost the stage runtime: processor time within them, and within scrapes, of all that its process takes.

Each call is timed where it happens, in one run of the null model: rates with metrics and without differ less than two
runs, or two turns of a second, do anyway. The clock's own time counts as theirs. What scrapes, every second, is another
process, as Prometheus is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from socketserver import ThreadingMixIn
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

_VALUE_BYTES = 1000
#: At its start a worker joins its group, and everything is read for the first time.
_WARM_SECONDS = 3.0
#: Records a second that are enough for any machine; all of them lie there before it begins.
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


#: What is called for an event (a timer observes), and for a scrape.
_METHODS = {
    MetricWrapperBase: ("labels",),
    Counter: ("inc",),
    Gauge: ("inc", "dec", "set"),
    Histogram: ("observe",),
    ThreadingMixIn: ("process_request_thread",),
}


@dataclass
class _Spent:
    """Processor time, seconds, and how many calls took it."""

    seconds: float = 0.0
    calls: int = 0

    def timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, its time counted here."""

        def called(*given: Any) -> Any:
            began = time.thread_time()
            try:
                return method(*given)
            finally:
                # Other threads count as well, and seldom; what two of them lose of one call is nothing.
                self.seconds += time.thread_time() - began
                self.calls += 1

        return called


@contextlib.contextmanager
def _timed() -> Iterator[tuple[_Spent, _Spent]]:
    """What is spent within counting, and within scrapes, until the end."""
    counting, scraping = _Spent(), _Spent()
    originals = [(kind, name, getattr(kind, name)) for kind, names in _METHODS.items() for name in names]
    for kind, name, method in originals:
        setattr(kind, name, (scraping if kind is ThreadingMixIn else counting).timed(method))
    try:
        yield counting, scraping
    finally:
        for kind, name, method in originals:
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
        worker.stop()
        thread.join()


def measure(parts: Parts) -> list[Row]:
    """The share of the process' time. Records are there before; it is watched for some seconds."""
    seconds = 10 if parts.quick else 30
    settings = parts.settings()
    total = int((seconds + _WARM_SECONDS) * _MOST_RECORDS)
    fill(settings, total, _VALUE_BYTES)
    committer = _Counting(settings)
    with _working(settings, committer) as scraper:
        assert scraper.stdin is not None
        deadline = time.monotonic() + 60
        while not committer.records:
            if time.monotonic() > deadline:
                raise RuntimeError("the worker does not begin")
            time.sleep(0.01)
        time.sleep(_WARM_SECONDS)
        with _timed() as (counting, scraping):
            before, used = committer.records, time.process_time()
            for _ in range(seconds):
                scraper.stdin.write(b"\n")
                time.sleep(1)
            used, records = time.process_time() - used, committer.records - before
    if committer.records >= total:
        raise RuntimeError("the worker has done all before the end: _MOST_RECORDS is too small for this machine")
    cost = (counting.seconds + scraping.seconds) / used
    measured = (
        f"{cost:.2%} ({counting.seconds / used:.2%} in {counting.calls / records:.2f} calls a record, "
        f"{scraping.seconds / used:.2%} in {scraping.calls} scrapes, "
        f"{1e3 * scraping.seconds / scraping.calls:.1f} ms each; "
        f"{1e6 * used / records:.1f} µs a record, {seconds} s)"
    )
    goal = "at most 2% of a null model's processor time, scraped every second"
    return [Row("pipeline.metrics_cost", goal, measured, cost <= 0.02)]
