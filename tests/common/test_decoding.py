"""Every decoder against any bytes: a message, or the event's fault with a line for people; never anything else."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from unittest import mock

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common import dead_letters, topics
from services.common.dead_letter_queue import Letter, Queue
from services.common.errors import EventFault, reason_label
from services.common.pairs import normalised, pair_id
from services.common.records import JSON, ORIGIN, PROTOBUF, Headers, Record, ce_headers, decode, output
from services.common.runtime.dispatch import NOT_BEFORE, PARKED_SINCE, not_before
from services.common.settings import Settings, SettingsError, load_settings
from services.common.topics import Topic
from tests.messages import messages, texts, timestamps

TOPICS = st.sampled_from(topics.ALL)
CONTENT_TYPES = st.sampled_from(["", PROTOBUF, JSON, "application/cloudevents+json; charset=utf-8", "text/xml"])
SAID = st.sampled_from(
    [
        ORIGIN, NOT_BEFORE, PARKED_SINCE, "traceparent", "ce_id", dead_letters.VALUE_BYTES, dead_letters.VALUE_SHA256,
        *(dead_letters.PREFIX + name for name in ("topic", "partition", "offset", "reason", "attempts", "time")),
    ]
)  # fmt: skip
NUMBERS = st.integers(-1, 10**21).map(lambda number: str(number).encode())
TIMES = st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat().encode())
PLACES = st.tuples(st.sampled_from(["t", "t.g.retry", "", "a/b"]), st.integers(-1, 2**64), st.integers(-1, 2**70))
VALUES = st.binary(max_size=40) | NUMBERS | TIMES | PLACES.map(lambda place: "/".join(map(str, place)).encode())
HEADERS: st.SearchStrategy[Headers] = st.lists(st.tuples(SAID | texts, VALUES), max_size=5)
#: What a JSON decoder may meet that is well formed and still not ours.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def json_of(draw: st.DrawFn, topic: Topic) -> bytes:
    """JSON with the topic's own field names and anything in them; now and then nested beyond reason."""
    fields = draw(
        st.dictionaries(st.sampled_from([field.name for field in topic.message.DESCRIPTOR.fields]), JSON_VALUES)
    )
    if depth := draw(st.sampled_from([0, 0, 0, 30, 5000])):
        return b'{"items":' + b"[" * depth + b"]" * depth + b"}"
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def record(value: bytes, headers: Headers, topic: str = "t", key: bytes | None = b"k") -> Record:
    return Record(topic, 1, 2, key, value, headers)


@given(TOPICS, st.binary(), HEADERS, CONTENT_TYPES, st.booleans())
def test_any_bytes_are_a_message_or_the_events_fault(
    topic: Topic, value: bytes, headers: Headers, kind: str, json_allowed: bool
) -> None:
    check(record(value, [*headers, ("content-type", kind.encode())]), topic, json_allowed)


@given(TOPICS, st.data(), CONTENT_TYPES)
def test_any_json_is_a_message_or_the_events_fault(topic: Topic, data: st.DataObject, kind: str) -> None:
    check(record(data.draw(json_of(topic)), [("content-type", kind.encode())]), topic, True)


@given(TOPICS, st.data())
def test_a_damaged_message_is_a_message_or_the_events_fault(topic: Topic, data: st.DataObject) -> None:
    whole = data.draw(messages(topic.message)).SerializeToString()
    cut = data.draw(st.integers(0, len(whole)))
    check(record(whole[:cut] + data.draw(st.binary(max_size=3)) + whole[cut + 1 :], []), topic, topic.json_allowed)


def check(event: Record, topic: Topic, json_allowed: bool) -> None:
    fault = None
    try:
        assert isinstance(decode(event, topic.message, json_allowed=json_allowed), topic.message)
    except EventFault as raised:
        fault = raised
    if fault:
        assert fault.reason in (reasons.DEAD_LETTER_REASON_UNDECODABLE, reasons.DEAD_LETTER_REASON_CONTENT_TYPE)
        assert len(str(fault).splitlines()) == 1


@given(TOPICS, st.data())
def test_what_a_stage_writes_the_next_one_reads(topic: Topic, data: st.DataObject) -> None:
    written = data.draw(messages(topic.message))
    cause = record(b"", [("traceparent", b"00-1-2-01")])
    out = output(topic, topic.base, data.draw(texts), written, stage="s", cause=cause)
    read = decode(record(out.value, out.headers), topic.message, json_allowed=False)
    assert read.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)
    assert dict(out.headers)["ce_type"].decode() == topic.message.DESCRIPTOR.full_name
    assert dict(out.headers)["traceparent"] == b"00-1-2-01"


