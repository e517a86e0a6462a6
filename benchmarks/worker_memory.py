"""Memory of a stage worker: flat over many records, and bounded by its window with large ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
from confluent_kafka import TopicPartition

from benchmarks.parts import Parts, fill
from benchmarks.rows import Row
from services.common import kafka, topics
from services.common.settings import Settings

_LARGE_BYTES, _LARGE_RECORDS = 1_000_000, 400
#: Beside the window itself, librdkafka fetches ahead (a quarter of the window and a fetch of each partition), and a
#: record stands in memory twice while it is handed from C to Python.
_BOUND = 3.0


@contextmanager
def _worker(settings: Settings, *arguments: str) -> Iterator[psutil.Process]:
    env = {
        **os.environ,
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "MINDSTREAM_WINDOW_BYTES": str(settings.window_bytes),
        "MINDSTREAM_SLOT": "0",
        "MINDSTREAM_HTTP_HOST": "127.0.0.1",
        "MINDSTREAM_HTTP_PORT": "0",
        "MINDSTREAM_DRAIN_SECONDS": "0",
        "MINDSTREAM_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.null_worker", *arguments], env=env)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _wait(condition: Callable[[], bool], process: psutil.Process) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("the worker did not do its work")
        time.sleep(0.1)


def _committed(settings: Settings) -> Callable[[], int]:
    consumer = kafka.reader(settings, topics.group_id(settings, "extractor"))
    name = topics.COBUYS.name(settings)
    places = [TopicPartition(name, partition) for partition in range(settings.topic_partitions)]
    return lambda: sum(max(0, place.offset) for place in kafka.committed(consumer, places))


def _flat(parts: Parts) -> Row:
    records = 40_000 if parts.quick else 100_000
    settings = parts.settings()
    committed = _committed(settings)
    fill(settings, records, 1000)
    with _worker(settings) as process:
        _wait(lambda: committed() >= records // 5, process)
        early = process.memory_info().rss
        _wait(lambda: committed() >= records, process)
        late = process.memory_info().rss
    growth = late / early - 1
    measured = (
        f"{growth:+.1%} from record {records // 5:,} ({early / 2**20:.0f} MiB) to {records:,} ({late / 2**20:.0f} MiB)"
    )
    return Row(
        "pipeline.worker_memory_flat",
        "grows by at most 10 % over the last 80 % of the records",
        measured,
        growth <= 0.1,
    )


def _bounded(parts: Parts) -> Row:
    settings = parts.settings()
    with _worker(settings, "--never") as process:
        _wait(lambda: _settled(process), process)
        idle = process.memory_info().rss
        fill(settings, _LARGE_RECORDS, _LARGE_BYTES)
        _wait(lambda: process.memory_info().rss - idle > settings.window_bytes, process)
        _wait(lambda: _settled(process), process)
        full = process.memory_info().rss
    share = (full - idle) / settings.window_bytes
    measured = (
        f"{share:.2f} windows of {settings.window_bytes / 2**20:.0f} MiB over idle, with {_LARGE_RECORDS} MB waiting"
    )
    goal = f"at most {_BOUND:.0f} windows over the idle worker, with 1 MB records and a model that never answers"
    return Row("pipeline.worker_memory_bounded", goal, measured, share <= _BOUND)


def _settled(process: psutil.Process) -> bool:
    """Whether memory has stayed where it was for two seconds."""
    before = process.memory_info().rss
    time.sleep(2)
    return abs(process.memory_info().rss - before) < 2**20


def measure(parts: Parts) -> list[Row]:
    """Both."""
    return [_flat(parts), _bounded(parts)]
