"""The attention of trees: keys and values of a prefix once, those of each branch beside them.

A general server reads the prefix's keys and values once per branch and step. Here all branches of a co-buy are query
positions of one sequence, so each layer reads the prefix once a step, in one matrix product. Several trees share a
forward by standing one behind the other in its sequence: the layers' other products are over all of them, attention is
over each by itself, with the shapes that it has alone.

Shapes: H query heads, K key-value heads, G = H / K, D head size, P prefix tokens, B branches, S new tokens per branch,
T the longest branch so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

#: The name under which transformers knows this attention.
NAME = "mindstream_tree"


@dataclass
class Tree:
    """What a tree has computed so far: keys and values by layer, and how long prefix and branches are."""

    #: Tokens that the prefix will have.
    prefix: int
    #: Longest that a branch may grow.
    room: int
    #: Tokens that pad each branch in front, (B,), so that all end at the same place; no branches before the prefix is
    #: whole. Nobody sees them.
    pads: torch.Tensor
    #: Tokens of the prefix, and of each branch, so far.
    filled: int = 0
    grown: int = 0
    #: New tokens of the next forward: of the prefix, and of each branch.
    fresh: int = 0
    width: int = 0
    #: By layer: of the prefix (K, P, D), and of the branches (K, B, room, D).
    prefix_keys: dict[int, torch.Tensor] = field(default_factory=dict)
    prefix_values: dict[int, torch.Tensor] = field(default_factory=dict)
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    #: Whether a new token (B, S) does not see a token of its own branch (T): made once a forward, for all layers.
    hidden: torch.Tensor | None = None

    @property
    def branches(self) -> int:
        """Branches that are still decoded."""
        return self.pads.shape[0]

    @property
    def rows(self) -> int:
        """Tokens that it has in the next forward."""
        return self.fresh + self.branches * self.width

    def begin(self, fresh: int, width: int) -> torch.Tensor:
        """Get ready for a forward of `fresh` tokens of the prefix and then `width` of each branch.

        Returns the tokens' positions, (rows,).
        """
        device = self.pads.device
        self.fresh, self.width = fresh, width
        own = torch.arange(self.grown + width, device=device)
        new = own[self.grown :]
        self.hidden = (own < self.pads[:, None, None]) | (own > new[:, None])
        of_prefix = torch.arange(self.filled, self.filled + fresh, device=device)
        of_branches = (self.prefix + new - self.pads[:, None]).clamp(min=0)
        return torch.cat((of_prefix, of_branches.flatten()))

    def end(self) -> None:
        """The forward went through all layers: its tokens are part of the tree. Without it, it can be run again."""
        self.filled += self.fresh
        self.grown += self.width

    def keep(self, branches: torch.Tensor) -> None:
        """Go on with these branches only; what the others had is freed."""
        self.pads = self.pads[branches]
        for stored in (self.keys, self.values):
            for layer in stored:
                stored[layer] = stored[layer][:, branches]

    def fill(self, layer: int, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        """Take up keys and values of the prefix, (K, tokens, D), from `start` on."""
        for stored, new in ((self.prefix_keys, keys), (self.prefix_values, values)):
            if layer not in stored:
                stored[layer] = new.new_empty(new.shape[0], self.prefix, new.shape[2])
            stored[layer][:, start : start + new.shape[1]] = new

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take up the branches' new keys and values, (K, B * S, D); their own so far, (K * B, T, D)."""
        total = self.grown + self.width
        found = []
        for stored, new in ((self.keys, key), (self.values, value)):
            heads, _, size = new.shape
            if layer not in stored:
                stored[layer] = new.new_zeros(heads, self.branches, self.room, size)
            stored[layer][:, :, self.grown : total] = new.reshape(heads, self.branches, self.width, size)
            found.append(stored[layer].view(-1, self.room, size)[:, :total])
        return found[0], found[1]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    trees: Sequence[Tree],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over trees, as transformers calls it: query (1, H, N, D) to (1, N, H, D).

    Of the N tokens the first `trees[0].rows` are the first tree's, and so on; what is behind the last pads the forward.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    parts, start = [], 0
    for tree in trees:
        middle, stop = start + tree.fresh, start + tree.rows
        if tree.fresh:
            tree.fill(layer, key[0, :, start:middle], value[0, :, start:middle], tree.filled)
            parts.append(_prefix(query[:, :, start:middle], tree, layer, scaling)[0])
        if middle < stop:
            own = tree.store(layer, key[0, :, middle:stop], value[0, :, middle:stop])
            parts.append(_branches(query[0, :, middle:stop], tree, layer, *own, scaling))
        start = stop
    if start < query.shape[2]:
        parts.append(torch.zeros_like(query[0, :, start:]))
    return (torch.cat(parts, 1) if len(parts) > 1 else parts[0]).transpose(0, 1)[None], None


def _prefix(query: torch.Tensor, tree: Tree, layer: int, scaling: float) -> torch.Tensor:
    """New tokens of a prefix over all of it so far: query (1, H, S, D) to the same."""
    total = tree.filled + tree.fresh
    mask = None
    if tree.filled:
        mask = torch.ones(tree.fresh, total, dtype=torch.bool, device=query.device).tril(tree.filled)
    return functional.scaled_dot_product_attention(
        query, tree.prefix_keys[layer][None, :, :total], tree.prefix_values[layer][None, :, :total],
        attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True,
    )  # fmt: skip


def _branches(
    query: torch.Tensor, tree: Tree, layer: int, own_keys: torch.Tensor, own_values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """The branches' tokens over prefix and own branch: query (H, B * S, D) to the same."""
    heads, tokens, size = query.shape
    branches, width = tree.branches, tree.width
    shared = own_keys.shape[0] // branches
    over_prefix = _scaled(query.reshape(shared, -1, size), tree.prefix_keys[layer], scaling)
    # (K, G, B, S, D) to (K * B, G * S, D): each branch over its own, and back.
    split = query.reshape(shared, -1, branches, width, size).transpose(1, 2)
    over_own = _scaled(split.reshape(shared * branches, -1, size), own_keys, scaling)
    over_own = over_own.view(shared, branches, -1, width, own_keys.shape[1])
    assert tree.hidden is not None
    over_own = over_own.masked_fill(tree.hidden[:, None], -torch.inf).transpose(1, 2)
    scores = torch.cat((over_prefix, over_own.reshape(shared, -1, own_keys.shape[1])), -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    length = over_prefix.shape[-1]
    said = weights[..., :length] @ tree.prefix_values[layer]
    of_own = weights[..., length:].reshape(shared, -1, branches, width, own_keys.shape[1]).transpose(1, 2)
    own = (of_own.reshape(shared * branches, -1, own_keys.shape[1]) @ own_values).view(
        shared, branches, -1, width, size
    )
    return (said + own.transpose(1, 2).reshape(shared, -1, size)).view(heads, tokens, size)


def _scaled(query: torch.Tensor, keys: torch.Tensor, scaling: float) -> torch.Tensor:
    """Scaled products, (N, S, D) and (N, T, D) to (N, S, T), in one pass."""
    return torch.baddbmm(query.new_empty(()), query, keys.mT, beta=0, alpha=scaling)


def register() -> None:
    """Make the attention known to transformers, once a process; a second time changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
