"""How far each consumer group is behind: the one question of "is it drained?" and of `mindstream status`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from services.common import kafka, topics
from services.common.settings import Settings

#: Longest wait for the first records.
_SECONDS = 15.0


@dataclass(frozen=True)
class Lag:
    """A group's lag in one topic: records, open transactions' too, and transaction markers between them."""

    group: str
    topic: str
    records: int


def lags(settings: Settings) -> list[Lag]:
    """Lag of every group in every topic it reads, upstream first.

    Data walks one way and a stage's offsets move with its output: when all of one such list is zero, everything that
    was written before it is in the KB, a dead letter, or was a duplicate.

    Raises:
        KafkaException: the broker does not answer.
    """
    present = kafka.existing_topics(settings)
    return [one for topic in topics.ALL for group in topic.readers for one in _lags(settings, topic, group, present)]


def lag(settings: Settings, topic: topics.Topic, group: str) -> int:
    """Records of one topic that wait for one group, parked ones among them.

    Raises:
        KafkaException: the broker does not answer.
    """
    return sum(one.records for one in _lags(settings, topic, group, kafka.existing_topics(settings)))


def _lags(settings: Settings, topic: topics.Topic, group: str, present: Mapping[str, int]) -> list[Lag]:
    name = topic.name(settings)
    read = [name, topics.retry_name(name, group)] if topic.parks else [name]
    admin = kafka.admin(settings)
    consumer = kafka.reader(
        settings, topics.group_id(settings, group), **{"enable.partition.eof": True, "fetch.wait.max.ms": 10}
    )
    try:
        return [Lag(group, one, _lag(consumer, admin, one, present.get(one, 0))) for one in read]
    finally:
        consumer.close()


def _lag(consumer: Consumer, admin: AdminClient, topic: str, partitions: int) -> int:
    places = kafka.committed(consumer, [TopicPartition(topic, partition) for partition in range(partitions)])
    if not places:
        return 0
    lows = _offsets(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    highs = _offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    waiting = [
        TopicPartition(topic, place.partition, start)
        for place in places
        if highs[place.partition] > (start := max(lows[place.partition], place.offset))
    ]
    return sum(max(0, highs[partition] - first) for partition, first in _firsts(consumer, waiting).items())


def _offsets(admin: AdminClient, places: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
    """By partition; the end is that of all that was written.

    A transaction is over for its writer before its markers stand everywhere: whoever asked for the end of what is
    committed would for that moment find a stage's input done and its output not yet there.
    """
    asked = {TopicPartition(place.topic, place.partition): spec for place in places}
    found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_SECONDS)
    return {place.partition: answer.result().offset for place, answer in found.items()}


def _firsts(consumer: Consumer, places: list[TopicPartition]) -> dict[int, int]:
    """By partition, where the first record from its place on stands, or the end where there is none.

    Markers of transactions are no records, and a group that commits only what it has processed (Faust) never passes
    the last one.
    """
    found: dict[int, int] = {}
    consumer.assign(places)
    deadline = time.monotonic() + _SECONDS
    while len(found) < len(places):
        message = consumer.poll(max(0.0, deadline - time.monotonic()))
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing read of {places[0].topic}"))
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if not error.retriable():
                raise KafkaException(error)
        elif partition is not None and offset is not None:
            found.setdefault(partition, offset)
    consumer.unassign()
    return found
