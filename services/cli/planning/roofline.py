"""How long model calls take, on paper: the engine's way of computing, on a card's data sheet.

A forward takes as long as the slower of two things: reading its bytes (the weights once, and the keys and values that
it attends to) and computing its operations. Nothing here is measured; the shares of the peaks that a good kernel
reaches are stated and can be argued with.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The share of a card's peaks that is reached: assumed.
_OPERATIONS_REACHED, _BYTES_REACHED = 0.6, 0.85

#: A co-buy's shapes, as the engine sees them: tokens of the prefix (576 of a picture), branches, tokens of a branch's
#: question and of its answer; the filter's question is longer.
_PREFIX, _BRANCHES, _QUESTION, _ANSWER, _JUDGED = 1400, 20, 30, 100, 60
#: A product's: tokens of the prefix, questions, tokens of a question and of its answer.
_PRODUCT_PREFIX, _PRODUCT_QUESTIONS, _PRODUCT_QUESTION, _PRODUCT_ANSWER = 700, 3, 30, 100
#: Tokens whose keys and values a call holds at its end: its prefix once, and each branch.
GENERATED_TOKENS = _PREFIX + _BRANCHES * (_QUESTION + _ANSWER)


@dataclass(frozen=True)
class Card:
    """A GPU: dense bfloat16 operations and bytes a second, and bytes of memory, by its data sheet."""

    operations: float
    bandwidth: float
    memory: float


#: NVIDIA H100 SXM, data sheet.
H100 = Card(operations=989e12, bandwidth=3.35e12, memory=80e9)


@dataclass(frozen=True)
class Decoder:
    """A text model's sizes (huggingface.co/llava-hf/llava-1.5-13b-hf, config.json: a Llama 2 13B), in bfloat16."""

    hidden: int = 5120
    intermediate: int = 13_824
    layers: int = 40
    vocabulary: int = 32_064
    #: Heads of keys and values, as a share of all heads.
    kept_heads: float = 1.0
    card: Card = H100

    @property
    def parameters(self) -> float:
        """Weights that every token passes."""
        attention = (2 + 2 * self.kept_heads) * self.hidden**2
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def bytes_a_token(self) -> float:
        """Keys and values of one token."""
        return 2 * 2 * self.layers * self.hidden * self.kept_heads

    def seconds(self, tokens: float, seen: float, read: float) -> float:
        """A forward of `tokens` that each attend to `seen` tokens, and that reads `read` tokens' keys and values."""
        operations = tokens * (2 * self.parameters + 4 * self.layers * self.hidden * seen)
        moved = 2 * self.parameters + read * self.bytes_a_token
        return max(
            operations / (self.card.operations * _OPERATIONS_REACHED), moved / (self.card.bandwidth * _BYTES_REACHED)
        )


def generated(decoder: Decoder, together: int, *, prefills: int = 1, reads: int = 1) -> float:
    """Seconds for one co-buy's 20 answers, `together` co-buys at once; a tree by default.

    `prefills`: how often the prefix is computed; `reads`: how often a step reads the prefix's keys and values.
    """
    question = _BRANCHES * _QUESTION
    first = decoder.seconds(
        together * (prefills * _PREFIX + question), (_PREFIX + _QUESTION) / 2, together * prefills * _PREFIX
    )
    own = _QUESTION + _ANSWER / 2
    step = decoder.seconds(together * _BRANCHES, _PREFIX + own, together * (reads * _PREFIX + _BRANCHES * own))
    return (first + _ANSWER * step) / together


def alone(decoder: Decoder) -> float:
    """Seconds for one co-buy's 20 answers with one `generate()` after the other."""
    first = decoder.seconds(_PREFIX + _QUESTION, _PREFIX / 2, _PREFIX)
    return _BRANCHES * (first + _ANSWER * decoder.seconds(1, _PREFIX + _ANSWER / 2, _PREFIX + _ANSWER / 2))


def judged(decoder: Decoder, together: int) -> float:
    """Seconds for one co-buy's 20 judgements, `together` co-buys at once, one forward over one prefix each."""
    tokens = _PREFIX + _BRANCHES * _JUDGED
    return decoder.seconds(together * tokens, _PREFIX / 2, together * tokens) / together


def features(decoder: Decoder, together: int) -> float:
    """Seconds for one product's three answers, `together` products at once."""
    branches = together * _PRODUCT_QUESTIONS
    first = decoder.seconds(
        together * (_PRODUCT_PREFIX + _PRODUCT_QUESTIONS * _PRODUCT_QUESTION), _PRODUCT_PREFIX / 2,
        together * _PRODUCT_PREFIX,
    )  # fmt: skip
    own = _PRODUCT_QUESTION + _PRODUCT_ANSWER / 2
    step = decoder.seconds(branches, _PRODUCT_PREFIX + own, together * _PRODUCT_PREFIX + branches * own)
    return (first + _PRODUCT_ANSWER * step) / together
