"""A model before the questions: by what it says, or by what it holds likeliest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from services.common.choices import LETTERS
from services.common.settings import Settings
from services.lvlm.engine import Branch, Engine, Prefix, PromptRefused
from training.answers import named
from training.errors import TrainingError
from training.questions import Question

#: `generate` reads an option from what the model says to the listed options, as the source does. `letter` takes the
#: likeliest letter behind them. `likelihood` takes the option whose own words are likeliest behind the bare question.
Scoring = Literal["generate", "letter", "likelihood"]
#: The source takes 10 tokens; some models begin with `The answer is`.
_MOST_TOKENS = 32

Ask = Callable[[Question], int | None]


@dataclass(frozen=True)
class Asked:
    """A model, and the place of the option that it takes of each question; None where it takes none."""

    model: str
    chosen: list[int | None]

    def right(self, questions: Sequence[Question]) -> list[float]:
        """Of each question 1 or 0."""
        return [float(one == question.right) for one, question in zip(self.chosen, questions, strict=True)]


def ask(
    settings: Settings, questions: Sequence[Question], scoring: Scoring,
    tracked: Callable[[Iterator[int | None], int], Iterator[int | None]] = lambda answers, _: answers,
) -> Asked:  # fmt: skip
    """Ask the settings' checkpoint (or endpoint) all questions; `tracked` sees the answers pass.

    Raises:
        TrainingError: an endpoint is asked for likelihoods, or a question cannot be asked.
        EngineError: the model cannot be had.
        WorldFault: the endpoint is away.
    """
    with _asker(settings, scoring) as (model, asker, at_once), ThreadPoolExecutor(at_once, "asking") as threads:
        return Asked(model, list(tracked(threads.map(asker, questions), len(questions))))


@contextmanager
def _asker(settings: Settings, scoring: Scoring) -> Iterator[tuple[str, Ask, int]]:
    """The model's version, the way to ask it one question, and how many at once."""
    if scoring == "generate":
        engine = _engine(settings)
        yield (
            engine.model_version,
            _named(lambda question: _said(engine, question)),
            (settings.openai_requests if engine.concurrent else 1),
        )
        return
    if settings.engine == "openai":
        raise TrainingError(f"an endpoint gives no likelihoods of given words: --scoring generate, not {scoring}")
    from services.lvlm.checkpoint import Checkpoint
    from services.lvlm.likelihood import likelihoods

    checkpoint = Checkpoint(settings)

    def likeliest(question: Question) -> int | None:
        text, answers = (question.listed, LETTERS[: len(question.options)]) if scoring == "letter" else (
            question.text, question.options
        )  # fmt: skip
        found = [one.mean for one in likelihoods(checkpoint, Prefix(""), text, list(answers))]
        return found.index(max(found))

    yield checkpoint.version, _named(likeliest), 1


def _engine(settings: Settings) -> Engine:
    if settings.engine == "openai":
        from services.lvlm.remote import RemoteEngine

        # Of an endpoint nothing is asked but words: it need not do what the pipeline does with one.
        return RemoteEngine(settings, checked=False)
    from services.lvlm.load import load_engine

    return load_engine(settings)


def _said(engine: Engine, question: Question) -> int | None:
    [answer], _ = engine.complete(Prefix(question.listed), [Branch("")], _MOST_TOKENS)
    return named(answer.text, question.options)


def _named(asker: Ask) -> Ask:
    """An asker that says which question it could not ask."""

    def asked(question: Question) -> int | None:
        try:
            return asker(question)
        except PromptRefused as error:
            raise TrainingError(f"question {question.id}: {error}") from None

    return asked
