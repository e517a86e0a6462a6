"""The attention of a tree: keys and values of the prefix once, those of each branch beside them.

A general server reads the prefix's keys and values once per branch and step. Here all branches are query positions of
one sequence, so each layer reads the prefix once a step, in one matrix product.

Shapes: H query heads, K key-value heads, G = H / K, D head size, P prefix tokens, B branches, S new tokens per branch,
T the longest branch so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

#: The name under which transformers knows this attention.
NAME = "mindstream_tree"


@dataclass
class Tree:
    """What a tree has computed so far: keys and values by layer, and how long each branch is."""

    #: Tokens of the prefix that the next forward begins with; nought after the first.
    prefix_tokens: int
    #: New tokens per branch of the next forward.
    width: int
    #: Tokens of each branch before the next forward, (B,).
    lengths: torch.Tensor
    #: Longest that a branch may grow.
    room: int
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

    def begin(self, prefix_tokens: int, width: int, longest: int) -> None:
        """Get ready for a forward of `width` new tokens per branch, after which none is longer than `longest`."""
        self.prefix_tokens, self.width = prefix_tokens, width
        steps = torch.arange(width, device=self.lengths.device)
        self.places = self.lengths[:, None] + steps
        own = torch.arange(longest, device=self.lengths.device)
        self.sees = own <= self.places[:, :, None]

    def keep(self, branches: torch.Tensor) -> None:
        """Go on with these branches only; what the others had is freed."""
        self.lengths = self.lengths[branches]
        for stored in (self.keys, self.values):
            for layer in stored:
                stored[layer] = stored[layer][branches]

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take up the new tokens' keys and values, (1, K, P + B * S, D); the branches' own so far, (B, K, T, D)."""
        count = self.prefix_tokens
        if count:
            self.prefix_keys[layer] = key[0, :, :count].contiguous()
            self.prefix_values[layer] = value[0, :, :count].contiguous()
        assert self.places is not None
        assert self.sees is not None
        rows = torch.arange(self.branches, device=key.device)[:, None]
        found = []
        for stored, new in ((self.keys, key), (self.values, value)):
            heads, size = new.shape[1], new.shape[3]
            if layer not in stored:
                stored[layer] = new.new_zeros(self.branches, heads, self.room, size)
            fresh = new[0, :, count:].reshape(heads, self.branches, self.width, size).permute(1, 2, 0, 3)
            stored[layer][rows, :, self.places] = fresh
            found.append(stored[layer][:, :, : self.sees.shape[-1]])
        return found[0], found[1]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    tree: Tree,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a tree, as transformers calls it: query (1, H, P + B * S, D) to (1, P + B * S, H, D)."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    count = tree.prefix_tokens
    own_keys, own_values = tree.store(layer, key, value)
    parts = []
    if count:
        part = (slice(None), slice(None), slice(0, count))
        parts.append(
            functional.scaled_dot_product_attention(
                query[part], key[part], value[part], is_causal=True, scale=scaling, enable_gqa=True
            )
        )
    asked = query[0, :, count:]
    if asked.shape[1]:
        parts.append(_branches(asked, tree, layer, own_keys, own_values, scaling))
    return torch.cat(parts, 2).transpose(1, 2), None


def _branches(
    query: torch.Tensor, tree: Tree, layer: int, own_keys: torch.Tensor, own_values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """The branches' tokens over prefix and own branch: query (H, B * S, D) to (1, H, B * S, D)."""
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
    return (said + own.reshape(shared, -1, size)).reshape(1, heads, tokens, size)


def register() -> None:
    """Make the attention known to transformers, once a process; a second time changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
