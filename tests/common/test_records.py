"""What a record says of itself, and which of it is believed."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common import dead_letters
from services.common.errors import EventFault
from services.common.records import JSON, ORIGIN, PROTOBUF, Record, check_record, content_type, decimal


def record(topic: str, origin: str) -> Record:
    return Record(topic, 1, 2, b"k", b"v", [(ORIGIN, origin.encode())])


@pytest.mark.parametrize("topic", ["a.cobuys", "a.cobuys.extractor.retry"])
def test_a_replayed_or_parked_record_keeps_its_origin(topic: str) -> None:
    source = record(topic, "a.cobuys/7/9223372036854775807").source
    assert (source.topic, source.partition, source.offset) == ("a.cobuys", 7, 2**63 - 1)


@pytest.mark.parametrize(
    "origin",
    ["b.cobuys/0/5", "a.products/0/5", "/0/5", "a.cobuys/2147483648/5", "a.cobuys/0/9223372036854775808",
     "a.cobuys/0/" + "9" * 5000, "a.cobuys/0/\u0661", "a.cobuys/0/-1", "a.cobuys/0", ""],
)  # fmt: skip
@pytest.mark.parametrize("topic", ["a.cobuys", "a.cobuys.extractor.retry"])
def test_any_other_origin_is_ignored(topic: str, origin: str) -> None:
    source = record(topic, origin).source
    assert (source.topic, source.partition, source.offset) == (topic, 1, 2)


@given(st.text(), st.integers(0, 2**63))
def test_a_number_in_a_header_is_in_range_or_nothing(text: str, below: int) -> None:
    number = decimal(text, below)
    assert number is None or 0 <= number < below


def test_key_and_headers_count_too() -> None:
    check_record(Record("t", 0, 0, b"k", b"v" * 10), 10)
    check_record(Record("t", 0, 0, b"k" * 32_000, b"v"), 10)
    for big in (
        Record("t", 0, 0, b"k", b"v" * 11),
        Record("t", 0, 0, b"k" * 33_000, b"v"),
        Record("t", 0, 0, b"k", b"v", [("h", b"x" * 33_000)]),
    ):
        with pytest.raises(EventFault) as fault:
            check_record(big, 10)
        assert fault.value.reason == reasons.DEAD_LETTER_REASON_TOO_LARGE


@hypothesis.settings(max_examples=50)
@given(
    key=st.integers(0, 100_000),
    value=st.integers(0, 100_000),
    header=st.integers(0, 100_000),
    message=st.text(max_size=2000),
)
def test_a_dead_letter_fits_in_its_topic(key: int, value: int, header: int, message: str) -> None:
    room = 16 * 1024
    event = Record("t", 0, 0, b"k" * key, b"v" * value, [("h", b"x" * header)])
    reason = reasons.DEAD_LETTER_REASON_TOO_LARGE
    letter = dead_letters.dead_letter(event, "g", reason, message, error_class="E", attempts=1, room=room)
    size = sum(len(name) + len(said) for name, said in letter.headers) + len(letter.key) + len(letter.value)
    assert size <= room + 60_000
    if dead_letters.value_bytes(Record("d", 0, 0, letter.key, letter.value, letter.headers)) is None:
        assert (letter.key, letter.value, letter.headers[0]) == (event.key, event.value, event.headers[0])
    bare = dead_letters.cut(letter, 0)
    assert bare.value == b""
    assert dead_letters.cut(bare, 0) == bare
    assert dict(bare.headers)[dead_letters.VALUE_BYTES] == str(value).encode()


@pytest.mark.parametrize("order_id", ["x" * 123, "{" + "x" * 8, "{" + "x" * 12, "x" * ord("{"), "{" + "x" * 31])
def test_an_id_that_looks_like_a_brace_makes_no_json(order_id: str) -> None:
    value = Purchase(order_id=order_id).SerializeToString()
    assert value.lstrip().startswith(b"{")
    assert content_type(Record("t", 0, 0, b"k", value)) == PROTOBUF


@pytest.mark.parametrize("value", [b"{}", b' {"a": 1}', b'\n{"a": 1}', b"\r\n\t{ }", b'{\n"a": 1}', b"{broken", b"{"])
def test_a_brace_makes_json(value: bytes) -> None:
    assert content_type(Record("t", 0, 0, b"k", value)) == JSON
