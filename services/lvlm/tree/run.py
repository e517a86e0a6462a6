"""One request on its way through the tree engine: its prompts, its tree, and what its branches have said so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, Completion, Prefix, Usage
from services.lvlm.tree import cache
from services.lvlm.tree.attention import Tree


@dataclass
class Prompts:
    """All prompts of a request: what they share, and the rest of each."""

    #: Tokens of the prefix, placeholders of pictures included.
    prefix: list[int]
    #: What the model takes beside tokens (pixels), and a hash of the pictures.
    pictures: dict[str, torch.Tensor]
    digest: bytes
    #: The rest of each prompt; never empty.
    rests: list[list[int]]
    #: The names of the prefix's whole chunks, in order.
    chunks: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.chunks = list(cache.names(self.prefix, self.digest))

    @property
    def width(self) -> int:
        """Tokens of the longest rest."""
        return max(map(len, self.rests))

    @property
    def tokens(self) -> int:
        """Tokens read, the prefix once."""
        return len(self.prefix) + sum(map(len, self.rests))


def read(checkpoint: Checkpoint, prefix: Prefix, branches: Sequence[Branch], room: int) -> Prompts:
    """Tokens of all prompts. Pictures go through the processor once, with the first prompt.

    Raises:
        PromptTooLong: prefix, longest branch and `room` tokens more do not fit the context.
    """
    texts = [checkpoint.render(prefix, branch) for branch in branches]
    with checkpoint.tokenizing:
        first = checkpoint.processor(images=list(prefix.images) or None, text=texts[0], return_tensors="pt")
        # Without pictures a placeholder is one token: the common beginning is found before it is spread out.
        plain: list[list[int]] = checkpoint.tokenizer(texts)["input_ids"]
    first.pop("token_type_ids", None)
    whole: list[int] = first.pop("input_ids")[0].tolist()
    first.pop("attention_mask", None)
    shared = _common(plain)
    rest = len(plain[0]) - shared
    if whole[len(whole) - rest :] != plain[0][shared:]:
        raise AssertionError("the processor changes what stands behind the pictures")
    made = Prompts(
        whole[: len(whole) - rest], dict(first), cache.digest(prefix.images), [tokens[shared:] for tokens in plain]
    )
    checkpoint.check_fits(len(made.prefix) + made.width + room)
    return made


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with alike; each keeps at least one of its own."""
    shared = 0
    for column in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


class Run:
    """See services.lvlm.engine.Run. One that completes has `most` tokens a branch, one that scores has none."""

    def __init__(
        self, checkpoint: Checkpoint, prompts: Prompts, branches: Sequence[Branch], most: int, settings: Settings
    ) -> None:
        self.prompts = prompts
        #: Tokens that a branch may say; none where it is only scored.
        self.most = most
        self._checkpoint, self._asked = checkpoint, branches
        device = checkpoint.model.device
        room = prompts.width + most
        self.tree = Tree(len(prompts.prefix), room, torch.zeros(0, dtype=torch.long, device=device))
        self.cost = len(prompts.prefix) + len(branches) * room
        self.whole = False
        #: Branches that are still decoded, in the order of the tree's.
        self.going: list[int] = []
        #: The hidden state (B, d) that the next tokens are chosen from; or the chosen ones (B,), not computed yet.
        self.hidden: torch.Tensor | None = None
        self.pending: torch.Tensor | None = None
        #: Embeddings of the prefix, made when first needed.
        self.embeddings: torch.Tensor | None = None
        self.looked_up = False
        self._chosen: list[list[int]] = [[] for _ in branches]
        self._scores: list[float] = []
        self._spoken = 0
        self._failure: Exception | None = None
        self._choice = _Choice(branches, settings, device)

    @property
    def done(self) -> bool:
        """See Run."""
        return self.whole and not self.going

    def branched(self, hidden: torch.Tensor) -> None:
        """The prompts are read: hidden states (B, d) at their ends. What follows is to be said."""
        self.whole, self.embeddings = True, None
        self.going, self.hidden = list(range(len(self._asked))), hidden

    def scored(self, logits: torch.Tensor) -> None:
        """The prompts are read: logits (B, V) behind them. That is all."""
        self.whole, self.embeddings = True, None
        try:
            self._scores = self._checkpoint.chances(logits)
        except BrokenNumbers as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """It is done, with this error."""
        self._failure, self.going, self.hidden, self.pending = error.with_traceback(None), [], None, None

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each branch that is going on, logits (B, V) to (B,); -1 where they are not numbers."""
        return self._choice(logits, self.going)

    def take(self, tokens: torch.Tensor, seen: Sequence[int]) -> None:
        """The next token of each branch, as chosen and as the host sees it; what is said to the end leaves the tree."""
        self.hidden = None
        if -1 in seen:
            self.fail(BrokenNumbers())
            return
        left = []
        for row, (branch, token) in enumerate(zip(self.going, seen, strict=True)):
            said = self._chosen[branch]
            said.append(token)
            self._spoken += token not in self._checkpoint.ends
            if len(said) < self.most and not self._checkpoint.ended(said, self._asked[branch].stop):
                left.append(row)
        if left and len(left) < len(self.going):
            rows = torch.tensor(left, device=tokens.device)
            self.tree.keep(rows)
            tokens = tokens[rows]
        self.going = [self.going[row] for row in left]
        self.pending = tokens if left else None

    @property
    def completions(self) -> list[Completion]:
        """See Run."""
        self._check()
        return [
            Completion(*self._checkpoint.said(tokens, branch.stop))
            for tokens, branch in zip(self._chosen, self._asked, strict=True)
        ]

    @property
    def scores(self) -> list[float]:
        """See Run."""
        self._check()
        return self._scores

    @property
    def usage(self) -> Usage:
        """See Run."""
        return Usage(self.prompts.tokens, self._spoken)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


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
        highest, chosen = logits.max(-1)
        for row, branch in enumerate(branches):
            if branch in self._generators:
                chosen[row] = self._sampled(logits[row].float(), self._generators[branch])
        return chosen.where(highest.isfinite(), -1)

    def _sampled(self, logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A token of the smallest set of the likeliest that together have `top_p`; logits (V,)."""
        # What is no number has no chances to draw from; the row is marked by its highest anyway.
        chances, tokens = (logits / self._temperature).nan_to_num().softmax(-1).sort(descending=True)
        # What stands before a token must not have filled the share yet: the likeliest is always in.
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= self._top_p, 0.0)
        # The first of exponential clocks that run as fast as the chances are large: drawn without the host's waiting.
        clocks = torch.empty_like(chances).exponential_(generator=generator)
        return tokens.gather(0, (chances / clocks).argmax(0, keepdim=True))[0]
