"""Dead-letter topics as a person works on them: read, replayed at most once, and never forgotten.

That a letter was replayed stands in its own topic: a marker with the letter's offset, written in one Kafka transaction
with the replayed record. So a replay that is interrupted, or asked for twice, sends each letter once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Producer
from google.protobuf import json_format
from google.protobuf.message import Message
from mindstream.events.v1.dead_letter_pb2 import DeadLetter

from services.common import dead_letters, kafka, topics
from services.common.errors import EventFault, WorldFault, reason_label
from services.common.records import ORIGIN, PROTOBUF, Headers, Record, decode
from services.common.settings import Settings
from services.common.topics import Topic

#: Header of a marker: the offset of the letter that was replayed.
REPLAYED = "mindstream-dlq-replayed"
_SECONDS = 30.0


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
        for group in topic.readers
    ]


def letters(settings: Settings, queue: Queue) -> Iterator[Letter]:
    """All letters of a queue, oldest first.

    Raises:
        KafkaException: no such topic, or the broker does not answer.
    """
    records = list(kafka.read_all(settings, queue.name))
    markers = {record.text_header(REPLAYED) for record in records} - {""}
    for record in records:
        if not record.text_header(REPLAYED):
            yield Letter(queue, record, dead_letters.read(record), str(record.offset) in markers)


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
    waiting = [letter for letter in chosen if not letter.replayed]
    for letter in waiting if edit is None else ():
        if letter.cut_from is not None:
            raise CutLetter(
                f"{letter.queue.name}/{letter.record.offset} is cut (of {letter.cut_from} bytes): it can be sent only "
                "with an edit; nothing was sent"
            )
    producer = Producer(
        kafka.producer_config(settings, **{"transactional.id": f"{settings.topic_prefix}mindstream.dlq.replay"})
    )
    sent = 0
    try:
        producer.init_transactions(_SECONDS)
        for letter in waiting:
            value, headers = _mended(letter, edit)
            producer.begin_transaction()
            producer.produce(letter.facts.topic, value, letter.record.key, headers=headers)  # type: ignore[arg-type]
            marker: Any = [(REPLAYED, str(letter.record.offset).encode())]
            producer.produce(letter.queue.name, b"", letter.record.key, headers=marker)
            producer.commit_transaction(_SECONDS)
            sent += 1
    except KafkaException as error:
        raise WorldFault("kafka", f"replay stopped after {sent}: {error.args[0].str()}") from None
    return sent


def _mended(letter: Letter, edit: Edit | None) -> tuple[bytes, Headers]:
    headers = dead_letters.original_headers(letter.record)
    facts = letter.facts
    origin = (ORIGIN, f"{facts.topic}/{facts.partition}/{facts.offset}".encode())
    if edit is None:
        return letter.record.value, [*headers, origin]
    kept = [(name, value) for name, value in headers if name.lower() != "content-type"]
    return edit(letter).SerializeToString(deterministic=True), [*kept, ("content-type", PROTOBUF.encode()), origin]
