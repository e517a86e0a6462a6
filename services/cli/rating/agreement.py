"""How far raters agree, with each other and with the filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Of nominal ratings; None where nothing can be said: too few, or (alpha) all of them the same."""

    #: Share of agreeing pairs of ratings of one thing.
    observed: float | None
    #: What is beyond chance: 1 is perfect, 0 is none.
    alpha: float | None


def agreement(units: Iterable[Sequence[Hashable]]) -> Agreement:
    """Krippendorff's alpha for nominal data, any number of raters, some of them missing; a unit is one thing's ratings.

    Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: coincidences within units, each unit's
    pairs weighted by one less than its ratings, against what the values' frequencies would give by chance.
    """
    same, values = 0.0, Counter[Hashable]()
    for unit in units:
        if len(unit) > 1:
            counts = Counter(unit)
            same += sum(n * (n - 1) for n in counts.values()) / (len(unit) - 1)
            values += counts
    total = values.total()
    if not total:
        return Agreement(None, None)
    observed = same / total
    expected = sum(n * (n - 1) for n in values.values()) / (total * (total - 1))
    return Agreement(observed, (observed - expected) / (1 - expected) if len(values) > 1 else None)


def majority(ratings: Sequence[bool]) -> bool | None:
    """What more than half say; None where they are even."""
    ayes = 2 * sum(ratings)
    return None if ayes == len(ratings) else ayes > len(ratings)


@dataclass(frozen=True)
class Verdicts:
    """The filter's verdicts against what raters say: counts of intentions."""

    kept_right: int = 0
    kept_wrong: int = 0
    rejected_right: int = 0
    rejected_wrong: int = 0
    #: Intentions whose raters are even.
    undecided: int = 0

    @property
    def precision(self) -> float | None:
        """Share of what is kept that raters would keep."""
        return _over(self.kept_right, self.kept_right + self.kept_wrong)

    @property
    def recall(self) -> float | None:
        """Share of what raters would keep that is kept."""
        return _over(self.kept_right, self.kept_right + self.rejected_wrong)

    @property
    def decided(self) -> int:
        """Intentions on which the filter and raters can be compared."""
        return self.kept_right + self.kept_wrong + self.rejected_right + self.rejected_wrong

    @property
    def agreeing(self) -> float | None:
        """Share of these on which they say the same."""
        return _over(self.kept_right + self.rejected_right, self.decided)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): what of that is beyond the chance that each one's own yeses and noes give.

        None where there is nothing beyond it to say: no intention, or both have said but one and the same.
        """
        n, kept, ayes = self.decided, self.kept_right + self.kept_wrong, self.kept_right + self.rejected_wrong
        by_chance = kept * ayes + (n - kept) * (n - ayes)
        same = self.kept_right + self.rejected_right
        return (n * same - by_chance) / (n * n - by_chance) if n * n > by_chance else None

    @property
    def against(self) -> Agreement:
        """The filter as a second rater beside the majority."""
        return agreement(
            [(True, True)] * self.kept_right
            + [(True, False)] * self.kept_wrong
            + [(False, False)] * self.rejected_right
            + [(False, True)] * self.rejected_wrong
        )


def verdicts(judged: Iterable[tuple[bool, Sequence[bool]]]) -> Verdicts:
    """Of intentions that were rated: whether the filter kept each, and its ratings."""
    counts: Counter[tuple[bool, bool | None]] = Counter((kept, majority(ratings)) for kept, ratings in judged)
    return Verdicts(
        counts[True, True],
        counts[True, False],
        counts[False, False],
        counts[False, True],
        counts[True, None] + counts[False, None],
    )


def _over(part: int, whole: int) -> float | None:
    return part / whole if whole else None
