"""Records as stages see them, and the headers they carry (CloudEvents binary mode, W3C trace context)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.provenance_pb2 import EventSource

from services.common.current import here
from services.common.errors import EventFault
from services.common.topics import HEADROOM_BYTES, Topic, is_retry

Headers = list[tuple[str, bytes]]
M = TypeVar("M", bound=Message)

PROTOBUF = "application/protobuf"
JSON = "application/json"
_PROTOBUF_TYPES = {PROTOBUF, "application/x-protobuf", "application/vnd.google.protobuf"}
#: How an object of JSON begins; after a newline, which protobuf too begins with, a little more of it is looked at.
_JSON = re.compile(rb"[ \t\r]*\{|\s*\{\s*[\"}]")
#: Where a parked or replayed record first stood: "topic/partition/offset".
ORIGIN = "mindstream-origin"
#: In the place of headers of which one has a name that is no UTF-8: clients cannot read these.
UNREADABLE = "mindstream-unreadable-headers"
#: What a protobuf timestamp may hold, years 1 to 9999: seconds since the epoch.
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
#: Bytes of key and headers an event may have; the rest of the headroom is for the headers that stages add.
_ENVELOPE_BYTES = HEADROOM_BYTES // 2


def decimal(text: str | bytes, below: int) -> int | None:
    """The number that a header says; None for anything else, as anyone may have written it."""
    if not text.isdigit() or not text.isascii() or len(text) > 20:
        return None
    number = int(text)
    return number if number < below else None


@dataclass(frozen=True)
class Record:
    """One record read from Kafka."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers = field(default_factory=list)
    #: Milliseconds since the epoch, as Kafka has it.
    timestamp_ms: int = 0

    @cached_property
    def header(self) -> dict[str, bytes]:
        """Headers by lower-case name; the last of a repeated name wins."""
        return {name.lower(): value or b"" for name, value in self.headers}

    def text_header(self, name: str) -> str:
        """A header as text; empty where it is missing."""
        return self.header.get(name, b"").decode("utf-8", "replace")

    @property
    def envelope_bytes(self) -> int:
        """Size of key and headers."""
        return len(self.key or b"") + sum(len(name) + len(value) for name, value in self.headers)

    @cached_property
    def source(self) -> EventSource:
        """Where the event first stood, the same through parking and replay: its identity.

        Whoever writes to an ingress topic can write this header too. So it is heeded only where it names the topic
        that the record stands in or was parked from, and ignored where it makes no sense.
        """
        place = (self.topic, self.partition, self.offset)
        parts = self.text_header(ORIGIN).rsplit("/", 2)
        if len(parts) == 3 and (parts[0] == self.topic or (parts[0] and is_retry(self.topic, parts[0]))):
            partition, offset = decimal(parts[1], 2**31), decimal(parts[2], 2**63)
            if partition is not None and offset is not None:
                place = (parts[0], partition, offset)
        topic, partition, offset = place
        return EventSource(topic=topic, partition=partition, offset=offset, event_id=self.text_header("ce_id"))

    @property
    def idempotency_key(self) -> str:
        """Names this event in model calls."""
        return f"{self.source.topic}-{self.source.partition}-{self.source.offset}"


