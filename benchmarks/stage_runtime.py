"""The stage runtime with a null model against a bare librdkafka transactional consume-produce loop."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import islice

from confluent_kafka import Consumer, Producer

from benchmarks.null_worker import stage
from benchmarks.parts import Parts, fill
from benchmarks.rows import Row
from services.common import kafka, topics
from services.common.runtime.stage import Finished, Partition
from services.common.runtime.transactions import KafkaCommitter
from services.common.runtime.worker import Worker
from services.common.settings import Settings

_VALUE_BYTES, _BATCH = 1000, 500


class _Counting(KafkaCommitter):
    """The runtime's own committer, which also says when all records are committed."""

    def __init__(self, settings: Settings, records: int) -> None:
        super().__init__(settings, "extractor", lambda: True)
        self._left = records
        self.first = self.last = 0.0
        self.done = threading.Event()

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Called when partitions come: work begins here."""
        self.first = self.first or time.monotonic()
        return super().positions(partitions)

    def commit(self, batch: Sequence[Finished], offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """Commit and count."""
        super().commit(batch, offsets, consumer)
        self._left -= len(batch)
        if self._left <= 0:
            self.last = time.monotonic()
            self.done.set()


def _runtime(parts: Parts, records: int) -> float:
    """Records per second of the worker."""
    settings = parts.settings()
    fill(settings, records, _VALUE_BYTES)
    committer = _Counting(settings, records)
    worker = Worker(stage(settings), settings, committer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    if not committer.done.wait(300):
        raise RuntimeError("the worker did not finish")
    worker.stop()
    thread.join()
    return records / (committer.last - committer.first)


def _bare(parts: Parts, records: int) -> float:
    """Records per second of the shortest loop that is as safe against kills."""
    settings = parts.settings()
    fill(settings, records, _VALUE_BYTES)
    began: list[float] = []
    consumer = kafka.reader(settings, "bare")
    producer = Producer(kafka.producer_config(settings, **{"transactional.id": "bare", "linger.ms": 1}))
    producer.init_transactions(30)
    consumer.subscribe([topics.COBUYS.name(settings)], on_assign=lambda *_: began.append(time.monotonic()))
    name, left = topics.FEATURED.name(settings), records
    while left > 0:
        messages = consumer.consume(_BATCH, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(name, message.value(), message.key())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        left -= len(messages)
    taken = time.monotonic() - began[0]
    consumer.close()
    return records / taken


def measure(parts: Parts) -> list[Row]:
    """Alternating rounds; the median of the rounds' ratios."""
    records, rounds = (20_000, 3) if parts.quick else (60_000, 5)
    _runtime(parts, 2_000)
    pairs = [(_runtime(parts, records), _bare(parts, records)) for _ in range(rounds)]
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    rates = [statistics.median(side) for side in zip(*islice(pairs, rounds), strict=True)]
    measured = f"{ratio:.2f} ({rates[0]:,.0f} against {rates[1]:,.0f} records/s)"
    return [
        Row("pipeline.stage_runtime", "at least 0.50 of a bare transactional loop's records/s", measured, ratio >= 0.5)
    ]
