"""Dead letters: the original bytes, with headers that say where they stood and why they were set aside.

The headers follow Kafka Connect's convention (`__connect.errors.*`) under a prefix of our own.

An event that is too large even for that is cut: `mindstream-dlq-value-bytes` and `-value-sha256` then say what its
value was. A cut letter can be looked at, and replayed only with an edit.
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime
from importlib.metadata import version

from mindstream.events.v1.dead_letter_pb2 import DeadLetter, DeadLetterReason

from services.common.errors import reason_label, reason_value
from services.common.records import Headers, Output, Record, decimal
from services.common.topics import dlq_name

PREFIX = "mindstream-dlq-"
#: On cut letters only: length and SHA-256 of the value as it was.
VALUE_BYTES, VALUE_SHA256 = PREFIX + "value-bytes", PREFIX + "value-sha256"
#: Of a cut letter: how much is kept of the value and of the event's headers, and of the key.
_CUT_BYTES, _CUT_KEY_BYTES = 16_384, 1024


def service_version() -> str:
    """Version of this installation."""
    return version("mindstream")


def dead_letter(
    record: Record,
    group: str,
    reason: DeadLetterReason.ValueType,
    message: str,
    *,
    error_class: str,
    attempts: int,
    room: int,
) -> Output:
    """The record for `<topic>.<group>.dlq`; the same for every try of the same record, but for its time.

    An event of more than `room` bytes, key and headers included, is cut.
    """
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
    letter = Output(dlq_name(source.topic, group), record.key or b"", record.value, headers)
    return cut(letter) if record.envelope_bytes + len(record.value) > room else letter


def cut(letter: Output, keep: int = _CUT_BYTES) -> Output:
    """The letter with `keep` bytes of the event's value and headers at the most; 0 leaves our own headers."""
    facts = [(name, value) for name, value in letter.headers if name.startswith(PREFIX)]
    if VALUE_BYTES not in dict(facts):
        facts.append((VALUE_BYTES, str(len(letter.value)).encode()))
        facts.append((VALUE_SHA256, hashlib.sha256(letter.value).hexdigest().encode()))
    kept: Headers = []
    left = keep
    for name, value in letter.headers:
        if not name.startswith(PREFIX) and len(name) + len(value) <= left:
            left -= len(name) + len(value)
            kept.append((name, value))
    return Output(letter.topic, letter.key[:_CUT_KEY_BYTES], letter.value[:keep], kept + facts)


def value_bytes(record: Record) -> int | None:
    """Of a cut letter, how long the value was; None for a whole one."""
    return decimal(record.text_header(VALUE_BYTES), 2**63)


def read(record: Record) -> DeadLetter:
    """What a record of a dead-letter topic says of itself."""

    def text(name: str) -> str:
        return record.text_header(PREFIX + name)

    def number(name: str, below: int) -> int:
        return decimal(text(name), below) or 0

    letter = DeadLetter(
        topic=text("topic"),
        partition=number("partition", 2**31),
        offset=number("offset", 2**63),
        group=text("group"),
        reason=reason_value(text("reason")),
        message=text("message"),
        error_class=text("error-class"),
        attempts=number("attempts", 2**32),
        service_version=text("service-version"),
    )
    # A timestamp is whatever its producer says, as a header is: what no calendar holds stays unset.
    with contextlib.suppress(ValueError):
        letter.at.FromMilliseconds(record.timestamp_ms)
    with contextlib.suppress(ValueError, OverflowError):
        letter.at.FromDatetime(datetime.fromisoformat(text("time")))
    return letter


def original_headers(record: Record) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was set aside."""
    return [(name, value) for name, value in record.headers if not name.lower().startswith("mindstream-")]
