"""Intervals hold what they should, and pairs are what is drawn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.intervals import difference, ratio

counts = st.integers(1, 20).flatmap(lambda asked: st.tuples(st.integers(0, asked), st.just(asked)))
parts = st.lists(counts, min_size=1, max_size=30)


@given(parts, st.integers(0, 10))
def test_an_interval_holds_its_share(given_parts: list[tuple[int, int]], seed: int) -> None:
    found = ratio(given_parts, seed)
    assert found.value == pytest.approx(sum(n for n, _ in given_parts) / sum(of for _, of in given_parts))
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1
    assert found == ratio(given_parts, seed)


@given(parts, st.integers(0, 10))
def test_nothing_differs_from_itself(given_parts: list[tuple[int, int]], seed: int) -> None:
    found = difference(given_parts, given_parts, seed)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_an_interval_is_as_wide_as_the_normal_one_where_pairs_are_one_answer_each() -> None:
    found = ratio([(number % 2, 1) for number in range(400)], 1)
    assert found.low == pytest.approx(0.5 - 0.049, abs=0.008)
    assert found.high == pytest.approx(0.5 + 0.049, abs=0.008)


def test_answers_of_one_pair_are_not_counted_as_many() -> None:
    wide = ratio([(20 * (number % 2), 20) for number in range(20)], 1)
    narrow = ratio([(number % 2, 1) for number in range(400)], 1)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_difference_of_the_same_pairs_is_narrower_than_that_of_two_shares() -> None:
    ours = [(number % 2, 1) for number in range(200)]
    theirs = [(int(number % 2 and number % 10 > 1), 1) for number in range(200)]
    found = difference(ours, theirs, 1)
    assert found.low > 0
    assert found.high - found.low < ratio(ours, 1).high - ratio(ours, 1).low


def test_of_nothing_there_is_no_share() -> None:
    found = ratio([(0, 0), (0, 0)], 1)
    assert math.isnan(found.value)
    assert str(found) == "-"
    with pytest.raises(ValueError, match="same pairs"):
        difference([(1, 1)], [(1, 1), (0, 1)], 1)
