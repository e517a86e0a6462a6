"""Which option a model's words name, however it says it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.common.choices import LETTERS
from services.common.leaks import words

#: A letter by itself at the beginning: `B`, `(b)`, `b.`, `**B**: because …`, `B because …`; not that of `A customer …`.
_FIRST = re.compile(r"[\s\"'`*(\[]*(?:([A-Za-z])(?:[\s\"'`*]*$|[\"'`*]*[).\]:,]|[\s\"'`*]*\n)|([B-HJ-Z])\s)")
#: `A or B`, `(a) and (c)`: one letter beside another.
_SEVERAL = re.compile(r"\W*[A-Za-z]\W+(?:or|and)\W+[A-Za-z]\b", re.IGNORECASE)
#: `The answer is (b)`, `Answer: B`, `option C`, `I choose D`.
_NAMED = re.compile(
    r"\b(?:answer|option|choice|choose|pick|select|letter)\b(?:\s+(?:is|would be|be|option|letter))*\s*:?"
    r"[\s\"'`*(\[]*([A-Za-z])(?![A-Za-z'])",
    re.IGNORECASE,
)
#: A letter marked as one, anywhere: `(b)`, `B)`, `B.`.
_MARKED = re.compile(r"(?<![A-Za-z])\(?([A-Za-z])[).](?![A-Za-z])")


def named(said: str, options: Sequence[str]) -> int | None:
    """The place of the option that is meant; None where none is, or more than one.

    A letter at the beginning counts before one that is called the answer, this before an option's own text, and that
    before any other letter that is marked as one.
    """
    known = LETTERS[: len(options)]
    if _SEVERAL.match(said):
        return None
    first = _FIRST.match(said)
    if first and (letter := (first[1] or first[2]).upper()) in known:
        return known.index(letter)
    for places in (_letters(_NAMED, said, known), _quoted(said, options), _letters(_MARKED, said, known)):
        if len(places) == 1:
            return places.pop()
        if places:
            return None
    return None


def _letters(pattern: re.Pattern[str], said: str, known: str) -> set[int]:
    return {known.index(letter.upper()) for letter in pattern.findall(said) if letter.upper() in known}


def _quoted(said: str, options: Sequence[str]) -> set[int]:
    """Options whose words stand in what was said; of one that holds another, the longer."""
    text = f" {' '.join(words(said))} "
    found = {place: f" {' '.join(words(option))} " for place, option in enumerate(options) if words(option)}
    there = {place for place, option in found.items() if option in text}
    return {
        place
        for place in there
        if not any(found[place] in found[other] and found[place] != found[other] for other in there)
    }
