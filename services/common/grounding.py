"""Whether an intention speaks of its products: its content words against what is known of them."""

from __future__ import annotations

from collections.abc import Set

from services.common.leaks import words

#: Words that say nothing of a product; shorter ones than three letters are none either.
_STOP = frozenset(
    ("with", "this", "that", "from", "your", "have", "more", "than", "what", "only", "each", "other", "the", "and",
     "for", "using", "use", "uses", "needs", "get", "out", "both", "going", "things", "into", "like", "likes", "wants",
     "they", "them")
)  # fmt: skip


def content_words(text: str) -> set[str]:
    """The words of an English text that may be about something; inflections are words of their own."""
    return {word for word in words(text) if len(word) > 2 and word not in _STOP}


def grounding(text: str, known: Set[str]) -> float | None:
    """Share of a text's content words that are known; None where it has none."""
    said = content_words(text)
    return len(said & known) / len(said) if said else None
