"""Near-duplicates: what is left out is near what stays, and what stays does not depend on the order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import datasets
from services.common.leaks import words
from services.common.settings import Settings
from services.kb_sink.release.near import Group
from tests.kb_sink.test_release import Said, database, fill, made, new_database, released, rows, shop

__all__ = ["database", "made", "new_database"]
_texts = st.lists(
    st.lists(st.sampled_from(["camping", "camp", "trips", "trip", "soup", "é", "x"]), max_size=5).map(" ".join),
    max_size=30,
)


def left_out(texts: Sequence[str], likeness: float, order: Sequence[int]) -> set[int]:
    """Texts, by number, that are left out when all come in an order; those with small numbers stay first."""
    group = Group()
    for one in order:
        group.add(one, float(one), texts[one])
    return set(group.left_out(likeness).tolist())


def likeness(one: str, other: str) -> float:
    """The definition: Jaccard of all groups of four bytes."""
    first, second = (
        {said[at : at + 4] for at in range(len(said) - 3)}
        for said in (f" {' '.join(words(text))} ".encode().ljust(4) for text in (one, other))
    )
    return len(first & second) / len(first | second)


@given(_texts, st.sampled_from([0.5, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_what_is_left_out_is_near_one_that_stays(texts: list[str], near: float, order: random.Random) -> None:
    numbers = list(range(len(texts)))
    out = left_out(texts, near, numbers)
    stay = [one for one in numbers if one not in out]
    for one in out:
        assert any(likeness(texts[one], texts[other]) >= near for other in stay if other < one)
    order.shuffle(numbers)
    assert left_out(texts, near, numbers) == out


def test_texts_that_are_near_are_found() -> None:
    drawn = random.Random(1)
    base = [" ".join(f"{drawn.getrandbits(20):x}" for _ in range(6)) for _ in range(3000)]
    texts = base + [f"{text[:-1]}_" for text in base]
    near = {number for number in range(3000, 6000) if likeness(texts[number], texts[number - 3000]) >= 0.8}
    assert len(near) > 2500
    found = left_out(texts, 0.8, range(6000))
    assert found <= near
    assert len(found) >= 0.99 * len(near)


@pytest.mark.integration
def test_a_release_has_one_of_near_reasons_and_counts_the_others(made: Callable[..., Settings], database: str) -> None:
    near = [
        Said(1, 2, "UsedFor", "camping trips in the mountains", 0.8),
        Said(3, 4, "UsedFor", "camping trip in the mountains", 0.9),
        Said(5, 6, "UsedFor", "Camping trips, in the mountains!", 0.7),
        Said(1, 2, "CapableOf", "camping trips in the mountains", 0.8),
        Said(7, 8, "UsedFor", "camping trips in the mountains", 0.2),
    ]
    said = [*near, *(one for one in shop(31, pairs=60) if one.relation not in ("UsedFor", "CapableOf"))]
    fill(database, said)
    all_stay = released(made(release_split="pair"))
    folded = released(made(release_split="pair", release_near=0.75))
    texts = {"UsedFor": [], "CapableOf": []}  # type: dict[str, list[tuple[str, bool]]]
    for row in rows(folded, "judgement"):
        texts.get(row["relation"], []).append((row["text"], row["accepted"]))
    assert {row["pair_id"] for row in rows(all_stay, "judgement", "train")} >= {"p001|p002", "p003|p004", "p005|p006"}
    # Another relation and another verdict say something else.
    assert sorted(texts["UsedFor"]) == [
        ("they are both used for camping trip in the mountains", True),
        ("they are both used for camping trips in the mountains", False),
    ]
    assert texts["CapableOf"] == [("they are both capable of camping trips in the mountains", True)]
    count = folded.manifest["left_out"]["near a text that stays"]
    assert len(rows(folded, "judgement")) == len(said) - count
    assert len(rows(all_stay, "judgement")) == len(said)
    assert folded.manifest["settings"]["near"] == 0.75
    assert datasets.verify(folded.url) == []