@given(st.sampled_from([topic for topic in topics.ALL if topic.json_allowed]), st.data(), st.booleans())
def test_json_says_the_same_as_protobuf(topic: Topic, data: st.DataObject, original_names: bool) -> None:
    written: Message = data.draw(messages(topic.message, timestamp=timestamps))
    value = json_format.MessageToJson(written, preserving_proto_field_name=original_names).encode()
    headers = ce_headers(topic, "shop", "1")[1:]
    for event in (record(value, headers), record(value, [("Content-Type", b"application/json"), *headers])):
        assert decode(event, topic.message, json_allowed=True) == written


@given(messages(CoBuy))
def test_a_cobuy_is_in_order_or_refused(cobuy: CoBuy) -> None:
    try:
        found = normalised(cobuy)
    except EventFault:
        return
    assert found.product_a.encode() < found.product_b.encode()
    assert found.pair_id == pair_id(cobuy.product_b, cobuy.product_a)
    assert normalised(found) == found


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_two_pairs_never_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (pair_id(*one) == pair_id(*other)) == (sorted(one) == sorted(other))


@given(st.sampled_from(["t", "t.g.retry"]), HEADERS, st.none() | st.binary(max_size=9), st.integers(0, 2**53))
def test_whatever_headers_say_an_event_has_a_place_and_a_time(
    topic: str, headers: Headers, key: bytes | None, now: int
) -> None:
    settings = Settings()
    event = record(b"v", headers, topic, key)
    source = event.source
    assert event.idempotency_key == f"{source.topic}-{source.partition}-{source.offset}"
    assert not_before(event, now, settings) <= now + settings.park_seconds * 1000 + 60_000


@given(HEADERS, st.none() | st.binary(max_size=9), st.binary(max_size=9), st.integers(-1, 2**62))
def test_any_record_of_a_dead_letter_topic_can_be_looked_at(
    headers: Headers, key: bytes | None, value: bytes, stamp: int
) -> None:
    event = Record("t.g.dlq", 0, 7, key, value, headers, stamp)
    letter = Letter(Queue("t.g.dlq", topics.COBUYS, "g"), event, dead_letters.read(event), False)
    assert letter.reason in map(reason_label, reasons.DeadLetterReason.values())
    assert letter.cut_from is None or letter.cut_from >= 0
    assert letter.decoded() is None or isinstance(letter.decoded(), dict)
    assert not any(name.lower().startswith("mindstream-") for name, _ in dead_letters.original_headers(event))


@given(HEADERS, st.binary(max_size=9), st.text(max_size=600), st.integers(1, 2**32 - 1), st.data())
def test_a_dead_letter_gives_back_what_it_was_made_of(
    headers: Headers, value: bytes, message: str, attempts: int, data: st.DataObject
) -> None:
    event = record(value, headers)
    reason = data.draw(st.sampled_from(reasons.DeadLetterReason.values()))
    message = message.encode("utf-8", "backslashreplace").decode()
    out = dead_letters.dead_letter(event, "g", reason, message, error_class="E", attempts=attempts, room=10**6)
    letter = Record(out.topic, 0, 0, out.key, out.value, out.headers)
    facts = dead_letters.read(letter)
    assert (facts.topic, facts.partition, facts.offset) == (
        event.source.topic, event.source.partition, event.source.offset,
    )  # fmt: skip
    assert (facts.reason, facts.message, facts.attempts) == (reason, message[:500], attempts)
    assert (letter.value, dead_letters.value_bytes(letter)) == (value, None)
    kept = [(name, said) for name, said in headers if not name.lower().startswith("mindstream-")]
    assert dead_letters.original_headers(letter) == kept


ENVIRONMENT = {f"MINDSTREAM_{name.upper()}": field.annotation for name, field in Settings.model_fields.items()}
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
WRITTEN = WORDS | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["file://x", "s3://x", "://", "a=b"])


@given(st.dictionaries(st.sampled_from(sorted(ENVIRONMENT)), WRITTEN, min_size=1, max_size=3))
def test_any_environment_is_settings_or_one_line_that_names_a_variable(given_: Mapping[str, str]) -> None:
    with mock.patch.dict(os.environ, given_):
        error = ""
        try:
            settings = load_settings()
        except SettingsError as raised:
            error = str(raised)
    if error:
        assert any(name in error for name in given_)
        assert "\n" not in error
        return
    for name, text in given_.items():
        found = getattr(settings, name.removeprefix("MINDSTREAM_").lower())
        if ENVIRONMENT[name] in (int, float):
            assert math.isfinite(found)
            assert found == float(text)


def test_a_settings_error_shows_no_password() -> None:
    dsn = {"MINDSTREAM_POSTGRES_DSN": "mysql://me:hidden@db/mindstream"}
    with mock.patch.dict(os.environ, dsn), pytest.raises(SettingsError) as error:
        load_settings()
    assert "hidden" not in str(error.value)
