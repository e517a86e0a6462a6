"""What is counted of kept intentions, and what is remembered of them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    Intention,
    JudgedIntention,
    JudgedIntentions,
)
from prometheus_client import REGISTRY

from services.filter.quality import Quality


def judged(*kept: str, rejected: tuple[str, ...] = (), relation: str = "UsedFor") -> JudgedIntentions:
    featured = FeaturedCoBuy()
    featured.product_a.title, featured.product_b.title = "Carbon Tripod", "Spotting Scope"
    featured.product_a.features.append("black")
    featured.product_b.uses.append("watching birds")
    verdicts = {VERDICT_ACCEPTED: kept, VERDICT_REJECTED: rejected}
    return JudgedIntentions(
        featured=featured,
        judged=[
            JudgedIntention(intention=Intention(relation=relation, text=text), verdict=verdict)
            for verdict, texts in verdicts.items()
            for text in texts
        ],
    )


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"mindstream_{name}", labels) or 0.0


def grounded() -> tuple[float, float, float]:
    """Shares, how many, and how many without any word."""
    return (
        value("intention_grounding_sum"),
        value("intention_grounding_count"),
        value("intention_grounding_bucket", le="0.0"),
    )


def test_grounding_is_over_titles_features_and_uses_of_what_is_kept() -> None:
    before = grounded()
    Quality().saw(
        judged(
            "watching birds with the black tripod", "a trip to the moon", "the tripod of the moon", rejected=("moon",)
        )
    )
    total, count, none = (now - then for now, then in zip(grounded(), before, strict=True))
    assert (total, count, none) == (1 + 0 + 0.5, 3, 1)


def test_what_was_said_of_another_pair_is_counted_by_relation() -> None:
    quality = Quality()

    def counted() -> float:
        return value("intentions_said_before_total", relation="UsedFor")

    before = counted()
    quality.saw(judged("watching birds", "watching birds", rejected=("resting",)))
    assert counted() == before, "samples of one pair are no repetition"
    quality.saw(judged("Watching birds.", "resting", relation="IsA"))
    assert counted() == before, "another relation says another sentence"
    quality.saw(judged("Watching birds.", "resting"))
    assert counted() == before + 1


def test_what_the_window_has_forgotten_is_new_again() -> None:
    quality = Quality(window=2)
    before = value("intentions_said_before_total", relation="UsedFor")
    for text in ("one", "two", "three", "one"):
        quality.saw(judged(text))
    assert value("intentions_said_before_total", relation="UsedFor") == before
    quality.saw(judged("three"))
    assert value("intentions_said_before_total", relation="UsedFor") == before + 1


texts = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@given(st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=6), st.integers(1, 5))
def test_distinct_n_is_that_of_the_last_intentions(pairs: list[list[str]], window: int) -> None:
    quality = Quality(window)
    for kept in pairs:
        quality.saw(judged(*kept))
    last = [text.split() for kept in pairs for text in kept][-window:]
    for n, grams in (
        ("1", [word for said in last for word in said]),
        ("2", [p for said in last for p in pairwise(said)]),
    ):
        assert value("intention_distinct_ratio", n=n) == len(set(grams)) / max(1, len(grams))


def test_a_pair_of_which_nothing_is_kept_changes_nothing() -> None:
    before = grounded()
    Quality().saw(judged(rejected=("watching birds",)))
    assert grounded() == before
