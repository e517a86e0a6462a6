"""How likely a checkpoint holds answers that are given to it: what a benchmark with options can be scored by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, Prefix
from services.lvlm.tree.run import read


@dataclass(frozen=True)
class Likelihood:
    """Natural logarithm of an answer's probability, and its tokens."""

    logprob: float
    tokens: int

    @property
    def mean(self) -> float:
        """A token's share, so that long answers and short ones compare."""
        return self.logprob / max(1, self.tokens)


def likelihoods(checkpoint: Checkpoint, prefix: Prefix, question: str, answers: Sequence[str]) -> list[Likelihood]:
    """Of each answer to `prefix` and `question`: these are read once, then all answers in one batch behind them.

    Raises:
        PromptTooLong: question and longest answer do not fit the model's context.
        BrokenNumbers: the logits are not numbers.
    """
    asked = [Branch(question), *(Branch(question, answer) for answer in answers)]
    prompts = read(checkpoint, prefix, asked, 0)
    model, (begun, *rests) = checkpoint.model, prompts.rests
    shape = (len(rests), max(map(len, rests)))
    tokens, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, rest in enumerate(rests):
        tokens[row, : len(rest)] = torch.tensor(rest)
        mask[row, : len(rest)] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    shared = torch.tensor([prompts.prefix], device=model.device)
    # Some processors also say of each token what it is; those behind the shared ones are the model's to know.
    whole = shared.shape[1] + len(begun)
    pictures = {
        name: (value[:, : shared.shape[1]] if value.shape[:2] == (1, whole) else value).to(model.device)
        for name, value in prompts.pictures.items()
    }
    pictures = {name: v.to(model.dtype) if v.is_floating_point() else v for name, v in pictures.items()}
    if hasattr(model.model, "rope_deltas"):
        # Qwen2-VL keeps how far the last picture has shifted positions, and text alone does not take it back.
        model.model.rope_deltas = None
    with torch.inference_mode():
        cache = model(
            input_ids=shared, attention_mask=torch.ones_like(shared), use_cache=True, logits_to_keep=1, **pictures
        ).past_key_values
        cache.batch_repeat_interleave(len(rests))
        logits = model(
            # What pads a shorter answer stands behind it, where it is not seen: no mask is needed.
            input_ids=tokens,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=shape[1] - len(begun) + 1,
        ).logits[:, :-1]
        # The last token of the question foretells the first of the answer.
        told = logits.float().log_softmax(-1).gather(-1, tokens[:, len(begun) :, None])[..., 0]
        sums = (told * mask[:, len(begun) :]).sum(1)
    if not bool(sums.isfinite().all()):
        raise BrokenNumbers
    return [Likelihood(value, len(rest) - len(begun)) for value, rest in zip(sums.tolist(), rests, strict=True)]
