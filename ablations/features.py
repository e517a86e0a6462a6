"""Features on and off in the generation prompt: without, it holds titles alone; pictures and the filter stay."""

from __future__ import annotations

from ablations import compare, truth
from ablations.bench import NO_FEATURES, WHOLE, Bench
from ablations.compare import Measure, share_of_answers
from ablations.report import Report, Table
from models.demo.jobs import Answer
from models.demo.shop import Pair

_ARMS = ("with features", "titles alone")
#: Relations whose truth is a look or a material: what features list.
_OF_FEATURES = ("HasProperty", "MadeOf", "DerivedFrom")


def _true(pair: Pair, one: Answer) -> bool:
    return truth.names_reason(pair, one.relation, one.text)


def _fits(pair: Pair, one: Answer) -> bool:
    return truth.fits(pair, one.relation)


def measures(bench: Bench) -> list[Measure]:
    """What is asked of both arms."""
    return [
        Measure("intention names the true reason", "relations that fit", share_of_answers(_true, _fits)),
        Measure(
            "intention names the true reason",
            "that fit: look and material",
            share_of_answers(_true, lambda pair, one: _fits(pair, one) and one.relation in _OF_FEATURES),
        ),
        Measure(
            "intention names the true reason",
            "that fit: all others",
            share_of_answers(_true, lambda pair, one: _fits(pair, one) and one.relation not in _OF_FEATURES),
        ),
        Measure(
            "intention is the truth word for word",
            "relations that fit",
            share_of_answers(lambda pair, one: truth.word_for_word(pair, one.relation, one.text), _fits),
        ),
        Measure("is kept", "all", share_of_answers(lambda _, one: bench.kept(one), lambda *_: True)),
        Measure("is true", "kept", share_of_answers(_true, lambda _, one: bench.kept(one))),
    ]


def measure(bench: Bench) -> Report:
    """Both arms over the same pairs."""
    arms = dict(zip(_ARMS, (bench.run(WHOLE), bench.run(NO_FEATURES)), strict=True))
    made = compare.rows(bench, arms, measures(bench))
    return Report(
        "features",
        [Table("Features in the generation prompt against titles alone", made)],
        lambda on: compare.draw(on, made, _ARMS),
    )
