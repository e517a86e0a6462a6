"""Which intentions of a snapshot go into a release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from services.common.leaks import key
from services.common.settings import Settings
from services.kb_sink.release.numbers import Keys
from services.kb_sink.release.splits import DRAWN, draw


class Selection:
    """Which intentions are kept: by the stored verdict or a threshold of its own, no relation too often, none twice."""

    def __init__(self, settings: Settings) -> None:
        self._threshold, self._balance = settings.release_threshold, settings.release_balance
        self._shares: dict[str, float] = {}
        self._folded = Keys()

    def accepted(self, score: float, accepted: bool) -> bool:
        """Whether it is good enough."""
        return accepted if self._threshold is None else score >= self._threshold

    def balance(self, kept: Counter[str]) -> None:
        """Of relations that are kept too often only a share goes on."""
        if self._balance and kept:
            most = self._balance * sorted(kept.values())[len(kept) // 2]
            self._shares = {relation: min(1.0, most / count) for relation, count in kept.items()}

    def goes_on(self, intention: str, relation: str) -> bool:
        """Whether an accepted intention is among its relation's share."""
        share = self._shares.get(relation, 1.0)
        return share >= 1.0 or draw("balance", intention) < share * DRAWN

    def fold(self, intentions: Iterable[npt.NDArray[np.uint64]]) -> None:
        """These, by their ids' keys, are near others that stay."""
        self._folded = Keys(intentions)

    def folded(self, intention: str) -> bool:
        """Whether an intention is near another that stays."""
        return bool(self._folded) and key(intention) in self._folded
