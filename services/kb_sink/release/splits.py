"""What is train, validation or test, and what must be left out so that none knows of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.leaks import text_key
from services.kb_sink.release.numbers import Keys

SPLITS = ("train", "validation", "test")
#: Of 100 products (or pairs) how many are held out for each.
_HELD_OUT = {"test": 10, "validation": 10}


def split_of(key: str) -> str:
    """The split of a product, or of a pair where those are split: the same in every release."""
    place = int(digest("split", key), 16) % 100
    for split, share in _HELD_OUT.items():
        if place < share:
            return split
        place -= share
    return "train"


def digest(*parts: str) -> str:
    """A hash of text, as hexadecimal digits; choices made by it are the same in every release."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def draw(*parts: str) -> int:
    """A number below DRAWN that texts decide, the same in every release."""
    return int(digest(*parts)[:15], 16)


#: How many numbers `draw` may give.
DRAWN = 16**15


@dataclass
class Splits:
    """Where each intention belongs.

    By product, which is strict: a pair whose products are in two splits is in none, and a text that a held-out pair
    has is in no other split. By pair: all of a pair is in one split, its products and texts may be in others too.
    """

    by_product: bool
    #: Of a delta, the texts that its base and that one's bases have, by split: they stay where they are.
    published: Mapping[str, Keys] = field(default_factory=dict)
    #: Texts of the held-out splits.
    _texts: dict[str, set[int]] = field(default_factory=lambda: {split: set() for split in _HELD_OUT})

    def of_pair(self, pair: str, product_a: str, product_b: str) -> str | None:
        """The split of a pair; None where its products are in two."""
        if not self.by_product:
            return split_of(pair)
        split = split_of(product_a)
        return split if split == split_of(product_b) else None

    def saw(self, split: str, sentence: str) -> None:
        """Remember that a pair of a split has this text."""
        if self.by_product and split in self._texts:
            self._texts[split].add(text_key(sentence))

    def published_elsewhere(self, split: str, sentence: str) -> bool:
        """Whether a base has the text in another split."""
        if not self.published:
            return False
        key = text_key(sentence)
        return any(key in texts for other, texts in self.published.items() if other != split)

    def known_elsewhere(self, split: str, sentence: str) -> bool:
        """Whether a split that this one must know nothing of has the text: test has the first right to it.

        Before that a base has: what it has in this split is not taken out of it again.
        """
        if self.published_elsewhere(split, sentence):
            return True
        if not self.by_product or split == "test":
            return False
        key = text_key(sentence)
        if split in self.published and key in self.published[split]:
            return False
        others = self._texts if split == "train" else {"test": self._texts["test"]}
        return any(key in texts for texts in others.values())
