"""Dead letters: the original bytes, with headers that say where they stood and why they were set aside.

The headers follow Kafka Connect's convention (`__connect.errors.*`) under a prefix of our own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from mindstream.events.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

from services.common.errors import reason_label, reason_value
from services.common.records import Output, Record
from services.common.topics import dlq_name

PREFIX = "mindstream-dlq-"


def service_version() -> str:
    """Version of this installation."""
    return version("mindstream")


def dead_letter(
    record: Record, group: str, reason: DeadLetterReason.ValueType, message: str, *, error_class: str, attempts: int
) -> Output:
    """The record for `<topic>.<group>.dlq`; the same for every try of the same record, but for its time."""
    source = record.source
    facts = {
        "topic": source.topic,
        "partition": str(source.partition),
        "offset": str(source.offset),
        "group": group,
        "reason": reason_label(reason),
        "message": message[:500],
        "error-class": error_class,
        "attempts": str(attempts),
        "service-version": service_version(),
        "time": datetime.now(UTC).isoformat(),
    }
    kept = [(name, value) for name, value in record.headers if not name.lower().startswith("mindstream-")]
    headers = kept + [(PREFIX + name, value.encode()) for name, value in facts.items()]
    return Output(dlq_name(source.topic, group), record.key or b"", record.value, headers)


def read(record: Record) -> DeadLetter:
    """What a record of a dead-letter topic says of itself."""

    def text(name: str) -> str:
        return record.text_header(PREFIX + name)

    def number(name: str) -> int:
        return int(text(name)) if text(name).isdecimal() else 0

    letter = DeadLetter(
        topic=text("topic"),
        partition=number("partition"),
        offset=number("offset"),
        group=text("group"),
        reason=reason_value(text("reason")),
        message=text("message"),
        error_class=text("error-class"),
        attempts=number("attempts"),
        service_version=text("service-version"),
    )
    try:
        letter.at.FromDatetime(datetime.fromisoformat(text("time")))
    except ValueError:
        letter.at.FromMilliseconds(record.timestamp_ms)
    return letter


def original_headers(record: Record) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was set aside."""
    return [(name, value) for name, value in record.headers if not name.lower().startswith("mindstream-")]
