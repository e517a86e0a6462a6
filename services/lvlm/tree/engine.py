"""The tree engine: each request's prefix is computed once, and all its branches are decoded together over it.

The same greedy tokens as the plain engine's, from the same prompts; what differs is the work. A step's matrix products
are over all branches, and the prefix's keys and values are read once a step instead of once a branch (`attention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Completion, Prefix, Usage
from services.lvlm.tree import attention
from services.lvlm.tree.attention import Tree


class UnsupportedCheckpoint(Exception):
    """The tree engine cannot decode this architecture; one line says why."""


@dataclass
class _Prompts:
    """All prompts of a request: what they share, and the rest of each."""

    #: Tokens of the prefix, placeholders of pictures included, and what else the model takes with them.
    prefix: list[int]
    pictures: dict[str, torch.Tensor]
    #: The rest of each prompt; never empty.
    rests: list[list[int]]


class TreeEngine:
    """See Engine. For decoders with standard attention and one position a token."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        """Take over the checkpoint's attention.

        Raises:
            UnsupportedCheckpoint: the architecture's attention cannot be exchanged, or gives other results so.
        """
        self._checkpoint, self._settings = checkpoint, settings
        self._model: Any = checkpoint.model
        self.model_version = checkpoint.version
        _refuse_unknown(checkpoint.model.config)
        attention.register()
        self._text_config: Any = checkpoint.model.config.get_text_config()
        self._check()

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        prompts = self._prompts(prefix, branches, max_new_tokens)
        chosen: list[list[int]] = [[] for _ in branches]
        with torch.inference_mode(), self._attention():
            tree, hidden = self._first(prompts, max_new_tokens)
            choose = _Choice(branches, self._settings, self._model.device)
            going, longest = list(range(len(branches))), tree.width
            for step in range(max_new_tokens):
                tokens = choose(self._logits(hidden), going)
                # The one place of the loop where the host waits for the device: it must see who is done.
                seen: list[int] = tokens.tolist()
                for branch, token in zip(going, seen, strict=True):
                    chosen[branch].append(token)
                left = [row for row, token in enumerate(seen) if token not in self._checkpoint.ends]
                if not left or step + 1 == max_new_tokens:
                    break
                if len(left) < len(going):
                    rows = torch.tensor(left, device=tokens.device)
                    tree.keep(rows)
                    going, tokens = [going[row] for row in left], tokens[rows]
                longest += 1
                hidden = self._next(tree, tokens, len(prompts.prefix), longest)
        said = [Completion(*self._checkpoint.said(tokens)) for tokens in chosen]
        return said, Usage(_read(prompts), sum(completion.tokens for completion in said))

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        prompts = self._prompts(prefix, branches, 0)
        with torch.inference_mode(), self._attention():
            _, hidden = self._first(prompts, 0)
            scores = self._checkpoint.chances(self._logits(hidden))
        return scores, Usage(_read(prompts), 0)

    # -- prompts ---------------------------------------------------------------------------------------------------

    def _prompts(self, prefix: Prefix, branches: Sequence[Branch], room: int) -> _Prompts:
        """Tokens of all prompts. Pictures go through the processor once, with the first prompt."""
        checkpoint = self._checkpoint
        texts = [checkpoint.render(prefix, branch) for branch in branches]
        first = checkpoint.processor(images=list(prefix.images) or None, text=texts[0], return_tensors="pt")
        first.pop("token_type_ids", None)
        whole: list[int] = first.pop("input_ids")[0].tolist()
        first.pop("attention_mask", None)
        # Without pictures a placeholder is one token: the prompts' common beginning is found before it is spread out.
        plain: list[list[int]] = checkpoint.tokenizer(texts)["input_ids"]
        shared = _common(plain)
        rest = len(plain[0]) - shared
        if whole[len(whole) - rest :] != plain[0][shared:]:
            raise AssertionError("the processor changes what stands behind the pictures")
        prompts = _Prompts(
            whole[: len(whole) - rest],
            dict(first.to(self._model.device, dtype=self._model.dtype)),
            [tokens[shared:] for tokens in plain],
        )
        checkpoint.check_fits(len(prompts.prefix) + max(map(len, prompts.rests)) + room)
        return prompts

    # -- forwards --------------------------------------------------------------------------------------------------

    def _first(self, prompts: _Prompts, room: int) -> tuple[Tree, torch.Tensor]:
        """Prefix and the rest of all prompts in one forward; the hidden state (B, d) at the end of each."""
        device = self._model.device
        counts = [len(rest) for rest in prompts.rests]
        width, start = max(counts), len(prompts.prefix)
        lengths = torch.zeros(len(counts), dtype=torch.long, device=device)
        tree = Tree(prefix_tokens=start, width=width, lengths=lengths, room=width + room)
        tree.begin(start, width, width)
        # What pads a shorter branch lies behind its end: nobody sees it, and its own tokens come to stand there.
        padded = [rest + [rest[-1]] * (width - len(rest)) for rest in prompts.rests]
        tokens = torch.tensor([prompts.prefix + [token for rest in padded for token in rest]], device=device)
        assert tree.places is not None
        positions = torch.cat((torch.arange(start, device=device), (start + tree.places).flatten()))
        hidden = self._forward(tree, tokens, positions, prompts.pictures)[0, start:]
        tree.lengths = torch.tensor(counts, device=device)
        ends = torch.arange(len(counts), device=device) * width + tree.lengths - 1
        return tree, hidden[ends]

    def _next(self, tree: Tree, tokens: torch.Tensor, start: int, longest: int) -> torch.Tensor:
        """One more token (B,) per branch; the hidden state (B, d) of each. No branch becomes longer than `longest`."""
        tree.begin(0, 1, longest)
        hidden = self._forward(tree, tokens[None], start + tree.lengths, {})[0]
        tree.lengths = tree.lengths + 1
        return hidden

    def _forward(
        self, tree: Tree, tokens: torch.Tensor, positions: torch.Tensor, pictures: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        output = self._model.model(
            input_ids=tokens, position_ids=positions[None], use_cache=False, tree=tree, **pictures
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.get_output_embeddings()(hidden)
        return logits

    def _attention(self) -> _Exchanged:
        return _Exchanged(self._text_config)

    # -- at load ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Decode a few tokens both ways: an architecture that computes anything else on the way is found out.

        Raises:
            UnsupportedCheckpoint: it fails, or the results differ by more than rounding.
        """
        from PIL import Image

        from services.lvlm.plain import PlainEngine

        branches = [Branch("Why? Because", ""), Branch("What is it", "It is"), Branch("?", "")]
        plain = PlainEngine(self._checkpoint, self._settings)
        for prefix in (Prefix("Two products."), Prefix("Two products.", (Image.new("RGB", (64, 48), "teal"),))):
            try:
                ours, _ = self.score(prefix, branches)
            except Exception as error:
                line = " ".join(str(error).split())[:200]
                raise UnsupportedCheckpoint(f"{type(error).__name__}: {line}") from None
            theirs, _ = plain.score(prefix, branches)
            if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > _TOLERANCE[self._model.dtype]:
                raise UnsupportedCheckpoint(f"its scores are {ours} here and {theirs} in transformers")


