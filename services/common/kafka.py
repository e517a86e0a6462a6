"""librdkafka clients with the settings that the promises rest on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import methodcaller
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from services.common.errors import TooLarge, WorldFault
from services.common.records import UNREADABLE, Headers, Output, Record, raw_headers
from services.common.settings import Settings, librdkafka_options
from services.common.topics import HEADROOM_BYTES, TopicSpec, letter_max_bytes

_log = logging.getLogger(__name__)
#: What librdkafka itself says goes through this one, or it would write lines of its own form.
_LIBRARY_LOG = logging.getLogger("librdkafka")
#: `message.headers()`. Of a name that is no UTF-8 the client makes a broken list beside its error, and the interpreter,
#: where it has specialised a call, looks at the list first and crashes. This way of calling looks for the error.
_CHECKED_HEADERS: Callable[[Message], Any] = methodcaller("headers")


def client_config(settings: Settings, **ours: Any) -> dict[str, Any]:
    """Options of any client: passed-through ones first, then those a promise needs."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "logger": _LIBRARY_LOG,
        # A broker that is back is found as soon as anything else that is back.
        "reconnect.backoff.max.ms": max(100, int(settings.backoff_max_seconds * 1000)),
        **librdkafka_options(),
        **ours,
    }


def producer_config(settings: Settings, **ours: Any) -> dict[str, Any]:
    """An idempotent producer that agrees with Java and Faust on a key's partition."""
    return client_config(
        settings,
        **{
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": letter_max_bytes(settings) + HEADROOM_BYTES,
            # A batch counts as one message to the broker: it must not outgrow what a topic takes of one.
            "batch.size": min(1_000_000, settings.event_max_bytes),
            "linger.ms": 5,
            **ours,
        },
    )


