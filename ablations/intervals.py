"""Shares and their 95 % intervals by the bootstrap: what is drawn anew are pairs, since answers of one hang together.

The percentile method of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, section 13.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_DRAWS = 2000
#: Of one pair: how often it was so, of how many times.
Part = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; NaN where nothing was asked."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(parts: Sequence[Part], seed: int) -> Estimate:
    """How often it was so, over all pairs."""
    values = np.asarray(parts, dtype=float).reshape(-1, 2)
    return _estimate(_over(values.sum(0)), _over(_drawn(values, seed)))


def difference(ours: Sequence[Part], theirs: Sequence[Part], seed: int) -> Estimate:
    """How much more often it was so in `ours` than in `theirs`, which are of the same pairs in the same order."""
    a, b = (np.asarray(parts, dtype=float).reshape(-1, 2) for parts in (ours, theirs))
    if len(a) != len(b):
        raise ValueError("not the same pairs")
    return _estimate(_over(a.sum(0)) - _over(b.sum(0)), _over(_drawn(a, seed)) - _over(_drawn(b, seed)))


def _drawn(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Sums (draws, 2) over pairs (n, 2) drawn with replacement: with one seed and n, the same pairs."""
    chosen = np.random.default_rng(seed).integers(len(values), size=(_DRAWS, len(values)))
    return np.asarray(values[chosen].sum(1))


def _over(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _estimate(value: npt.NDArray[np.float64], draws: npt.NDArray[np.float64]) -> Estimate:
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
