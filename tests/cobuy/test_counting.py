"""Baskets and support, without Kafka."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from services.cobuy import baskets
from services.cobuy.baskets import Basket
from services.cobuy.support import Support

orders = st.lists(
    st.tuples(st.lists(st.sampled_from("abcdef"), max_size=5), st.integers(0, 100)), min_size=1, max_size=12
)


def fed(
    events: list[Basket], window: float, minimum: int = 2, cap: int = 1000
) -> tuple[dict[tuple[str, str], int], list[tuple[str, str]]]:
    """Counts per pair, and the crossings, as the service makes them of one customer's orders."""
    history: list[Basket] = []
    support: dict[tuple[str, str], Support] = {}
    crossings = []
    for order in events:
        for pair in baskets.pairs(history, order, window, cap)[0]:
            key = (pair.first, pair.second)
            counted = support.get(key, Support()).counted(pair.order_id, pair.at, 64)
            if counted is None:
                continue
            if counted.crosses(minimum):
                crossings.append(key)
                counted.crossed = True
            support[key] = counted
        history = baskets.with_order(history, order, 1_000_000)
    return {pair: one.count for pair, one in support.items()}, crossings


def made(drawn: list[tuple[list[str], int]]) -> list[Basket]:
    return [Basket(f"o{i}", at, baskets.distinct(items, 50)[0]) for i, (items, at) in enumerate(drawn)]


@given(orders, st.sampled_from([0.0, 10.0, 1000.0]), st.randoms())
def test_resent_orders_count_once(drawn: list[tuple[list[str], int]], window: float, chance: random.Random) -> None:
    events = sorted(made(drawn), key=lambda order: (order.at, order.order_id))
    resent = [order for event in events for order in [event] * chance.randint(1, 3)]
    assert fed(resent, window) == fed(events, window)


@given(orders, st.sampled_from([0.0, 10.0]))
def test_pairs_are_ordered_distinct_and_within_the_window(drawn: list[tuple[list[str], int]], window: float) -> None:
    history: list[Basket] = []
    for order in made(drawn):
        found, left_out = baskets.pairs(history, order, window, 1000)
        assert left_out == 0
        assert len(set(found)) == len(found)
        near = {p for b in history if abs(order.at - b.at) <= window for p in b.products} if window else set()
        for first, second, _, at in found:
            assert first < second
            assert order.at <= at <= order.at + window
            assert {first, second} & set(order.products)
            assert {first, second} <= set(order.products) | near
        history = baskets.with_order(history, order, 1_000_000)


@given(orders, st.sampled_from([0.0, 10.0, 100.0]), st.randoms())
def test_the_order_of_arrival_does_not_matter(
    drawn: list[tuple[list[str], int]], window: float, chance: random.Random
) -> None:
    events = sorted(made(drawn), key=lambda order: (order.at, order.order_id))
    arriving = chance.sample(events, len(events))
    assert fed(arriving, window)[0] == fed(events, window)[0]


@given(orders)
def test_a_pair_crosses_once(drawn: list[tuple[list[str], int]]) -> None:
    counts, crossings = fed(made(drawn), 1000.0)
    assert sorted(crossings) == sorted(pair for pair, count in counts.items() if count >= 2)


def test_a_basket_is_capped_and_says_by_how_much() -> None:
    assert baskets.distinct(["a", "b", "a", "c", "d"], 3) == (["a", "b", "c"], 1)


def test_a_customer_with_many_orders_stays_bounded() -> None:
    history: list[Basket] = []
    for number in range(baskets.MAX_ORDERS + 50):
        history = baskets.with_order(history, Basket(f"o{number}", 1.0, ["a"]), 1_000_000)
    assert len(history) == baskets.MAX_ORDERS


@given(st.lists(st.text(min_size=1, max_size=20), max_size=20), st.integers(0, 3000))
def test_a_customers_history_fits_in_a_record(names: list[str], most: int) -> None:
    history: list[Basket] = []
    for number, name in enumerate(names):
        history = baskets.with_order(history, Basket(f"o{number}", number, [name, "b"]), most)
        assert len(json.dumps(baskets.dump(history))) <= max(most, 2)
    assert [basket.order_id for basket in history] == [f"o{n}" for n in range(len(names) - len(history), len(names))]


@given(orders, st.integers(1, 12))
def test_an_order_pairs_with_the_nearest_before_it_up_to_the_cap(drawn: list[tuple[list[str], int]], cap: int) -> None:
    events = sorted(made(drawn), key=lambda order: (order.at, order.order_id))
    *history, order = events
    found, left_out = baskets.pairs(history, order, 1000.0, cap)
    room, taken = cap, list(order.products)
    for basket in reversed(history):
        room -= len(basket.products)
        if room < 0:
            break
        taken += basket.products
    assert {p for pair in found for p in (pair.first, pair.second)} <= set(taken)
    alone = [basket for basket in history if set(basket.products) <= set(taken)]
    assert set(baskets.pairs(alone, order, 1000.0, 10**6)[0]) >= set(found)
    assert left_out <= sum(len(basket.products) for basket in history)


@given(st.integers(0, 99), st.integers(0, 200))
def test_one_order_costs_a_bounded_number_of_pairs_early_or_late(place: int, cap: int) -> None:
    days = [Basket(f"o{n:02}", n, [f"p{n}-{i}" for i in range(10)]) for n in range(100)]
    order = days.pop(place)
    found, left_out = baskets.pairs(days, order, 1000.0, cap)
    assert len(found) <= 45 + 10 * (2 * cap + 10)
    assert left_out == 10 * place - min(10 * place, cap // 10 * 10)


@given(orders, st.integers(1, 12), st.randoms())
def test_a_late_order_adds_pairs_at_the_most(
    drawn: list[tuple[list[str], int]], cap: int, chance: random.Random
) -> None:
    events = sorted(made(drawn), key=lambda order: (order.at, order.order_id))
    in_order = fed(events, 1000.0, cap=cap)[0]
    shuffled = fed(chance.sample(events, len(events)), 1000.0, cap=cap)[0]
    assert all(shuffled.get(pair, 0) >= count for pair, count in in_order.items())
