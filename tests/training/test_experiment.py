"""The experiment's parts: its shop, what counts as a true reason, and how arms are compared."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from models.demo import lessons
from services.common.relations import RELATIONS
from services.kb_sink.release.splits import split_of
from services.lvlm.load import load_engine
from tests.training.conftest import Trained
from training import experiment, intentions, rows, shop


def test_a_strict_release_keeps_every_pair_of_the_shop() -> None:
    counts = {"train": 5, "validation": 1, "test": 2}
    made = shop.pairs(3, counts)
    splits = [[split_of(product) for product in pair_id.split("|")] for pair_id in made]
    assert all(a == b for a, b in splits)
    assert Counter(a for a, _ in splits) == counts
    assert [pair.a.title for pair in made.values()] == [pair.a.title for pair in shop.pairs(3, counts).values()]
    assert [pair.a.title for pair in made.values()] != [pair.a.title for pair in shop.pairs(4, counts).values()]


def test_the_truth_is_true_and_that_of_another_pair_is_not() -> None:
    made = [*shop.pairs(0, {"train": 12}).values()]
    told = [
        (pair, other, relation.name, lessons.intention(pair, relation.name))
        for pair, other in pairwise(made)
        for relation in RELATIONS
        if intentions.fits(pair, relation.name)
    ]
    assert told
    assert all(intentions.true(pair, name, text) for pair, _, name, text in told)
    assert not all(intentions.true(other, name, text) for _, other, name, text in told)
    # The words of a relation's phrase are in every text under it.
    assert not any(intentions.true(pair, one.name, f"{one.phrase} what") for pair in made for one in RELATIONS)


def test_answers_to_a_releases_rows_are_counted_by_pair(trained: Trained) -> None:
    truth = shop.pairs(0, {"train": 8, "test": 4})
    manifest = rows.verified(str(trained.release))
    engine = load_engine(trained.settings)
    found = intentions.asked_as_trained(engine, trained.settings, manifest, truth, "test")
    fitting = {key for key, pair in truth.items() if intentions.fits(pair, "UsedFor")}
    assert found.keys() == {key for key in fitting if split_of(key.split("|")[0]) == "test"}
    assert all(right in (0, 1) and asked == 1 for right, asked in found.values())


def test_seeds_are_compared_with_before_and_taken_together() -> None:
    before, better, worse = ([(value, 2.0)] * 30 for value in (1.0, 2.0, 0.0))
    found = experiment.compared(before, [better, worse], [7, 8])
    assert (found["pairs"], found["asked"], found["before"]["value"]) == (30, 60, 0.5)
    assert found["after"]["7"] == plain_exact(1.0)
    assert (found["better by"]["7"], found["better by"]["8"]) == (plain_exact(0.5), plain_exact(-0.5))
    assert found["over all seeds"] == plain_exact(0.0)
    told: dict[str, Any] = {
        "base": "base@1", "rows": {"generation": 3}, "release": {"id": "R"}, "split": "test", "seconds": {"all": 120},
        "recipe": {"kinds": ["generation"], "seed": [7, 8], "steps": 5, "batch": 2, "accumulate": 2},
        "measures": {"a measure": found},
    }  # fmt: skip
    said = experiment.markdown(told)
    assert "`python -m training.experiment --seeds 7 8`: base@1 on 3 rows of R (generation), 5 steps of 4 rows" in said
    assert "| a measure | 60 of 30 pairs | 0.500 (0.500 to 0.500) | 1.000 (1.000 to 1.000) |" in said


def plain_exact(value: float) -> dict[str, Any]:
    """An estimate of what does not vary."""
    return dict.fromkeys(("value", "low", "high"), pytest.approx(value))
