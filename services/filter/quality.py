"""Signs of quality that need no label, of what the filter keeps: metrics, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from mindstream.events.v1.features_pb2 import ProductFeatures
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, JudgedIntentions

from services.common import metrics
from services.common.grounding import content_words, grounding
from services.common.leaks import words
from services.common.relations import BY_NAME

Key = TypeVar("Key", bound=Hashable)
#: Kept intentions that are remembered, and words of each.
WINDOW, _WORDS = 1000, 32
#: A relation and a text's words.
_Said = tuple[str, tuple[str, ...]]


class Quality:
    """Counts what is kept, and remembers the last of it."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._last: deque[_Said] = deque()
        self._said: Counter[_Said] = Counter()
        #: Of all that is remembered, by n.
        self._grams: dict[int, Counter[tuple[str, ...]]] = {1: Counter(), 2: Counter()}

    @staticmethod
    def begin() -> None:
        """Have the counters stand at zero before the first; see `metrics.begin`."""
        for relation in BY_NAME:
            metrics.INTENTIONS_SAID_BEFORE.labels(relation)

    def saw(self, judged: JudgedIntentions) -> None:
        """Count a co-buy's kept intentions, once they are committed."""
        kept = [one.intention for one in judged.judged if one.verdict == VERDICT_ACCEPTED]
        if not kept:
            return
        known = content_words(" ".join(_told(judged.featured.product_a, judged.featured.product_b)))
        said: list[_Said] = []
        for one in kept:
            share = grounding(one.text, known)
            if share is not None:
                metrics.INTENTION_GROUNDING.observe(share)
            said.append((one.relation, tuple(words(one.text)[:_WORDS])))
            # What other pairs' intentions said: those of this one are not remembered yet.
            if said[-1] in self._said:
                metrics.INTENTIONS_SAID_BEFORE.labels(one.relation).inc()
        for text in said:
            self._remember(text)
        for n, grams in self._grams.items():
            metrics.INTENTION_DISTINCT.labels(str(n)).set(len(grams) / max(1, grams.total()))

    def _remember(self, said: _Said) -> None:
        self._last.append(said)
        self._said[said] += 1
        for n, grams in self._grams.items():
            grams.update(_grams(said[1], n))
        if len(self._last) > self._window:
            oldest = self._last.popleft()
            _forget(self._said, [oldest])
            for n, grams in self._grams.items():
                _forget(grams, _grams(oldest[1], n))


def _told(*products: ProductFeatures) -> Iterable[str]:
    """All that the generator was told of the products."""
    for product in products:
        yield from (product.title, product.description, *product.features, *product.uses)


def _grams(said: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [(word,) for word in said] if n == 1 else list(pairwise(said))


def _forget(counts: Counter[Key], things: Iterable[Key]) -> None:
    for thing in things:
        counts[thing] -= 1
        if not counts[thing]:
            del counts[thing]
