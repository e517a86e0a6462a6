"""Events that nobody meant well: far too large, or with the runtime's own headers. Nothing else is disturbed."""

from __future__ import annotations

import hashlib
import json
import uuid

import pytest

from services.common import dead_letters
from services.common.records import Record
from services.common.runtime.dispatch import Dispatcher
from services.common.runtime.stage import Result, Stage
from services.common.runtime.window import Entry
from services.common.settings import Settings
from tests.common.runtime.conftest import Bench, wait_for


def reasons_of(letters: list[Record]) -> list[str]:
    return sorted(letter.text_header("mindstream-dlq-reason") for letter in letters)


@pytest.mark.integration
def test_an_event_larger_than_any_dead_letter_is_cut(bench: Bench) -> None:
    bench.send({"n": 1, "pad": "x" * 200_000}, {"n": 2})
    bench.send({"n": 3, "mode": "park"}, headers={"traceparent": "0" * 40_000})
    bench.overrides["MINDSTREAM_EVENT_MAX_BYTES"] = "2048"
    with bench.worker():
        wait_for(lambda: bench.committed() >= 3, "all committed")
    assert bench.numbers() == [2]
    letters = bench.read("cobuys.extractor.dlq")
    assert reasons_of(letters) == ["too_large", "too_large"]
    cut = next(letter for letter in letters if letter.key == b"1")
    value = json.dumps({"n": 1, "pad": "x" * 200_000}).encode()
    assert dead_letters.value_bytes(cut) == len(value)
    assert cut.text_header(dead_letters.VALUE_SHA256) == hashlib.sha256(value).hexdigest()
    assert cut.value == value[: len(cut.value)] != b""


@pytest.mark.integration
def test_what_the_broker_refuses_for_its_size_becomes_a_dead_letter_and_its_neighbours_pass(bench: Bench) -> None:
    bench.prefix = f"t{uuid.uuid4().hex[:8]}."
    bench.create(cobuys_featured=3000, cobuys_extractor_dlq=3000)
    bench.send(*({"n": n, "pad": "x" * (5000 if n in (7, 20) else 0)} for n in range(40)))
    with bench.worker():
        wait_for(lambda: bench.committed() >= 40, "all committed")
    assert bench.numbers() == [n for n in range(40) if n not in (7, 20)]
    letters = bench.read("cobuys.extractor.dlq")
    assert sorted(letter.key or b"" for letter in letters) == [b"20", b"7"]
    assert reasons_of(letters) == ["too_large", "too_large"]
    assert all(letter.value == b"" and (dead_letters.value_bytes(letter) or 0) > 5000 for letter in letters)


@pytest.mark.integration
def test_small_records_are_not_batched_beyond_what_a_topic_takes(bench: Bench) -> None:
    bench.overrides["MINDSTREAM_EVENT_MAX_BYTES"] = "1024"
    bench.prefix = f"t{uuid.uuid4().hex[:8]}."
    bench.create()
    bench.send(*({"n": n, "pad": "x" * 900, "k": 1} for n in range(300)))
    with bench.worker():
        wait_for(lambda: bench.committed() >= 300, "all committed")
    assert bench.numbers() == list(range(300))
    assert bench.read("cobuys.extractor.dlq") == []


@pytest.mark.integration
def test_the_runtimes_own_headers_are_not_heeded_from_outside(bench: Bench) -> None:
    forged = [
        {"mindstream-origin": "x/0/99999999999999999999"},
        {"mindstream-origin": f"{bench.prefix}cobuys/0/99999999999999999999"},
        {"mindstream-origin": f"{bench.prefix}cobuys/99999999999/1"},
        {"mindstream-origin": "stg.cobuys/0/5"},
        {"mindstream-not-before": "9" * 5000},
        {"mindstream-not-before": "8000000000000000"},
        {"mindstream-parked-since": "9" * 5000},
        {"mindstream-parked-since": "0"},
    ]
    for n, headers in enumerate(forged):
        bench.send({"n": n}, headers=headers)
        bench.send({"n": 100 + n, "mode": "poison"}, headers=headers)
        bench.send({"n": 200 + n, "mode": "park"}, headers=headers)
    bench.send({"n": 50}, headers={"mindstream-not-before": "8000000000000000"}, topic="cobuys.extractor.retry")
    with bench.worker():
        wait_for(lambda: bench.committed() >= 3 * len(forged), "all committed")
        wait_for(lambda: 50 in bench.numbers(), "the retry topic's record is tried")
    assert bench.numbers() == [*range(len(forged)), 50]
    letters = bench.read("cobuys.extractor.dlq")
    assert sorted(json.loads(letter.value)["n"] for letter in letters) == list(range(100, 100 + len(forged)))
    assert {dead_letters.read(letter).topic for letter in letters} == {bench.prefix + "cobuys"}
    parked = bench.numbers("cobuys.extractor.retry")
    assert set(parked) == {50, *range(200, 200 + len(forged))}


def test_a_record_that_cannot_even_be_set_aside_as_usual_gets_a_result() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def handle(record: Record) -> Result:
        if record.offset == 0:
            raise Nasty
        return Result()

    dispatcher = Dispatcher(Stage("extractor", []), {"cobuys": handle}, Settings(concurrency=1))
    dispatcher.start()
    entries = [Entry(Record("cobuys", 0, offset, b"k", b"v"), 1) for offset in range(2)]
    dispatcher.submit(entries)
    wait_for(lambda: all(entry.result for entry in entries), "both get a result", 10)
    dispatcher.stop()
    assert [entry.result.outcome for entry in entries if entry.result] == ["dead_letter:internal", "ok"]
