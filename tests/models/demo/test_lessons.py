"""The shop and what is taught of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.demo import SAMPLE, lessons, pictures, sample, shop, words
from services.common.relations import RELATIONS

seeds = st.integers(0, 2**32)
parts = st.sampled_from(["train", "held-out"])
ties = st.sampled_from(list(shop.TIES))


@given(seeds, parts, ties)
def test_every_truth_is_well_formed_and_names_its_reason(seed: int, part: words.Part, tie: shop.Tie) -> None:
    pair = shop.pair(random.Random(seed), part, tie)
    for relation in RELATIONS:
        text = lessons.intention(pair, relation.name)
        assert lessons.well_formed(relation.name, text)
        if text != lessons.NOTHING:
            assert any(key in text for key in lessons.key(pair, relation.name))


@given(seeds, parts)
def test_a_bad_candidate_is_never_the_truth(seed: int, part: words.Part) -> None:
    rng = random.Random(seed)
    pair = shop.pair(rng, part)
    judged = lessons.judgements(rng, part, pair, 16)
    assert len(judged) == 16
    for relation, text, good in judged:
        assert good == (text == lessons.intention(pair, relation) and text != lessons.NOTHING)


@given(seeds)
def test_words_of_training_and_of_evaluation_are_apart(seed: int) -> None:
    for part in ("train", "held-out"):
        pair = shop.pair(random.Random(seed), part, "topic")
        for word in (pair.topic, pair.a.brand, pair.b.brand):
            assert words.part_of(word) == part


@given(seeds, ties)
def test_what_is_said_of_a_product_is_seen_on_it(seed: int, tie: shop.Tie) -> None:
    product = shop.pair(random.Random(seed), "train", tie).a
    said = f"{lessons.description(product)} {', '.join(lessons.features(product))}"
    for name, values in (("colour", pictures.COLOURS), ("pattern", pictures.PATTERNS)):
        value = getattr(product, name)
        assert value in values
        assert (value in lessons.features(product)) == (name in product.seen)
        if name in product.titled:
            assert value in product.title.lower()
    assert ("colour not shown" in said) == ("colour" not in product.seen)
    assert ("no picture" in said) == (not product.pictured)


def test_texts_of_goals_are_not_shared() -> None:
    for field in ("ing", "do", "result", "gear", "want", "symbol"):
        values = [getattr(goal, field) for goal in shop.goals().values()]
        assert len(set(values)) == len(values), field


@pytest.mark.parametrize("shape", pictures.SHAPES)
def test_a_picture_shows_its_colour(shape: str) -> None:
    for colour, rgb in pictures.COLOURS.items():
        drawn = pictures.draw(shape, colour, "plain", 3)
        near = sum(
            count for count, pixel in drawn.getcolors(10**6) or [] if isinstance(pixel, tuple)
            and sum(abs(a - b) for a, b in zip(pixel, rgb, strict=True)) < 60
        )  # fmt: skip
        assert near > drawn.width * drawn.height * 0.04
        assert drawn.tobytes() != pictures.draw(shape, colour, "dotted", 3).tobytes()


def test_the_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    sample.write(tmp_path)
    for name in ("products.jsonl", "purchases.jsonl"):
        assert (tmp_path / name).read_text() == (SAMPLE / name).read_text()
    for line in (SAMPLE / "products.jsonl").read_text().splitlines():
        image = json.loads(line).get("image")
        assert image is None or (SAMPLE / image).is_file()
