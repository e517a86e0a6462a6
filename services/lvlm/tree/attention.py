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
    #: Tokens of each branch, (B,); no branches before the prefix is whole.
    lengths: torch.Tensor
    #: Tokens of the prefix so far.
    filled: int = 0
    #: New tokens of the next forward: of the prefix, and of each branch.
    fresh: int = 0
    width: int = 0
    prefix_keys: dict[int, torch.Tensor] = field(default_factory=dict)
    prefix_values: dict[int, torch.Tensor] = field(default_factory=dict)
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)
    #: Whether a new token (B, S) sees a token of its own branch (T): made once a forward, for all layers.
    sees: torch.Tensor | None = None
    #: Where the new tokens go in their branch's room, (B, S).
    places: torch.Tensor | None = None

    @property
    def branches(self) -> int:
        """Branches that are still decoded."""
        return self.lengths.shape[0]

    @property
    def rows(self) -> int:
        """Tokens that it has in the next forward."""
        return self.fresh + self.branches * self.width

    def begin(self, fresh: int, width: int, longest: int) -> torch.Tensor:
        """Get ready for a forward of `fresh` tokens of the prefix and then `width` of each branch.

        No branch is longer than `longest` after it. Returns the tokens' positions, (rows,).
        """
        device = self.lengths.device
        self.fresh, self.width = fresh, width
        self.places = self.lengths[:, None] + torch.arange(width, device=device)
        self.sees = torch.arange(longest, device=device) <= self.places[:, :, None]
        of_prefix = torch.arange(self.filled, self.filled + fresh, device=device)
        return torch.cat((of_prefix, (self.prefix + self.places).flatten()))

    def end(self) -> None:
        """The forward went through all layers: its tokens are part of the tree. Without it, it can be run again."""
        self.filled += self.fresh
        self.lengths = self.lengths + self.width

    def keep(self, branches: torch.Tensor) -> None:
        """Go on with these branches only; what the others had is freed."""
        self.lengths = self.lengths[branches]
        for stored in (self.keys, self.values):
            for layer in stored:
                stored[layer] = stored[layer][branches]

    def fill(self, layer: int, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        """Take up keys and values of the prefix, (K, tokens, D), from `start` on."""
        for stored, new in ((self.prefix_keys, keys), (self.prefix_values, values)):
            if layer not in stored:
                stored[layer] = new.new_empty(new.shape[0], self.prefix, new.shape[2])
            stored[layer][:, start : start + new.shape[1]] = new

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take up the branches' new keys and values, (K, B * S, D); their own so far, (B, K, T, D)."""
        assert self.places is not None
        assert self.sees is not None
        rows = torch.arange(self.branches, device=key.device)[:, None]
        found = []
        for stored, new in ((self.keys, key), (self.values, value)):
            heads, _, size = new.shape
            if layer not in stored:
                stored[layer] = new.new_zeros(self.branches, heads, self.room, size)
            stored[layer][rows, :, self.places] = new.view(heads, self.branches, self.width, size).permute(1, 2, 0, 3)
            found.append(stored[layer][:, :, : self.sees.shape[-1]])
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
    said = torch.zeros_like(query)
    start = 0
    for tree in trees:
        middle, stop = start + tree.fresh, start + tree.rows
        if tree.fresh:
            here = (slice(None), slice(None), slice(start, middle))
            tree.fill(layer, key[0, :, start:middle], value[0, :, start:middle], tree.filled)
            said[here] = _prefix(query[here], tree, layer, scaling)
        if middle < stop:
            own = tree.store(layer, key[0, :, middle:stop].contiguous(), value[0, :, middle:stop].contiguous())
            said[0, :, middle:stop] = _branches(query[0, :, middle:stop], tree, layer, *own, scaling)
        start = stop
    return said.transpose(1, 2), None


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
    shared = own_keys.shape[1]
    grouped = query.reshape(shared, heads // shared * tokens, size)
    over_prefix = grouped @ tree.prefix_keys[layer].mT
    # (K, G, B, S, D) to (B, K, G * S, D): each branch over its own.
    split = query.reshape(shared, heads // shared, tree.branches, tree.width, size)
    by_branch = split.permute(2, 0, 1, 3, 4).reshape(tree.branches, shared, -1, size)
    over_own = (by_branch @ own_keys.mT).reshape(tree.branches, shared, heads // shared, tree.width, -1)
    assert tree.sees is not None
    over_own = over_own.masked_fill(~tree.sees[:, None, None], -torch.inf)
    over_own = over_own.permute(1, 2, 0, 3, 4).reshape(shared, heads // shared * tokens, -1)
    scores = torch.cat((over_prefix, over_own), -1).float().mul_(scaling)
    weights = scores.softmax(-1).to(query.dtype)
    length = over_prefix.shape[-1]
    said = weights[..., :length] @ tree.prefix_values[layer]
    own = weights[..., length:].reshape(shared, heads // shared, tree.branches, tree.width, -1)
    own = own.permute(2, 0, 1, 3, 4).reshape(tree.branches, shared, heads // shared * tree.width, -1) @ own_values
    own = own.reshape(tree.branches, shared, heads // shared, tree.width, size).permute(1, 2, 0, 3, 4)
    return (said + own.reshape(shared, -1, size)).reshape(heads, tokens, size)


def register() -> None:
    """Make the attention known to transformers, once a process; a second time changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
