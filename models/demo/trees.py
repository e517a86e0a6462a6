"""Lessons as the model reads them: one prefix and many branches in one sequence, behind a mask.

A branch sees the prefix and itself, and its positions go on where the prefix ends: to the model it is the very prompt
that the engine renders, but a prefix that twenty branches share is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mindstream.inference.v1.common_pb2 import ProductView
from PIL.Image import Image

from models.demo import lessons
from models.demo.lessons import Judgement
from models.demo.shop import Pair, Product
from models.demo.tokens import PROMPTS
from services.common.relations import RELATIONS, sentence
from services.lvlm.pictures import stacked
from services.lvlm.prompts import PromptFile, described

#: Both products as the extractor described them.
Views = tuple[ProductView, ProductView]
_ASSISTANT = " ASSISTANT:"
_END = "</s>"


class Lesson(NamedTuple):
    """A branch: the rest of the user's message, how the answer begins, and how it goes on."""

    question: str
    begun: str
    answer: str


@dataclass(frozen=True)
class Tree:
    """The beginning of the user's message, its picture, and the branches."""

    text: str
    picture: Image | None
    branches: tuple[Lesson, ...]

    @property
    def prefix(self) -> str:
        """What all branches share, in the chat template's form."""
        return "USER: " + ("<image>\n" if self.picture else "") + self.text


def of_product(product: Product) -> Tree:
    """The extractor's three questions."""
    prompts = PROMPTS["extractor"]
    answers = {
        "description": lessons.description(product),
        "features": ", ".join(lessons.features(product)),
        "uses": ", ".join(lessons.uses(product)),
    }
    text = prompts["with_picture" if product.pictured else "without_picture"].format(title=product.title)
    branches = tuple(Lesson(prompts[name], "", answer) for name, answer in answers.items())
    return Tree(text, product.picture() if product.pictured else None, branches)


def of_intentions(pair: Pair, views: Views | None = None) -> Tree:
    """The generator's question under all relations."""
    prompts = PROMPTS["generator"]
    branches = [
        Lesson(
            prompts["question"].format(phrase=relation.phrase),
            prompts["answer"].format(phrase=relation.phrase),
            lessons.intention(pair, relation.name),
        )
        for relation in RELATIONS
    ]
    return _of_pair(prompts, pair, branches, views)


def of_judgements(pair: Pair, judgements: Iterable[Judgement], views: Views | None = None) -> Tree:
    """The filter's question of good and bad candidates."""
    prompts = PROMPTS["filter"]
    branches = [
        Lesson(
            prompts["question"].format(intention=sentence(judged.relation, judged.text)),
            "",
            "yes" if judged.good else "no",
        )
        for judged in judgements
    ]
    return _of_pair(prompts, pair, branches, views)


def _of_pair(prompts: PromptFile, pair: Pair, branches: Sequence[Lesson], views: Views | None) -> Tree:
    both = pair.a.pictured and pair.b.pictured
    opening = prompts["with_pictures" if both else "without_pictures"]
    a, b = views or (lessons.view(pair.a), lessons.view(pair.b))
    text = opening + prompts["products"].format(a=described(a), b=described(b))
    return Tree(text, stacked([pair.a.picture(), pair.b.picture()]) if both else None, tuple(branches))


@dataclass
class Batch:
    """Trees as tensors: `tokens`, `positions`, `targets` (B, T), `mask` (B, 1, T, T), `pixels` (pictures, 3, S, S).

    `targets` holds the token that should come next, and -100 where nothing is learned.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    pixels: torch.Tensor | None


class Collator:
    """Trees into batches, for one processor."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._image = self._tokenizer.convert_tokens_to_ids("<image>")
        self._end = self._tokenizer.convert_tokens_to_ids(_END)
        side, patch = processor.image_processor.crop_size["height"], processor.patch_size
        self._patches = (side // patch) ** 2

    def batch(self, trees: Sequence[Tree]) -> Batch:
        """All trees padded to the longest."""
        rows = [self._row(tree) for tree in trees]
        length = max(len(row[0]) for row in rows)
        shape = (len(rows), length)
        tokens, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        targets = torch.full(shape, -100)
        # Padding is a branch of its own that nobody sees; it sees itself, since a row of nothing has no softmax.
        owners = torch.full(shape, -1)
        for index, (ids, places, wanted, owner) in enumerate(rows):
            tokens[index, : len(ids)] = torch.tensor(ids)
            positions[index, : len(ids)] = torch.tensor(places)
            targets[index, : len(ids)] = torch.tensor(wanted)
            owners[index, : len(ids)] = torch.tensor(owner)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        same = owners[:, :, None] == owners[:, None, :]
        mask = (causal & (same | (owners == 0)[:, None, :])).unsqueeze(1)
        pictures = [tree.picture for tree in trees if tree.picture is not None]
        pixels = self._processor.image_processor(pictures, return_tensors="pt")["pixel_values"] if pictures else None
        return Batch(tokens, positions, targets, mask, pixels)

    def _row(self, tree: Tree) -> tuple[list[int], list[int], list[int], list[int]]:
        ids: list[int] = []
        for token in self._encode(tree.prefix):
            ids += [token] * (self._patches if token == self._image else 1)
        places = list(range(len(ids)))
        wanted, owner, start = [-100] * len(ids), [0] * len(ids), len(ids)
        for number, lesson in enumerate(tree.branches, 1):
            rest = f"{lesson.question}{_ASSISTANT} {lesson.begun}".rstrip()
            asked, answered = self._encode(rest), [*self._encode(" " + lesson.answer), self._end]
            # The last token is only ever predicted, never read.
            branch = [*asked, *answered[:-1]]
            ids += branch
            places += range(start, start + len(branch))
            wanted += [-100] * (len(asked) - 1) + answered
            owner += [number] * len(branch)
        return ids, places, wanted, owner

    def _encode(self, text: str) -> list[int]:
        encoded: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return encoded
