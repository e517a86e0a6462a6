"""How far each consumer group is behind: the one question of "is it drained?" and of `mindstream status`."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from services.common import kafka, topics
from services.common.settings import Settings


@dataclass(frozen=True)
class Lag:
    """A group's lag in one topic, records (a transaction's marker counts as one until it is passed)."""

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
    found = []
    present = kafka.existing_topics(settings)
    for topic in topics.ALL:
        name = topic.name(settings)
        for group in topic.readers:
            read = [name, topics.retry_name(name, group)] if topic.parks else [name]
            consumer = kafka.reader(settings, topics.group_id(settings, group))
            try:
                found += [Lag(group, one, _lag(consumer, one, present.get(one, 0))) for one in read]
            finally:
                consumer.close()
    return found


def _lag(consumer: Consumer, topic: str, partitions: int) -> int:
    behind = 0
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    for place in kafka.committed(consumer, places):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=10)
        behind += max(0, high - (place.offset if place.offset >= 0 else low))
    return behind
