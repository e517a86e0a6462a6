"""What prompts share with earlier ones: keys and values of the same beginning, and pictures as embeddings.

Pictures stand first in a prompt: a pair's filter prompt shares theirs with its generator prompt, and prompts that begin
alike share all. Beginnings are kept in chunks, each under a hash of all that stands before its end. A chunk is always
computed by itself, whether it is kept or not, so that an answer does not depend on what was asked before.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL.Image import Image

from services.lvlm.tree.attention import Tree

#: Tokens of a chunk: enough to keep a GPU busy, few enough that decoding between two chunks does not wait long.
CHUNK = 256
#: Pictures kept; one of LLaVA-1.5-13b is 6 MB.
_PICTURES = 64

#: Keys and values (K, tokens, D) of one chunk by layer.
Layers = dict[int, tuple[torch.Tensor, ...]]


def digest(pictures: Sequence[Image]) -> bytes:
    """One hash of pictures, by their pixels, in order."""
    found = hashlib.sha256()
    for picture in pictures:
        found.update(f"{picture.mode} {picture.size} ".encode() + picture.tobytes())
    return found.digest()


def names(tokens: Sequence[int], pictures: bytes) -> Iterator[bytes]:
    """The name of each whole chunk: a hash of the pictures and of all tokens up to its end."""
    name = pictures
    for end in range(CHUNK, len(tokens) + 1, CHUNK):
        name = hashlib.sha256(name + repr(tokens[end - CHUNK : end]).encode()).digest()
        yield name


class Cache:
    """The most recently used chunks, up to a number of tokens, and pictures."""

    def __init__(self, tokens: int) -> None:
        self._most = tokens // CHUNK
        self._chunks: OrderedDict[bytes, Layers] = OrderedDict()
        self._pictures: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values are held."""
        return len(self._chunks) * CHUNK

    def chunks(self, names: Iterable[bytes]) -> list[Layers]:
        """The first of the named chunks, as far as they were kept."""
        found = list(itertools.takewhile(lambda name: name in self._chunks, names))
        for name in reversed(found):  # The last is forgotten first: without those before it, it is of no use.
            self._chunks.move_to_end(name)
        return [self._chunks[name] for name in found]

    def keep(self, name: bytes, tree: Tree, start: int, stop: int) -> None:
        """Keep a chunk of a tree's prefix, and forget those that were not used for the longest time."""
        if self._most:
            self._chunks[name] = {
                layer: (
                    tree.prefix_keys[layer][:, start:stop].clone(),
                    tree.prefix_values[layer][:, start:stop].clone(),
                )
                for layer in tree.prefix_keys
            }
        while len(self._chunks) > self._most:
            self._chunks.popitem(last=False)

    def clear(self) -> None:
        """Give back the memory of all chunks."""
        self._chunks.clear()

    def picture(self, name: bytes) -> torch.Tensor | None:
        """Embeddings (placeholders, d) of pictures that were kept."""
        found = self._pictures.get(name)
        if found is not None:
            self._pictures.move_to_end(name)
        return found

    def keep_picture(self, name: bytes, embeddings: torch.Tensor) -> None:
        """Keep pictures as the text model sees them."""
        if self._most:
            self._pictures[name] = embeddings
        while len(self._pictures) > _PICTURES:
            self._pictures.popitem(last=False)
