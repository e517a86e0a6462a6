"""Text alone against text and pictures (MIND, arXiv 2406.10701): on looks that it alone shows, and on the rest."""

from __future__ import annotations

from collections.abc import Callable

from ablations import compare, truth
from ablations.bench import TEXT_ONLY, WHOLE, Bench, Outcome
from ablations.compare import Measure, share_of_answers
from ablations.intervals import Part
from ablations.report import Report, Table

_LOOK = "HasProperty"
#: Where the truth stands.
ONLY_PICTURES, TITLES = "only pictures show it", "titles tell it"
_ARMS = ("with pictures", "text only")


def _named(attribute: str, titled: bool) -> Callable[[Outcome], Part]:
    """Whether features name the attribute of a product whose title does, or does not, tell it."""

    def of(outcome: Outcome) -> Part:
        both = zip((outcome.pair.a, outcome.pair.b), outcome.views, strict=True)
        found = [
            getattr(product, attribute) in view.features
            for product, view in both
            if (attribute in product.titled) == titled
        ]
        return sum(found), len(found)

    return of


def measures(bench: Bench) -> list[Measure]:
    """What is asked of both arms."""

    def look(counted: Callable[[bool, bool], bool]) -> Callable[[Outcome], Part]:
        """Of intentions about the look in common: whether it is the true one, and whether it is kept."""
        return share_of_answers(
            lambda pair, one: counted(truth.word_for_word(pair, _LOOK, one.text), bench.kept(one)),
            lambda _, one: one.relation == _LOOK,
        )

    return [
        Measure("features name the colour", ONLY_PICTURES, _named("colour", titled=False)),
        Measure("features name the pattern", ONLY_PICTURES, _named("pattern", titled=False)),
        Measure("intention names the look in common", ONLY_PICTURES, look(lambda true, _: true)),
        Measure("… and is kept", ONLY_PICTURES, look(lambda true, kept: true and kept)),
        Measure("a wrong look is claimed and kept", ONLY_PICTURES, look(lambda true, kept: kept and not true)),
        Measure("features name the colour", TITLES, _named("colour", titled=True)),
        Measure("features name the material", TITLES, _named("material", titled=True)),
        Measure(
            "intention names the true reason",
            TITLES,
            share_of_answers(
                lambda pair, one: truth.names_reason(pair, one.relation, one.text),
                lambda pair, one: one.relation != _LOOK and truth.fits(truth.text_only(pair), one.relation),
            ),
        ),
    ]


def measure(bench: Bench) -> Report:
    """Both arms over the same pairs, whose pictures show a look in common that their titles do not tell."""
    arms = dict(zip(_ARMS, (bench.run(WHOLE, "looks"), bench.run(TEXT_ONLY, "looks")), strict=True))
    made = compare.rows(bench, arms, measures(bench))
    return Report(
        "text-only", [Table("With pictures against text only", made)], lambda on: compare.draw(on, made, _ARMS), (8, 5)
    )
