"""The order of examples, which a run that was stopped must find again."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from training.batches import order


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 40), st.integers(0, 3))
def test_every_example_comes_up_as_often_as_any_other(lengths: list[int], size: int, count: int, seed: int) -> None:
    chosen = order(lengths, size, count, seed)
    assert len(chosen) == size * count
    counts = Counter(chosen)
    assert max(counts.values()) - min(counts[place] for place in range(len(lengths))) <= 1
    assert chosen == order(lengths, size, count, seed)


def test_a_batch_has_examples_of_like_length_and_seeds_differ() -> None:
    lengths = list(range(1000))
    chosen = order(lengths, 10, 100, 0)
    spread = [max(batch) - min(batch) for batch in (chosen[i : i + 10] for i in range(0, 1000, 10))]
    assert max(spread) < 100
    assert chosen != order(lengths, 10, 100, 1)
    assert chosen != sorted(chosen)
