"""Words of the made-up shop: brands, and things and topics that the model has never heard of.

Half are made up of syllables, half are English words by their frequency (`wordfreq`), so that titles of real shops do
not look foreign. A hash keeps the words of training and of evaluation apart: no brand and no unknown word is in both.
"""

from __future__ import annotations

import hashlib
import random
from functools import cache
from typing import Literal

Part = Literal["train", "held-out"]

_STARTS = (
    "b", "br", "bl", "c", "cr", "ch", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kl", "kr", "l", "m",
    "n", "p", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl", "sn", "sp", "st", "str", "t", "th", "tr", "v", "w",
    "wh", "y", "z",
)  # fmt: skip
_MIDDLES = ("a", "e", "i", "o", "u", "ai", "au", "ea", "ee", "ie", "oa", "oo", "ou", "ar", "er", "ir", "or", "ur")
_ENDS = (
    "b", "ck", "ct", "d", "ft", "g", "l", "ll", "m", "mp", "n", "nd", "ng", "nt", "p", "r", "rd", "rk", "rm", "rn",
    "rt", "s", "sh", "sk", "st", "t", "th", "x", "z",
)  # fmt: skip
_TAILS = ("", "", "", "er", "ing", "le", "ix", "or", "ette", "al", "ic", "ora", "ex", "o", "a", "y", "ia")
_MOST_FREQUENT = 40_000


def part_of(word: str) -> Part:
    """Which side a word is on; one word in ten is held out."""
    return "held-out" if hashlib.sha256(word.encode()).digest()[0] < 26 else "train"


@cache
def english(part: Part) -> tuple[str, ...]:
    """Lower-case English words of four letters or more on one side, most frequent first."""
    from wordfreq import top_n_list

    words: list[str] = top_n_list("en", _MOST_FREQUENT)
    return tuple(
        word for word in words if word.isascii() and word.isalpha() and len(word) > 3 and part_of(word) == part
    )


def made_up(rng: random.Random, part: Part) -> str:
    """A word of two or three syllables that nobody knows."""
    while True:
        syllables = [rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)]
        if rng.random() < 0.5:
            syllables.append(rng.choice(_MIDDLES)[0] + rng.choice(_ENDS))
        word = "".join(syllables) + rng.choice(_TAILS)
        if 4 <= len(word) <= 10 and part_of(word) == part:
            return word


def unknown(rng: random.Random, part: Part) -> str:
    """A word that no lesson explains: made up, or any English one."""
    return made_up(rng, part) if rng.random() < 0.35 else rng.choice(english(part))


def garbled(rng: random.Random, word: str) -> str:
    """A word as a small model miscopies it: cut, its end doubled, or going on as another one would."""
    cut = word[: rng.randint((len(word) + 1) // 2, len(word) - 1)]
    way = rng.random()
    if way < 0.2:
        return cut
    return cut + cut[-2:] if way < 0.5 else cut + rng.choice(_MIDDLES)[0] + rng.choice(_ENDS)


def brand(rng: random.Random, part: Part) -> str:
    """A maker's name of one word, as titles write it."""
    word = made_up(rng, part) if rng.random() < 0.7 else rng.choice(english(part))
    return word.upper() if rng.random() < 0.15 else word.title()