@dataclass(frozen=True)
class Output:
    """One record to write."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = field(default_factory=list)


def ce_headers(topic: Topic, source: str, event_id: str, at: datetime | None = None) -> Headers:
    """CloudEvents 1.0 Kafka binary mode headers of a protobuf record."""
    return [
        ("content-type", PROTOBUF.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_type", topic.ce_type.encode()),
        ("ce_source", source.encode()),
        ("ce_id", event_id.encode()),
        ("ce_time", (at or datetime.now(UTC)).isoformat().encode()),
    ]


def output(topic: Topic, name: str, key: str, message: Message, *, stage: str, cause: Record | None = None) -> Output:
    """A record of `topic` (on the wire: `name`) that the stage makes out of `cause`.

    Its CloudEvents id is the cause's identity, so that the same input gives the same id.
    """
    event_id = f"{stage}/{cause.idempotency_key}" if cause else f"{stage}/{key}"
    headers = ce_headers(topic, f"mindstream/{stage}", event_id)
    trace = here().traceparent.encode() or (cause.header.get("traceparent") if cause else None)
    if trace:
        headers.append(("traceparent", trace))
    return Output(name, key.encode(), message.SerializeToString(deterministic=True), headers)


def content_type(record: Record) -> str:
    """`PROTOBUF` or `JSON`.

    A record with no content-type header is JSON when it begins with a brace, which no message of ours does in
    protobuf (0x7B would be a group). But they all begin with a newline there (the tag of their first field), and an id
    may have the length that a brace is (123 bytes) or begin with one: then what follows the brace tells.

    Raises:
        EventFault: the header names something else.
    """
    named = record.text_header("content-type").split(";")[0].strip().lower()
    if named in _PROTOBUF_TYPES:
        return PROTOBUF
    if named == JSON or named.endswith("+json"):
        return JSON
    if named:
        raise EventFault(
            reasons.DEAD_LETTER_REASON_CONTENT_TYPE, f"content-type {named[:80]!r}: expected {PROTOBUF} or {JSON}"
        )
    return JSON if _JSON.match(record.value) else PROTOBUF


def decode(record: Record, message: type[M], *, json_allowed: bool) -> M:
    """The record's value as `message`.

    Raises:
        EventFault: wrong content type, or not decodable.
    """
    kind = content_type(record)
    try:
        if kind == JSON:
            if not json_allowed:
                raise EventFault(
                    reasons.DEAD_LETTER_REASON_CONTENT_TYPE, "JSON is not taken on this topic, only protobuf"
                )
            if not record.value.lstrip().startswith(b"{"):  # Of an empty list json_format makes an empty message.
                raise json_format.ParseError("not a JSON object")
            return json_format.Parse(record.value, message(), max_recursion_depth=20)
        return message.FromString(record.value)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise EventFault(
            reasons.DEAD_LETTER_REASON_UNDECODABLE, f"not a {message.DESCRIPTOR.name} in {kind}: {line}"
        ) from None


def check_record(record: Record, limit: int) -> None:
    """Check what comes before decoding: that headers can be read, and the size of the value, and of key and headers.

    Whatever passes fits in every topic of ours.

    Raises:
        EventFault: unreadable, or too large.
    """
    if UNREADABLE in record.header:
        raise EventFault(reasons.DEAD_LETTER_REASON_UNDECODABLE, "a header's name is not UTF-8; no header is kept")
    if len(record.value) > limit:
        message = f"{len(record.value)} bytes; at most {limit}"
    elif record.envelope_bytes > _ENVELOPE_BYTES and not is_retry(record.topic):  # There ours are among them.
        message = f"key and headers are {record.envelope_bytes} bytes; at most {_ENVELOPE_BYTES}"
    else:
        return
    raise EventFault(reasons.DEAD_LETTER_REASON_TOO_LARGE, message)


def check_outputs(outputs: Iterable[Output], limit: int) -> None:
    """Check what is written for an event.

    Raises:
        EventFault: a record that whoever reads it would refuse for its size.
    """
    for one in outputs:
        if len(one.value) > limit:
            message = f"makes a record of {len(one.value)} bytes for {one.topic}; at most {limit}"
            raise EventFault(reasons.DEAD_LETTER_REASON_TOO_LARGE, message)


def invalid(message: str) -> EventFault:
    """The fault of an event that decodes but says something it may not."""
    return EventFault(reasons.DEAD_LETTER_REASON_INVALID, message)


def has_control_characters(text: str) -> bool:
    """Whether text holds C0 or C1 control characters (tab and newlines count)."""
    return _CONTROL.search(text) is not None


def check_id(name: str, value: str) -> str:
    """`value` if it can be an id.

    Raises:
        EventFault: empty, longer than 512 bytes in UTF-8, or with control characters.
    """
    if not value.strip():
        raise invalid(f"{name} is empty")
    if (size := len(value.encode())) > 512:
        raise invalid(f"{name} is {size} bytes long; at most 512")
    if has_control_characters(value):
        raise invalid(f"{name} holds control characters")
    return value


def check_time(name: str, stamp: Timestamp) -> Timestamp:
    """`stamp` if it is what a protobuf timestamp may be.

    Raises:
        EventFault: outside the years 1 to 9999, or of other nanoseconds than 0 to 999,999,999.
    """
    if not (_EARLIEST <= stamp.seconds <= _LATEST and 0 <= stamp.nanos < 10**9):
        raise invalid(f"{name} is {stamp.seconds} s and {stamp.nanos} ns after 1970: outside the years 1 to 9999")
    return stamp


def raw_headers(headers: Sequence[tuple[str, Any]] | None) -> Headers:
    """Headers as a Kafka client gives them: a null value becomes empty, text becomes UTF-8."""
    return [(name, value.encode() if isinstance(value, str) else (value or b"")) for name, value in headers or ()]
