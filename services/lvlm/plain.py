"""The plain engine: transformers' `generate()`, all branches of one request in one left-padded batch.

For checkpoints whose attention the tree engine does not know, and what the tree engine is measured against. Requests
are never mixed: a batch's floating-point results depend on its shape, and only so is a co-buy's text the same whatever
else the server does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, Completion, Prefix, Usage


class _Numbers(LogitsProcessor):
    """Lets numbers pass, and nothing else."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not bool(scores.max(-1).values.isfinite().all()):
            raise BrokenNumbers
        return scores


class PlainEngine:
    """See Engine."""

    concurrent = False

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        self._checkpoint = checkpoint
        self._sampling = {
            "do_sample": True,
            "temperature": settings.sample_temperature,
            "top_p": settings.sample_top_p,
            "top_k": 0,
        }
        self.model_version = checkpoint.version

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        greedy: dict[str, list[int]] = defaultdict(list)
        for number, branch in enumerate(branches):
            if branch.seed is None:
                greedy[branch.stop].append(number)
        done: dict[int, Completion] = {}
        read = 0
        # A sampled branch runs alone with its own seed, so that its text depends on nothing else.
        for group in [*greedy.values(), *([i] for i, branch in enumerate(branches) if branch.seed is not None)]:
            inputs = self._checkpoint.inputs(prefix, [branches[i] for i in group], max_new_tokens)
            seed, stop = branches[group[0]].seed, branches[group[0]].stop
            if seed is not None:
                torch.manual_seed(seed)
            with torch.inference_mode():
                sequences = self._checkpoint.model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    **(self._sampling if seed is not None else {"do_sample": False}),
                    pad_token_id=self._checkpoint.tokenizer.pad_token_id,
                    logits_processor=LogitsProcessorList([_Numbers()]),
                    **({"stop_strings": [stop], "tokenizer": self._checkpoint.tokenizer} if stop else {}),
                )
            read += int(inputs["attention_mask"].sum())
            for index, tokens in zip(group, sequences[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                done[index] = Completion(*self._checkpoint.said(tokens, stop))
        return [done[i] for i in range(len(branches))], Usage(read, sum(c.tokens for c in done.values()))

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        inputs = self._checkpoint.inputs(prefix, branches, 0)
        with torch.inference_mode():
            logits = self._checkpoint.model(**inputs, logits_to_keep=1).logits[:, -1]
        return self._checkpoint.chances(logits), Usage(int(inputs["attention_mask"].sum()), 0)
