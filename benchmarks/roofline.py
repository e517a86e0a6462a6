"""On paper: what a co-buy costs on one H100 with LLaVA-1.5-13b, by how it is decoded: `python -m benchmarks.roofline`.

A forward takes as long as the slower of two things: reading its bytes (the weights once, and the keys and values that
it attends to) and computing its operations. Nothing here is measured; the shares of the peaks that a good kernel
reaches are stated and can be argued with.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

#: NVIDIA H100 SXM, data sheet: dense bfloat16 operations and bytes a second; and the share of each that is reached.
_PEAK_OPERATIONS, _PEAK_BYTES = 989e12, 3.35e12
_OPERATIONS_REACHED, _BYTES_REACHED = 0.6, 0.85

#: A co-buy's shapes, as the engine sees them: tokens of the prefix (576 of a picture), branches, tokens of a branch's
#: question and of its answer; the filter's question is longer.
_PREFIX, _BRANCHES, _QUESTION, _ANSWER, _JUDGED = 1400, 20, 30, 100, 60
#: A product's: tokens of the prefix, questions, tokens of a question and of its answer.
_PRODUCT_PREFIX, _PRODUCT_QUESTIONS, _PRODUCT_QUESTION, _PRODUCT_ANSWER = 700, 3, 30, 100
#: The paper's knowledge base (MIND, arXiv 2406.10701, section 4).
_COBUYS, _PRODUCTS = 126_142, 107_215
#: Co-buys, and products, in one forward.
_TOGETHER, _PRODUCTS_TOGETHER = 16, 64
_GOAL_SECONDS, _GOAL_HOURS = 0.21, 12.0


@dataclass(frozen=True)
class Decoder:
    """A text model's sizes (huggingface.co/llava-hf/llava-1.5-13b-hf, config.json: a Llama 2 13B), in bfloat16."""

    hidden: int = 5120
    intermediate: int = 13_824
    layers: int = 40
    vocabulary: int = 32_064

    @property
    def parameters(self) -> int:
        """Weights that every token passes."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def bytes_a_token(self) -> int:
        """Keys and values of one token."""
        return 2 * 2 * self.layers * self.hidden

    def seconds(self, tokens: float, seen: float, read: float) -> float:
        """A forward of `tokens` that each attend to `seen` tokens, and that reads `read` tokens' keys and values."""
        operations = tokens * (2 * self.parameters + 4 * self.layers * self.hidden * seen)
        moved = 2 * self.parameters + read * self.bytes_a_token
        return max(operations / (_PEAK_OPERATIONS * _OPERATIONS_REACHED), moved / (_PEAK_BYTES * _BYTES_REACHED))


def _generated(decoder: Decoder, together: int, prefills: int, reads: int) -> float:
    """Seconds for one co-buy's 20 answers, `together` co-buys at once.

    `prefills`: how often the prefix is computed; `reads`: how often a step reads the prefix's keys and values.
    """
    question = _BRANCHES * _QUESTION
    first = decoder.seconds(
        together * (prefills * _PREFIX + question), (_PREFIX + _QUESTION) / 2, together * prefills * _PREFIX
    )
    own = _QUESTION + _ANSWER / 2
    step = decoder.seconds(together * _BRANCHES, _PREFIX + own, together * (reads * _PREFIX + _BRANCHES * own))
    return (first + _ANSWER * step) / together


def _alone(decoder: Decoder) -> float:
    """Seconds with one `generate()` after the other."""
    first = decoder.seconds(_PREFIX + _QUESTION, _PREFIX / 2, _PREFIX)
    return _BRANCHES * (first + _ANSWER * decoder.seconds(1, _PREFIX + _ANSWER / 2, _PREFIX + _ANSWER / 2))


def _judged(decoder: Decoder) -> float:
    """Seconds for one co-buy's 20 judgements, one forward over one prefix."""
    tokens = _PREFIX + _BRANCHES * _JUDGED
    return decoder.seconds(_TOGETHER * tokens, _PREFIX / 2, _TOGETHER * tokens) / _TOGETHER


def _features(decoder: Decoder) -> float:
    """Seconds for one product's three answers."""
    branches = _PRODUCTS_TOGETHER * _PRODUCT_QUESTIONS
    first = decoder.seconds(
        _PRODUCTS_TOGETHER * (_PRODUCT_PREFIX + _PRODUCT_QUESTIONS * _PRODUCT_QUESTION), _PRODUCT_PREFIX / 2,
        _PRODUCTS_TOGETHER * _PRODUCT_PREFIX,
    )  # fmt: skip
    own = _PRODUCT_QUESTION + _PRODUCT_ANSWER / 2
    step = decoder.seconds(branches, _PRODUCT_PREFIX + own, _PRODUCTS_TOGETHER * _PRODUCT_PREFIX + branches * own)
    return (first + _PRODUCT_ANSWER * step) / _PRODUCTS_TOGETHER


def main() -> int:
    """Print both tables; 1 where a goal does not hold."""
    decoder, console = Decoder(), Console()
    tree = _generated(decoder, _TOGETHER, prefills=1, reads=1)
    ways = {
        "generate(), one prompt at a time": _alone(decoder),
        "generate(), 20 in a batch": _generated(decoder, 1, prefills=_BRANCHES, reads=_BRANCHES),
        f"paged with prefix cache, {_TOGETHER} co-buys": _generated(decoder, _TOGETHER, prefills=1, reads=_BRANCHES),
        "tree, one co-buy at a time": _generated(decoder, 1, prefills=1, reads=1),
        f"tree, {_TOGETHER} co-buys in a forward": tree,
    }
    table = Table("decoding", "seconds a co-buy", "against the last")
    for name, seconds in ways.items():
        table.add_row(name, f"{seconds:.2f}", f"{seconds / tree:.1f}x")
    console.print(table)
    hours = {
        "features": _PRODUCTS * _features(decoder) / 3600,
        "intentions": _COBUYS * tree / 3600,
        "judgements": _COBUYS * _judged(decoder) / 3600,
    }
    total = sum(hours.values())
    parts = " + ".join(f"{name} {value:.1f}" for name, value in hours.items())
    console.print(f"The paper's KB, {_PRODUCTS:,} products and {_COBUYS:,} co-buys: {parts} = {total:.1f} GPU-hours")
    console.print(f"goals: {_GOAL_SECONDS} s a co-buy, {_GOAL_HOURS:.0f} GPU-hours")
    return 0 if tree <= _GOAL_SECONDS and total <= _GOAL_HOURS else 1


if __name__ == "__main__":
    sys.exit(main())