#: Largest difference of a score from the plain path's, by what the weights are computed in.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class _Exchanged:
    """The text model's attention is the tree's inside this block, so that the plain path keeps its own."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __enter__(self) -> None:
        self._before = self._config._attn_implementation
        self._config._attn_implementation = attention.NAME

    def __exit__(self, *_: object) -> None:
        self._config._attn_implementation = self._before


class _Choice:
    """How branches choose their tokens: the likeliest, or by chance with a seed of each branch's own."""

    def __init__(self, branches: Sequence[Branch], settings: Settings, device: torch.device) -> None:
        self._temperature, self._top_p = settings.sample_temperature, settings.sample_top_p
        self._generators = {
            number: torch.Generator(device).manual_seed(branch.seed)
            for number, branch in enumerate(branches)
            if branch.seed is not None
        }

    def __call__(self, logits: torch.Tensor, branches: Sequence[int]) -> torch.Tensor:
        """The next token of each branch, logits (B, V) to (B,)."""
        chosen = logits.argmax(-1)
        for row, branch in enumerate(branches):
            if branch in self._generators:
                chosen[row] = self._sampled(logits[row].float(), self._generators[branch])
        return chosen

    def _sampled(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A token of the smallest set of the likeliest that together have `top_p`; logits (V,)."""
        chances, tokens = (logits / self._temperature).softmax(-1).sort(descending=True)
        # What stands before a token must not have filled the share yet: the likeliest is always in.
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= self._top_p, 0.0)
        return tokens[torch.multinomial(chances, 1, generator=generator)[0]]


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with alike; each keeps at least one of its own."""
    shared = 0
    for column in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


def _read(prompts: _Prompts) -> int:
    """Tokens read, the prefix once."""
    return len(prompts.prefix) + sum(map(len, prompts.rests))


def _refuse_unknown(config: Any) -> None:
    """Architectures whose decoder is known to need more than causal attention over one position a token.

    Raises:
        UnsupportedCheckpoint: naming what it has.
    """
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None) or {}
    if "mrope_section" in parameters:
        raise UnsupportedCheckpoint(f"{config.model_type} has positions in three dimensions (mrope)")
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        raise UnsupportedCheckpoint(f"{config.model_type} attends through a sliding window")
    if set(getattr(text, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise UnsupportedCheckpoint(f"{config.model_type} has layers other than full attention")
