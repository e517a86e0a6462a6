"""Likelihoods of given answers, against the same model used by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.demo import CHECKPOINT
from models.untrained import make
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, Prefix
from services.lvlm.likelihood import likelihoods
from tests.lvlm.architectures import idefics3, llava_next, qwen2_vl

_PICTURED = Prefix("Two products.", (Image.radial_gradient("L").convert("RGB"),))
_ANSWERS = ["because", "because they are both used for tea", "they are both made of", "yes"]


def by_hand(checkpoint: Checkpoint, prefix: Prefix, question: str, answer: str) -> tuple[float, int]:
    """Sum of log probabilities of an answer's tokens, and how many they are: the whole prompt in one forward."""
    whole, asked = (checkpoint.inputs(prefix, [Branch(question, said)], 0) for said in (answer, ""))
    begun = asked["input_ids"].shape[1]
    with torch.inference_mode():
        told = checkpoint.model(**whole).logits[0].float().log_softmax(-1)
    tokens = whole["input_ids"][0, begun:]
    return float(sum(told[begun + place - 1, token] for place, token in enumerate(tokens))), len(tokens)


@pytest.mark.parametrize("made", [make, llava_next, idefics3, qwen2_vl])
def test_answers_are_as_likely_together_as_each_alone(made: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path / "model")
    checkpoint = Checkpoint(Settings(model=str(tmp_path / "model"), model_device="cpu"))
    for prefix in (Prefix("Two products."), _PICTURED, Prefix("Two others.")):
        found = likelihoods(checkpoint, prefix, " Why?", _ANSWERS)
        for one, answer in zip(found, _ANSWERS, strict=True):
            logprob, tokens = by_hand(checkpoint, prefix, " Why?", answer)
            assert one.tokens == tokens
            assert one.logprob == pytest.approx(logprob, abs=1e-3)


def test_the_likeliest_answer_is_the_one_that_the_model_gives() -> None:
    checkpoint = Checkpoint(Settings(model=str(CHECKPOINT), model_device="cpu"))
    question = "\nList what a buyer does with it, separated by commas."
    prefix = Prefix("\nThis is the title of a product in an online shop; there is no picture of it: Kalo Tent\n")
    inputs = checkpoint.inputs(prefix, [Branch(question)], 16)
    said = checkpoint.model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    given = checkpoint.said(said.tolist())[0].strip()
    found = likelihoods(checkpoint, prefix, question, [given, "making tea in a hurry", "yes"])
    assert max(found, key=lambda one: one.mean) is found[0]


def test_what_is_not_a_number_is_said_so(tmp_path: Path) -> None:
    make(tmp_path / "model")
    checkpoint = Checkpoint(Settings(model=str(tmp_path / "model"), model_device="cpu"))
    with torch.no_grad():
        checkpoint.model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(BrokenNumbers):
        likelihoods(checkpoint, Prefix("Two products."), " Why?", _ANSWERS)
