"""The in-order window against a plain model of what it must do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.common.records import Record
from services.common.runtime.stage import Result
from services.common.runtime.window import Window

DONE = Result()


def record(partition: int, offset: int, size: int = 10) -> Record:
    return Record("t", partition, offset, b"k", b"x" * size)


@given(
    finishing=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), unique=True),
    limit=st.integers(1, 30),
)
def test_only_the_finished_prefix_of_each_partition_comes_out(finishing: list[tuple[int, int]], limit: int) -> None:
    window = Window(100, 1_000_000)
    entries = {(p, o): window.add(record(p, o)) for o in range(8) for p in range(3)}
    for place in finishing:
        entries[place].result = DONE
    out = window.finished(limit)
    window.remove(out)
    assert len(out) <= limit
    for partition in range(3):
        offsets = [e.record.offset for e in out if e.record.partition == partition]
        prefix = next((o for o in range(8) if (partition, o) not in set(finishing)), 8)
        assert offsets == list(range(len(offsets)))
        assert len(offsets) <= prefix
        assert window.count(("t", partition)) == 8 - len(offsets)
    if limit == 30:
        assert len(out) == sum(next((o for o in range(8) if (p, o) not in set(finishing)), 8) for p in range(3))
    assert window.records == 24 - len(out)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_bytes_are_counted_and_given_back(sizes: list[int]) -> None:
    window = Window(10_000, 50_000)
    for offset, size in enumerate(sizes):
        window.add(record(0, offset, size)).result = DONE
    assert window.bytes >= sum(sizes)
    assert window.full == (window.bytes >= 50_000)
    window.remove(window.finished(10_000))
    assert (window.records, window.bytes) == (0, 0)


def test_a_dropped_partition_is_forgotten_and_its_entries_say_so() -> None:
    window = Window(10, 10_000)
    lost, kept = window.add(record(0, 0)), window.add(record(1, 0))
    window.drop(("t", 0))
    assert (lost.dropped, kept.dropped) == (True, False)
    assert window.records == 1
    lost.result = kept.result = DONE
    assert window.finished(10) == [kept]


def test_a_record_larger_than_the_window_passes_alone() -> None:
    window = Window(10, 1000)
    assert not window.full
    big = window.add(record(0, 0, 5000))
    assert window.full
    big.result = DONE
    window.remove(window.finished(10))
    assert not window.full
