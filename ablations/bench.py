"""Pairs of the held-out shop, sent through the pipeline with a part of it left out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mindstream.inference.v1.common_pb2 import ProductView
from rich.console import Console
from rich.progress import track

from ablations import truth
from models.demo import shop
from models.demo.jobs import Answer, Model
from models.demo.shop import Pair
from models.demo.trees import Views

T = TypeVar("T")
#: Looks in common come up as often as in the model's lessons: pairs without would be thrown away.
_ALIKE = 1.6


@dataclass(frozen=True)
class Arm:
    """The pipeline, whole unless it says otherwise."""

    #: Without, neither the extractor nor the generator nor the filter sees one.
    pictures: bool = True
    #: Without, the generator is told titles alone; the filter is told all.
    features: bool = True
    #: Candidates under each relation: the first greedy, the others sampled.
    samples: int = 1


WHOLE, TEXT_ONLY, NO_FEATURES = Arm(), Arm(pictures=False), Arm(features=False)


@dataclass(frozen=True)
class Outcome:
    """What the pipeline said of a pair, and the tokens that generator and filter read and wrote for it."""

    pair: Pair
    views: Views
    answers: list[Answer]
    read: int
    written: int


class Bench:
    """One engine and its pairs. What one ablation has computed, another takes from here."""

    def __init__(self, model: Model, seed: int, count: int) -> None:
        self.model, self.seed, self.count = model, seed, count
        self.threshold = model.settings.filter_threshold
        self._views: dict[tuple[str, bool], list[Views]] = {}
        self._outcomes: dict[tuple[str, Arm], list[Outcome]] = {}

    def rng(self, what: str) -> random.Random:
        """Chance of its own for each thing that is drawn."""
        return random.Random(f"{self.seed}/{what}")

    def kept(self, answer: Answer) -> bool:
        """Whether the filter lets it through at its default threshold."""
        return bool(answer.text) and answer.score >= self.threshold

    def pairs(self, name: str) -> list[Pair]:
        """`shop`: pairs as they come; `looks`: those whose pictures show a look in common that the titles do not."""
        rng, found = self.rng(name), list[Pair]()
        while len(found) < self.count:
            pair = shop.pair(rng, "held-out", alike=_ALIKE if name == "looks" else 1.0)
            if name == "shop" or truth.pictures_tell(pair):
                found.append(pair)
        return found

    def run(self, arm: Arm = WHOLE, name: str = "shop") -> list[Outcome]:
        """Every pair through the pipeline.

        Raises:
            PromptRefused, BrokenNumbers, WorldFault: as the engine does.
        """
        if (name, arm) not in self._outcomes:
            both = list(zip(self.pairs(name), self.views(name, arm.pictures), strict=True))
            self._outcomes[name, arm] = [self._one(pair, views, arm) for pair, views in _shown(both, f"{name}: {arm}")]
        return self._outcomes[name, arm]

    def views(self, name: str, pictures: bool) -> list[Views]:
        """What the extractor says of every pair's products."""
        if (name, pictures) not in self._views:
            pairs = [pair if pictures else truth.text_only(pair) for pair in self.pairs(name)]
            self._views[name, pictures] = [self.model.views(pair) for pair in _shown(pairs, f"{name}: features")]
        return self._views[name, pictures]

    def _one(self, pair: Pair, views: Views, arm: Arm) -> Outcome:
        shown = pair if arm.pictures else truth.text_only(pair)
        a, b = (ProductView(title=view.title) for view in views)
        made, wrote = self.model.generated(shown, views if arm.features else (a, b), arm.samples, self.seed)
        answers, judged = self.model.judged(shown, made, views)
        return Outcome(pair, views, answers, wrote.prompt_tokens + judged.prompt_tokens, wrote.generated_tokens)


def _shown(things: Sequence[T], what: str) -> Iterable[T]:
    return track(things, what, console=Console(stderr=True), transient=True)
