"""Wrong options for multiple choice, by their likeness to the right one.

IntentionQA (arXiv 2406.10173) takes distractors of other pairs and grades a question by how like they are to the right
option; what is too like is none, since it may be right as well. Likeness here is the cosine of words' weights, hashed
into few dimensions: no model is needed, and the same texts give the same numbers everywhere.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt

from services.common.leaks import text_key, words
from services.kb_sink.release.splits import draw

LEVELS = ("easy", "medium", "hard")
#: Wrong options of a question.
WRONG = 3
#: Options that a question's distractors are chosen from.
POOL = 512
#: Above this likeness an option may be right as well.
TOO_LIKE = 0.8
_DIMENSIONS = 512
#: Likeness is told in steps this fine: what differs by a processor's rounding is the same.
_STEPS = 10_000
#: Options that are looked at first; hardly ever are there three too few.
_MOST_LOOKED_AT = 16
#: Where in the order of likeness the options of a level begin, as a share of all that may be chosen.
_BEGINS = {"easy": 0.5, "medium": 0.05, "hard": 0.0}


@dataclass(frozen=True)
class Option:
    """Something that can be said, and the products that it was said of."""

    text: str
    products: frozenset[str]


class Smallest:
    """Of all that is offered the few whose hashes are smallest: a sample that does not depend on the order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, str]] = []

    def offer(self, key: str) -> None:
        """Take a key up, if it is one of them; each once."""
        entry = (-draw("pool", key), key)
        if len(self._heap) < self._most:
            if entry not in self._heap:
                heapq.heappush(self._heap, entry)
        elif entry > self._heap[0] and entry not in self._heap:
            heapq.heapreplace(self._heap, entry)

    @property
    def keys(self) -> list[str]:
        """The keys, smallest hash first."""
        return [key for _, key in sorted(self._heap, reverse=True)]


class Pool:
    """Options of one split that distractors are chosen from."""

    def __init__(self, options: Iterable[Option]) -> None:
        once: dict[int, Option] = {}
        for option in options:
            once.setdefault(text_key(option.text), option)
            if len(once) == POOL:
                break
        self._options, self._keys = list(once.values()), list(once)
        counts = Counter(max(place, ~place) for option in self._options for place in _places(option.text))
        #: Of a word that is in every text nothing is learned; of one that is in none, most.
        self._weights = np.full(_DIMENSIONS, np.log(len(self._options) + 1.0), dtype=np.float32)
        for place, count in counts.items():
            self._weights[place] = np.log((len(self._options) + 1.0) / (min(count, len(self._options)) + 0.5))
        self._vectors = self._embed([option.text for option in self._options])

    def choose(
        self, asked: Sequence[Option], level: Sequence[str], also_right: Sequence[frozenset[int]]
    ) -> list[tuple[list[str], list[float]] | None]:
        """Wrong options for each right one, and their likeness to it; None where there are too few.

        `also_right` are keys of texts that are right as well. An option of a pair that shares a product is none.
        """
        if len(self._options) < WRONG or not asked:
            return [None] * len(asked)
        # Many ask of one product: each text is compared once.
        row_of = {text: row for row, text in enumerate(dict.fromkeys(option.text for option in asked))}
        likeness = np.rint(self._embed(list(row_of)) @ self._vectors.T * _STEPS).astype(np.int32)
        # Likeness first, then the place in the pool: no two are the same, so that every way of sorting gives one order.
        ranked = np.sort(-likeness * POOL + np.arange(len(self._options), dtype=np.int32), axis=1)
        return [
            self._one(option, level[number], also_right[number], ranked[row_of[option.text]])
            for number, option in enumerate(asked)
        ]

    def _one(
        self, right: Option, level: str, also: frozenset[int], ranked: npt.NDArray[np.int32]
    ) -> tuple[list[str], list[float]] | None:
        begin = int(_BEGINS[level] * len(ranked))
        chosen: list[tuple[str, float]] = []
        # Where a level has too few, the next less like come, and then those before, the less like first.
        for part in (ranked[begin : begin + _MOST_LOOKED_AT], ranked[begin + _MOST_LOOKED_AT :], ranked[:begin][::-1]):
            for one in part.tolist():
                place = one % POOL
                likeness, option = (place - one) // POOL / _STEPS, self._options[place]
                if likeness > TOO_LIKE or self._keys[place] in also or option.products & right.products:
                    continue
                chosen.append((option.text, likeness))
                if len(chosen) == WRONG:
                    return [text for text, _ in chosen], [likeness for _, likeness in chosen]
        return None

    def _embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (len(texts), dimensions) of length one; of a text without words, zero."""
        vectors = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
        found = [_places(text) for text in texts]
        places = np.fromiter(chain.from_iterable(found), np.int64)
        rows = np.repeat(np.arange(len(texts)), [len(one) for one in found])
        # Below zero is a place's complement: its sign.
        where = np.where(places < 0, ~places, places)
        np.add.at(vectors, (rows, where), np.where(places < 0, -self._weights[where], self._weights[where]))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, np.float32(1))
        return vectors


def _places(text: str) -> list[int]:
    """Where each word of a text stands; the complement is the place with a minus.

    With a sign, words that share a place are as often like as unlike.
    """
    return [_place(word) for word in sorted(set(words(text)))]


@lru_cache(maxsize=100_000)
def _place(word: str) -> int:
    found = zlib.crc32(word.encode())
    return found % _DIMENSIONS if found >> 31 else ~(found % _DIMENSIONS)
