"""What model servers ask of an engine: one prefix, many branches.

A co-buy has one long prefix (pictures, titles, features) and 20 short branches (relations). The interface says so, so
that an engine may read the prefix once; callers do not know whether it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image


@dataclass(frozen=True)
class Prefix:
    """What all branches share: the pictures, and the beginning of the user's message."""

    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Branch:
    """The rest of the user's message, and how the model's answer begins."""

    question: str
    answer: str = ""
    #: None decodes greedily; a number samples with that seed.
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """What the model added to `Branch.answer`, special tokens removed."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Usage:
    """Tokens read over all branches, and tokens generated."""

    prompt_tokens: int
    generated_tokens: int


class PromptTooLong(Exception):
    """A prompt and its answer do not fit the model's context."""


class Engine(Protocol):
    """A loaded model. Not thread-safe: one call at a time."""

    model_version: str

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """One completion per branch; the same input gives the same output whatever was asked before.

        Raises:
            PromptTooLong: prefix, longest branch and answer do not fit.
        """

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """P(yes) normalised over {yes, no} as the next token, one per branch.

        Raises:
            PromptTooLong: prefix and longest branch do not fit.
        """
