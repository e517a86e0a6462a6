"""What counts as true of a pair, and what only its pictures tell."""

from __future__ import annotations

import random

from hypothesis import assume, given
from hypothesis import strategies as st

from ablations import truth
from models.demo import lessons, shop
from services.common.relations import RELATIONS

pairs = st.builds(
    lambda seed, tie: shop.pair(random.Random(seed), "held-out", tie),
    st.integers(0, 2**32),
    st.sampled_from([*shop.TIES]),
)


def test_every_goal_stands_in_one_department() -> None:
    listed = [goal for goals in truth.DEPARTMENTS.values() for goal in goals]
    assert sorted(listed) == sorted(shop.goals())


@given(pairs)
def test_the_truth_is_true_and_nothing_else_fits(pair: shop.Pair) -> None:
    for relation in RELATIONS:
        text = lessons.intention(pair, relation.name)
        assert truth.names_reason(pair, relation.name, text) == truth.fits(pair, relation.name)
        assert truth.word_for_word(pair, relation.name, text) == truth.fits(pair, relation.name)
        assert not truth.word_for_word(pair, relation.name, lessons.NOTHING)


@given(pairs)
def test_every_goal_that_both_kinds_serve_is_a_reason(pair: shop.Pair) -> None:
    readings = truth.readings(pair)
    if pair.goal is None:
        assert readings == [pair]
        return
    assert pair.goal in [made.goal for made in readings]
    for made in readings:
        assert truth.word_for_word(pair, "UsedFor", lessons.intention(made, "UsedFor"))


@given(pairs)
def test_another_goal_is_no_reason(pair: shop.Pair) -> None:
    known = {goal for product in (pair.a, pair.b) for goal in product.kind.goals}
    other = next(goal for name, goal in shop.goals().items() if name not in known)
    text = f"{other.ing} with neither"
    # A made-up kind or topic may be called by any English word, one of these too.
    assume(not any(word and word in text for word in (pair.a.kind.name, pair.b.kind.name, pair.topic)))
    assert not truth.names_reason(pair, "UsedFor", text)
    assert not truth.word_for_word(pair, "UsedFor", text)


@given(pairs)
def test_pictures_tell_what_titles_do_not(pair: shop.Pair) -> None:
    alone = truth.text_only(pair)
    assert not truth.pictures_tell(alone)
    if truth.pictures_tell(pair):
        assert pair.a.pictured
        assert pair.b.pictured
        told = lessons.intention(pair, "HasProperty")
        assert told != lessons.NOTHING
        assert any(word not in f"{pair.a.title} {pair.b.title}".lower() or word not in pair.a.title.lower()
                   or word not in pair.b.title.lower() for word in told.split(" and "))  # fmt: skip
