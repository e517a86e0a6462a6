"""What model servers ask of an engine: one prefix, many branches.

A co-buy has one long prefix (pictures, titles, features) and 20 short branches (relations). The interface says so, so
that an engine may read the prefix once; callers do not know whether it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    #: The answer ends before this text; empty: nothing but the model ends it.
    stop: str = ""


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


class EngineError(Exception):
    """No engine can be had of these settings; one line says why."""


class PromptRefused(Exception):
    """The model cannot be asked this; one line says why."""


class PromptTooLong(PromptRefused):
    """A prompt and its answer do not fit the model's context."""


class BrokenNumbers(Exception):
    """The model's logits are not numbers for this input."""

    def __init__(self) -> None:
        super().__init__("the model computes no numbers for this input (NaN or infinity)")


class Engine(Protocol):
    """A model that can be asked."""

    model_version: str
    #: Whether it may be called from several threads at once.
    concurrent: bool

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """One completion per branch; the same input gives the same output whatever was asked before.

        Raises:
            PromptRefused: prefix, longest branch and answer do not fit, or an endpoint refuses them.
            BrokenNumbers: no token is the likeliest.
            WorldFault: an endpoint is away.
        """

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """P(yes) normalised over {yes, no} as the next token, one per branch.

        Raises:
            PromptRefused: prefix and longest branch do not fit, or an endpoint refuses them.
            BrokenNumbers: there is no P(yes).
            WorldFault: an endpoint is away.
        """


class Run(Protocol):
    """One request that is computed beside others."""

    #: Tokens whose keys and values it holds at the most.
    cost: int
    #: Whether its prompts are read; then it is stepped until it is done.
    whole: bool

    @property
    def done(self) -> bool:
        """Whether its results are there. Reading them raises what `complete` and `score` raise."""

    @property
    def completions(self) -> list[Completion]:
        """As `complete` gives them."""

    @property
    def scores(self) -> list[float]:
        """As `score` gives them."""

    @property
    def usage(self) -> Usage:
        """Tokens so far."""


@runtime_checkable
class SteppedEngine(Engine, Protocol):
    """An engine that computes several requests together, and takes them in and lets them go between two steps."""

    def begin(self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int) -> Any:
        """Read a request; in any thread. Without new tokens it scores.

        Raises:
            PromptRefused: as above; also what is larger than `kv_tokens`.
        """

    def prefill(self, run: Any) -> None:
        """One bounded piece of a run's prompts, until it is whole."""

    def step(self, runs: Sequence[Any]) -> None:
        """One more token for every branch of whole runs. If it fails, each can be stepped again, alone."""

    def alive(self) -> bool:
        """Whether it can still compute anything: a GPU that has failed fails for the rest of the process's life."""
