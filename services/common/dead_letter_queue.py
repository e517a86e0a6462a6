"""Dead-letter topics as a person works on them: read, replayed at most once, and kept until they are purged.

That a letter was replayed stands in its own topic: a marker with the letter's offset, written in one Kafka transaction
with the replayed record. So a replay that is interrupted, or asked for twice, sends each letter once. A letter that was
purged has such a marker too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from google.protobuf import json_format
from google.protobuf.message import Message
from mindstream.events.v1.dead_letter_pb2 import DeadLetter

from services.common import dead_letters, kafka, topics
from services.common.errors import EventFault, WorldFault, reason_label
from services.common.records import ORIGIN, PROTOBUF, Headers, Record, decimal, decode
from services.common.settings import Settings
from services.common.topics import Topic

#: Headers of markers: the offset of the letter that was replayed, or purged.
REPLAYED, PURGED = "mindstream-dlq-replayed", "mindstream-dlq-purged"
_SECONDS = 30.0
#: Letters marked in one transaction: librdkafka holds 100,000 records at the most.
_MARKED_AT_ONCE = 10_000


#: A letter's topic, which has one partition, and its offset.
Place = tuple[str, int]


@dataclass(frozen=True)
class Queue:
    """The dead-letter topic of one reader of one topic."""

    name: str
    topic: Topic
    group: str


@dataclass(frozen=True)
class Letter:
    """One dead letter."""

    queue: Queue
    record: Record
    facts: DeadLetter
    replayed: bool

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.queue.name, self.record.offset

    @property
    def reason(self) -> str:
        """Short name of the reason, as in headers and metrics."""
        return reason_label(self.facts.reason)

    @property
    def cut_from(self) -> int | None:
        """Bytes of the event's value where it is not whole here; None where it is."""
        return dead_letters.value_bytes(self.record)

    def decoded(self) -> dict[str, Any] | None:
        """The event as JSON has it; None when it is cut or cannot be decoded, which may be why it is here."""
        if self.cut_from is not None:
            return None
        try:
            event = decode(self._original, self.queue.topic.message, json_allowed=True)
            return json_format.MessageToDict(event, preserving_proto_field_name=True)
        except (EventFault, json_format.SerializeToJsonError):  # JSON has no timestamp of the year 60000.
            return None

    @property
    def _original(self) -> Record:
        return Record(
            self.facts.topic,
            self.facts.partition,
            self.facts.offset,
            self.record.key,
            self.record.value,
            dead_letters.original_headers(self.record),
        )


def queues(settings: Settings) -> list[Queue]:
    """Every dead-letter topic of an installation, upstream first."""
    return [
        Queue(topics.dlq_name(topic.name(settings), group), topic, group)
        for topic in topics.ALL
        for group in (*topic.readers, *topic.shadows)
    ]


def letters(settings: Settings, queue: Queue) -> Iterator[Letter]:
    """All letters of a queue that were not purged, oldest first.

    It is read twice, for its markers and for its letters: they are kept for ever, and may be many and large.

    Raises:
        KafkaException: no such topic, or the broker does not answer.
    """
    bare = [record for record in _without_events(kafka.read_all(settings, queue.name)) if is_marker(record)]
    return _of(queue, bare, kafka.read_all(settings, queue.name))


def newest(settings: Settings, queue: Queue, most: int) -> Iterator[Letter]:
    """Letters among the newest `most` records of a queue that were not purged, oldest first, without their events.

    Raises:
        KafkaException: no such topic, or the broker does not answer.
    """
    bare = list(_without_events(kafka.read_all(settings, queue.name, last=most)))
    return _of(queue, bare, bare)


def _without_events(records: Iterable[Record]) -> Iterator[Record]:
    return (replace(record, value=b"") for record in records)


def _of(queue: Queue, markers: Sequence[Record], records: Iterable[Record]) -> Iterator[Letter]:
    replayed, purged = _marked(markers, REPLAYED), _marked(markers, PURGED)
    for record in records:
        if record.offset not in purged and not is_marker(record):
            yield Letter(queue, record, dead_letters.read(record), record.offset in replayed)


def _marked(records: Iterable[Record], marker: str) -> set[int]:
    offsets = (decimal(record.text_header(marker), 2**63) for record in records)
    return {offset for offset in offsets if offset is not None}


def is_marker(record: Record) -> bool:
    """Whether a record of a dead-letter topic is no letter, but says that one was replayed or purged."""
    return bool(record.text_header(REPLAYED) or record.text_header(PURGED))


class CutLetter(Exception):
    """A letter that does not hold its whole event cannot be sent as it is."""


#: Takes the letter, gives the event that is sent instead.
Edit = Callable[[Letter], Message]


