"""A tree is to the model what each of its branches is alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from models.demo import CHECKPOINT, architecture, lessons, shop, tokens, trees
from models.demo.trees import Collator, Tree
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Prefix


@pytest.fixture(scope="module")
def processor() -> Any:
    return tokens.load_processor(CHECKPOINT)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(Settings(model=str(CHECKPOINT), model_device="cpu", model_dtype="float32"))


def _trees() -> list[Tree]:
    rng = random.Random(4)
    made: list[Tree] = []
    for _ in range(4):
        pair = shop.pair(rng, "held-out")
        made += [trees.of_product(pair.a), trees.of_intentions(pair)]
        made.append(trees.of_judgements(pair, lessons.judgements(rng, "held-out", pair, 6)))
    return made


@pytest.mark.parametrize("tree", _trees())
def test_the_tokens_are_those_of_the_engines_prompt(tree: Tree, checkpoint: Checkpoint, processor: Any) -> None:
    ids, places, _, owners = Collator(processor)._row(tree)
    prefix = Prefix(tree.text, (tree.picture,) if tree.picture else ())
    for number, lesson in enumerate(tree.branches, 1):
        seen = [(place, token) for token, place, owner in zip(ids, places, owners, strict=True) if owner in (0, number)]
        assert [place for place, _ in seen] == list(range(len(seen)))
        prompt = checkpoint.inputs(prefix, [Branch(lesson.question, lesson.begun)], 0)["input_ids"][0].tolist()
        answer = processor.tokenizer.encode(" " + lesson.answer, add_special_tokens=False)
        assert [token for _, token in seen] == prompt + answer


def test_a_branch_sees_the_prefix_and_itself(processor: Any) -> None:
    model = architecture.new_model(processor, seed=1).eval()
    collator = Collator(processor)
    both = [tree for tree in _trees() if len(tree.branches) < 20]
    batch = collator.batch(both)
    with torch.inference_mode():
        hidden = _hidden(model, batch)
        for row, tree in enumerate(both):
            for number, lesson in enumerate(tree.branches):
                alone = collator.batch([Tree(tree.text, tree.picture, (lesson,))])
                length = alone.tokens.shape[1]
                start = (alone.targets[0] >= 0).nonzero()[0].item()
                told = alone.targets[0, start:]
                # Where this branch's answer is in the row of all branches.
                places = _answer_places(collator, tree, number)
                assert batch.targets[row, places].tolist() == told.tolist()
                torch.testing.assert_close(
                    hidden[row, places], _hidden(model, alone)[0, length - len(places) :], atol=1e-4, rtol=1e-3
                )


def _hidden(model: Any, batch: trees.Batch) -> torch.Tensor:
    hidden: torch.Tensor = model.model(
        input_ids=batch.tokens, pixel_values=batch.pixels, attention_mask=batch.mask, position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    return hidden


def _answer_places(collator: Collator, tree: Tree, number: int) -> list[int]:
    _, _, wanted, owners = collator._row(tree)
    return [
        i for i, (target, owner) in enumerate(zip(wanted, owners, strict=True)) if owner == number + 1 and target >= 0
    ]
