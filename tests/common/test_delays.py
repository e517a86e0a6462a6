"""Lag in records and in seconds."""

from __future__ import annotations

import time

import pytest
from prometheus_client import REGISTRY

from services.common.delays import Delays


def told(name: str, partition: int = 3) -> float | None:
    labels = {"stage": "delays", "topic": "t", "partition": str(partition)}
    return REGISTRY.get_sample_value(f"mindstream_consumer_lag_{name}", labels)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> tuple[Delays, list[float]]:
    clock = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    return Delays("delays"), clock


def test_seconds_count_from_the_oldest_record(delays: tuple[Delays, list[float]]) -> None:
    made, clock = delays
    made.report("t", 3, records=7, next_offset=5, oldest_ms=999_940_000)
    assert (told("records"), told("seconds")) == (7, 60)
    clock[0] += 5
    made.report("t", 3, records=0, next_offset=12, oldest_ms=None)
    assert (told("records"), told("seconds")) == (0, 0)


@pytest.mark.parametrize("oldest_ms", [None, 0, -1])
def test_or_from_when_it_was_first_seen_waiting(delays: tuple[Delays, list[float]], oldest_ms: int | None) -> None:
    made, clock = delays
    made.report("t", 3, 7, 5, oldest_ms)
    clock[0] += 20
    made.report("t", 3, 9, 5, oldest_ms)
    assert told("seconds") == 20
    made.report("t", 3, 9, 6, oldest_ms)  # Another one is the oldest now.
    assert told("seconds") == 0


def test_a_clock_that_is_behind_gives_no_negative_age(delays: tuple[Delays, list[float]]) -> None:
    made, _ = delays
    made.report("t", 3, 1, 5, oldest_ms=1_000_500_000)
    assert told("seconds") == 0


def test_a_partition_that_went_is_told_of_no_more(delays: tuple[Delays, list[float]]) -> None:
    made, _ = delays
    made.report("t", 3, 1, 5, None)
    made.report("t", 4, 2, 5, None)
    made.forget("t", 3)
    assert told("records") is None
    assert told("seconds") is None
    assert told("records", 4) == 2
    made.forget("t", 9)  # Never told of.