def replay(settings: Settings, chosen: Iterable[Letter], edit: Edit | None = None) -> int:
    """Send letters to the topic where they stood, those replayed before left out; how many were sent.

    A replayed event keeps its origin, so that for the stages it is the same event.

    Raises:
        CutLetter: one is not whole and there is no edit; nothing is sent.
        WorldFault: Kafka did not take one, or another replay took over; what was sent before is sent and marked.
    """
    waiting: set[Place] = set()
    for letter in chosen:
        if letter.replayed:
            continue
        if edit is None and letter.cut_from is not None:
            raise CutLetter(
                f"{letter.queue.name}/{letter.record.offset} is cut (of {letter.cut_from} bytes): it can be sent only "
                "with an edit; nothing was sent"
            )
        waiting.add(letter.place)
    sent = 0
    try:
        producer = _alone(settings)
        for letter in _again(settings, waiting):
            if letter.replayed:
                continue
            value, headers = _mended(letter, edit)
            producer.begin_transaction()
            producer.produce(letter.facts.topic, value, letter.record.key, headers=headers)  # type: ignore[arg-type]
            _mark(producer, letter.place, letter.record.key, REPLAYED)
            producer.commit_transaction(_SECONDS)
            sent += 1
    except KafkaException as error:
        raise WorldFault("kafka", f"replay stopped after {sent}: {error.args[0].str()}") from None
    return sent


def purge(settings: Settings, chosen: Iterable[Letter]) -> int:
    """Take letters out for good, whether replayed or not; how many.

    They are gone from every list at once; Kafka frees the space of those that no letter stands before.

    Raises:
        WorldFault: Kafka did not take it, or a replay took over; what was marked before is purged.
    """
    places = {letter.place for letter in chosen}
    marked = 0
    try:
        producer = _alone(settings)
        found = ((letter.place, letter.record.key) for letter in _again(settings, places))
        while part := list(islice(found, _MARKED_AT_ONCE)):
            producer.begin_transaction()
            for place, key in part:
                _mark(producer, place, key, PURGED)
            producer.commit_transaction(_SECONDS)
            marked += len(part)
        for queue in _queues_of(settings, places):
            _free(settings, queue)
    except KafkaException as error:
        raise WorldFault("kafka", f"purge: {error.args[0].str()}") from None
    return marked


def _alone(settings: Settings) -> Producer:
    """A producer of transactions that no other replay or purge has beside it: nobody who began before can commit."""
    name = f"{settings.topic_prefix}mindstream.dlq.replay"
    # What librdkafka would log of a run that was overtaken is said in one line by what is raised.
    silent = {"log_level": 0, "error_cb": lambda _: None}
    producer = Producer(kafka.producer_config(settings, **{"transactional.id": name}, **silent))
    producer.init_transactions(_SECONDS)
    return producer


def _queues_of(settings: Settings, places: Set[Place]) -> list[Queue]:
    names = {name for name, _ in places}
    return [queue for queue in queues(settings) if queue.name in names]


def _again(settings: Settings, places: Set[Place]) -> Iterator[Letter]:
    """The letters that stand there, read anew.

    While they were chosen and mended, another run may have sent them, or a killed one's last transaction may have been
    completed.
    """
    for queue in _queues_of(settings, places):
        for letter in letters(settings, queue):
            if letter.place in places:
                yield letter


def _mark(producer: Producer, place: Place, key: bytes | None, marker: str) -> None:
    queue, offset = place
    headers: Any = [(marker, str(offset).encode())]
    producer.produce(queue, b"", key, headers=headers)


def _free(settings: Settings, queue: Queue) -> None:
    """Delete a queue's records before the first letter that is still to be kept."""
    records = list(_without_events(kafka.read_all(settings, queue.name)))  # Once: what comes after it is kept.
    if not records:
        return
    first = next((letter.record.offset for letter in _of(queue, records, records)), None)
    end = records[-1].offset + 1 if first is None else first
    client = kafka.admin(settings)  # Kept: its futures die with it.
    place = TopicPartition(queue.name, records[-1].partition, end)
    for done in client.delete_records([place], request_timeout=_SECONDS).values():
        done.result()


def _mended(letter: Letter, edit: Edit | None) -> tuple[bytes, Headers]:
    headers = dead_letters.original_headers(letter.record)
    facts = letter.facts
    origin = (ORIGIN, f"{facts.topic}/{facts.partition}/{facts.offset}".encode())
    if edit is None:
        return letter.record.value, [*headers, origin]
    kept = [(name, value) for name, value in headers if name.lower() != "content-type"]
    return edit(letter).SerializeToString(deterministic=True), [*kept, ("content-type", PROTOBUF.encode()), origin]
