"""Multiple choice, as both tasks of IntentionQA (arXiv 2406.10173) ask it: in releases and in evaluations alike."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

#: Names of options, in their order.
LETTERS = ascii_uppercase


def understand(title_a: str, title_b: str) -> str:
    """Task 1's question: why these two? Options are reasons."""
    return f"A customer buys {title_a} and {title_b}. What is the most likely intention for buying them?"


def utilize(title: str, reason: str) -> str:
    """Task 2's question: what goes with this one, for a reason that begins with `because`? Options are titles."""
    return (
        f"A customer buys {title} {reason.removesuffix('.')}. "
        "What other product might the customer buy for the same reason?"
    )


def listed(question: str, options: Sequence[str]) -> str:
    """A question, its options by letter, and how to answer."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, "Answer with the letter only."])
