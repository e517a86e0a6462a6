"""Examples as tensors: the very prompts that the engine renders, and behind them the answers that are learned."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image

from services.common.media import MediaStore
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Prefix
from services.lvlm.pictures import opened, stacked
from training.errors import TrainingError

#: Batches that are made of neighbours in length, before their order is drawn again.
_WINDOW = 50
#: Pictures kept, normalised: most products are in several examples.
_KEPT_PICTURES = 4096


def order(lengths: Sequence[int], size: int, count: int, seed: int) -> list[int]:
    """Which examples stand in `count` batches of `size`, in this order: each as often as any other, but for one.

    Examples of a batch are of like length, so that little is padding. It follows from the arguments alone: a run that
    was stopped goes on with the same batches.
    """
    drawn = random.Random(seed)
    places = list(range(len(lengths)))
    stream: list[int] = []
    while len(stream) < size * count:
        drawn.shuffle(places)
        stream += places
    del stream[size * count :]
    chosen: list[int] = []
    for start in range(0, len(stream), size * _WINDOW):
        window = sorted(stream[start : start + size * _WINDOW], key=lambda place: (lengths[place], place))
        batches = [window[begin : begin + size] for begin in range(0, len(window), size)]
        drawn.shuffle(batches)
        chosen += [place for batch in batches for place in batch]
    return chosen


class Collator:
    """Examples into batches for one checkpoint: tokens, and labels of the answers and their ends alone."""

    def __init__(self, checkpoint: Checkpoint, media: MediaStore, most_pixels: int) -> None:
        self._checkpoint, self._media, self._most_pixels = checkpoint, media, most_pixels
        self._tokenizer = checkpoint.tokenizer
        self._end = _end_of(checkpoint)
        self._picture = lru_cache(_KEPT_PICTURES)(self._opened)

    def lengths(self, prompts: Sequence[str], answers: Sequence[str], pictures: Sequence[bool]) -> list[int]:
        """Tokens of each example, those of its picture included (as of a small square one)."""
        blank = Image.new("RGB", (64, 64))
        whole = self._checkpoint.inputs(Prefix("", (blank,)), [Branch("")], 0)["input_ids"].shape[1]
        of_picture = whole - len(self._tokens([self._rendered("", "", True)])[0])
        texts = [
            self._rendered(prompt, answer, pictured) + self._end
            for prompt, answer, pictured in zip(prompts, answers, pictures, strict=True)
        ]
        return [
            len(tokens) + of_picture * pictured for tokens, pictured in zip(self._tokens(texts), pictures, strict=True)
        ]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels` (B, T), and what the processor makes of pictures.

        Rows with a picture come first: some processors take no batch that has rows of both kinds.
        """
        parts = [[row for row in rows if row["pictures"]], [row for row in rows if not row["pictures"]]]
        made = [self._part(part) for part in parts if part]
        length = max(part["input_ids"].shape[1] for part in made)
        fills = {"input_ids": self._tokenizer.pad_token_id, "labels": -100}
        batch: dict[str, torch.Tensor] = {}
        for name in dict.fromkeys(name for part in made for name in part):
            # What stands for a token each is padded to one length; pictures are only in one part.
            found = [part[name] for part in made if name in part]
            if found[0].shape == made[0]["input_ids"].shape or name in fills:
                found = [
                    torch.nn.functional.pad(value, (0, length - value.shape[1]), value=fills.get(name, 0))
                    for value in found
                ]
            batch[name] = torch.cat(found)
        return batch

    def _part(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows that all have a picture, or none has, padded behind."""
        pictured = bool(rows[0]["pictures"])
        asked = [self._rendered(row["prompt"], "", pictured) for row in rows]
        told = [self._rendered(row["prompt"], row["answer"], pictured) + self._end for row in rows]
        pictures = [[self._shown(row)] for row in rows] if pictured else None
        inputs: dict[str, torch.Tensor] = dict(
            self._checkpoint.processor(
                images=pictures, text=told, padding=True, padding_side="right", return_tensors="pt"
            )
        )
        inputs.pop("token_type_ids", None)
        labels = torch.full_like(inputs["input_ids"], -100)
        # Placeholders are spread out in front of the answer: it is counted from the end.
        for row, (before, whole) in enumerate(zip(self._tokens(asked), self._tokens(told), strict=True)):
            shared = next((i for i, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), None)
            stop = int(inputs["attention_mask"][row].sum())
            start = stop - (len(whole) - (len(before) if shared is None else shared))
            labels[row, start:stop] = inputs["input_ids"][row, start:stop]
        return {**inputs, "labels": labels}

    def _rendered(self, prompt: str, answer: str, pictured: bool) -> str:
        # Only how many pictures there are is rendered.
        blank = (Image.new("RGB", (1, 1)),) if pictured else ()
        return self._checkpoint.render(Prefix(prompt, blank), Branch("", answer))

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(list(texts))["input_ids"]
        return found

    def _shown(self, row: dict[str, Any]) -> Image.Image:
        pictures = [self._picture(digest) for digest in row["pictures"]]
        return stacked(pictures) if len(pictures) > 1 else pictures[0]

    def _opened(self, digest: str) -> Image.Image:
        try:
            return opened(self._media.get(digest), self._most_pixels)
        except (KeyError, OSError) as error:
            raise TrainingError(f"the picture {digest} is gone from the media store or broken: {error}") from None


def _end_of(checkpoint: Checkpoint) -> str:
    """The token that ends an answer, as text."""
    token = checkpoint.tokenizer.eos_token_id
    if token not in checkpoint.ends:
        token = min(checkpoint.ends - {checkpoint.tokenizer.pad_token_id})
    end: str = checkpoint.tokenizer.convert_ids_to_tokens(token)
    return end