def consumer_config(settings: Settings, group: str, **ours: Any) -> dict[str, Any]:
    """A consumer of committed records that never commits by itself."""
    return client_config(
        settings,
        **{
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(settings.session_timeout_seconds * 1000),
            "heartbeat.interval.ms": max(100, int(settings.session_timeout_seconds * 1000 / 3)),
            # Bounds what librdkafka fetches ahead of the window.
            "queued.max.messages.kbytes": max(1024, settings.window_bytes // 4096),
            "fetch.message.max.bytes": settings.event_max_bytes,
            **ours,
        },
    )


def to_record(message: Message) -> Record:
    """A librdkafka message as a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    key, value = message.key(), message.value()
    return Record(
        topic,
        partition,
        offset,
        key.encode() if isinstance(key, str) else key,
        (value.encode() if isinstance(value, str) else value) or b"",
        _headers(message),
        message.timestamp()[1],
    )


def _headers(message: Message) -> Headers:
    try:
        return raw_headers(_CHECKED_HEADERS(message))
    except (SystemError, UnicodeDecodeError):  # The broker takes any bytes for a header's name.
        return [(UNREADABLE, b"")]


def admin(settings: Settings) -> AdminClient:
    """An admin client."""
    return AdminClient(client_config(settings))


def existing_topics(settings: Settings, timeout: float = 10.0) -> dict[str, int]:
    """Topics on the broker with their partition counts.

    Raises:
        KafkaException: the broker does not answer, or refuses us; with the reason where one is known.
    """
    said: list[KafkaError] = []
    # Its own log lines would say the same once more for every try.
    client = AdminClient(client_config(settings, error_cb=said.append, log_level=0))
    try:
        metadata = client.list_topics(timeout=timeout)
    except KafkaException as error:
        client.poll(0)  # Calls `error_cb`.
        raise _reason(said, settings) or error from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def topics_trouble(settings: Settings, needed: Mapping[str, int]) -> str:
    """What is wrong with the topics that somebody needs, in one line; empty where nothing is.

    `needed` has their numbers of partitions, 0 where any will do: what stands in a partition by its key stands in
    another one when there are more of them, before or after what was written earlier.

    Raises:
        KafkaException: the broker does not answer.
    """
    present = existing_topics(settings)
    missing = sorted(needed.keys() - present.keys())
    if missing:
        return f"no topic {', '.join(missing)} (run: mindstream topics)"
    for name, count in sorted(needed.items()):
        if count and present[name] != count:
            return repartitioned(name, present[name], count)
    return ""


def repartitioned(name: str, found: int, wanted: int) -> str:
    """One line about a topic with another number of partitions than it must have."""
    return (
        f"topic {name} has {found} partitions and not {wanted} (MINDSTREAM_TOPIC_PARTITIONS): keys have moved. Let "
        f"everything drain, then give all of Mindstream's topics and the setting the same number"
    )


def _reason(said: list[KafkaError], settings: Settings) -> KafkaException | None:
    """What kept a client from its broker, of all that it said: a refusal before a connection that broke."""
    known = [error for error in said if error.code() != KafkaError._ALL_BROKERS_DOWN]
    refusals = [error for error in known if error.code() in (KafkaError._SSL, KafkaError._AUTHENTICATION)]
    if known:
        return KafkaException((refusals or known)[-1])
    if said:  # Connected, and cut off without a word.
        line = f"{settings.kafka_bootstrap_servers} closes the connection: does it want another security.protocol?"
        return KafkaException(KafkaError(KafkaError._TRANSPORT, line))
    return None


def create_topics(settings: Settings, specs: Iterable[TopicSpec]) -> list[str]:
    """Create those of `specs` that are missing; their names. Existing ones are left as they are.

    Raises:
        KafkaException: a topic could not be created.
    """
    present = existing_topics(settings)
    missing = [spec for spec in specs if spec.name not in present]
    if not missing:
        return []
    new = [NewTopic(s.name, s.partitions, s.replication, config=s.config) for s in missing]
    client = admin(settings)  # Kept: its futures die with it.
    for name, future in client.create_topics(new, operation_timeout=30).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            _log.info("topic %s was created meanwhile", name)
    return [spec.name for spec in missing]


def plain_producer(settings: Settings) -> Producer:
    """An idempotent producer without transactions, for the command line and the release announcer."""
    return Producer(producer_config(settings))


def send(producer: Producer, outputs: Iterable[Output], timeout: float = 60.0) -> None:
    """Write records and wait until Kafka has acknowledged every one.

    Raises:
        TooLarge: one is over what its topic takes; the others may be written.
        WorldFault: it did not take them all; some may be written.
    """
    failed: list[KafkaError] = []
    for out in outputs:
        while True:
            try:
                producer.produce(
                    out.topic,
                    out.value,
                    out.key,
                    headers=out.headers,  # type: ignore[arg-type]
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.5)
            except KafkaException as error:
                failed.append(error.args[0])
                break
        producer.poll(0)
    left = producer.flush(timeout)
    for one in failed:
        if one.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise TooLarge(f"Kafka does not take a record: {one.str()}")
    if left or failed:
        why = failed[0].str() if failed else f"no answer in {timeout:.0f} s"
        raise WorldFault("kafka", f"Kafka did not take {left + len(failed)} records: {why}")


def reader(settings: Settings, group: str, **ours: Any) -> Consumer:
    """A consumer of committed records."""
    return Consumer(consumer_config(settings, group, **ours))


def committed(consumer: Consumer, places: list[TopicPartition], timeout: float = 15.0) -> list[TopicPartition]:
    """The group's committed offsets; waits for a coordinator that is starting or moving.

    Raises:
        KafkaException: no answer within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while places:
        try:
            found = consumer.committed(places, timeout=max(0.1, deadline - time.monotonic()))
            for place in found:
                if place.error:
                    raise KafkaException(place.error)
            return found
        except KafkaException as error:
            if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() > deadline:
                raise
            consumer.poll(0.1)
    return []


_COORDINATOR_MOVES = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}


def read_all(settings: Settings, topic: str, last: int | None = None, since_ms: int = 0) -> Iterator[Record]:
    """Everything committed in a topic up to its end now, partition by partition as it comes; nothing is committed.

    With `last`, only what stands in the last so many places of each partition; with `since_ms` (since the epoch), from
    the first record on that is not older.

    Raises:
        KafkaException: no such topic, or the broker does not answer.
    """
    # At the end there is nothing to wait for, neither for the broker (its half second) nor for a full batch.
    ours = {"enable.partition.eof": True, "fetch.wait.max.ms": 10}
    consumer = reader(settings, f"{settings.topic_prefix}mindstream.reader", **ours)
    try:
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        if metadata.error:
            raise KafkaException(metadata.error)
        starts = dict.fromkeys(metadata.partitions, 0)
        for partition in starts if last is not None else ():
            high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            starts[partition] = max(0, high - (last or 0))
        asked = [TopicPartition(topic, partition, since_ms) for partition in starts] if since_ms else []
        for found in consumer.offsets_for_times(asked, timeout=10) if asked else ():
            # Where all are older: the end.
            starts[found.partition] = max(starts[found.partition], found.offset) if found.offset >= 0 else OFFSET_END
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        left = set(metadata.partitions)
        while left:
            for message in consumer.consume(500, 0.02):
                error = message.error()
                if error is None:
                    yield to_record(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()
