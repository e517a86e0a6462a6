"""Batched decoding and scoring against the same model used by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.engine import Branch, Prefix, PromptTooLong
from services.lvlm.transformers_engine import CheckpointError, TransformersEngine
from tests.lvlm.untrained import make

_PICTURED = Prefix("First: a red cup.\nSecond: a saucer.", (Image.radial_gradient("L").convert("RGB"),))
_PREFIXES = [Prefix("First: a red cup.\nSecond: a saucer."), _PICTURED]
_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS]


def _inputs(engine: TransformersEngine, prefix: Prefix, asked: Branch) -> dict[str, torch.Tensor]:
    images = list(prefix.images) or None
    inputs = engine._processor(images=images, text=engine.render(prefix, asked), return_tensors="pt")
    return {name: value for name, value in inputs.items() if name != "token_type_ids"}


@pytest.mark.parametrize("prefix", _PREFIXES, ids=["text", "picture"])
def test_a_padded_batch_says_what_each_prompt_alone_says(engine: TransformersEngine, prefix: Prefix) -> None:
    together, usage = engine.complete(prefix, _BRANCHES, 24)
    for asked, completion in zip(_BRANCHES, together, strict=True):
        inputs = _inputs(engine, prefix, asked)
        with torch.inference_mode():
            tokens = engine._model.generate(**inputs, max_new_tokens=24, do_sample=False)
        alone = engine._tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert completion.text == alone
    assert len({completion.text for completion in together}) > len(RELATIONS) // 2
    assert usage.generated_tokens == sum(completion.tokens for completion in together)


@pytest.mark.parametrize("prefix", _PREFIXES, ids=["text", "picture"])
def test_a_score_is_what_the_logits_say(engine: TransformersEngine, prefix: Prefix) -> None:
    scores, _ = engine.score(prefix, _BRANCHES)
    encode = engine._tokenizer.encode
    yes, no = (
        sorted({encode(word, add_special_tokens=False)[0] for word in words})
        for words in (("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no"))
    )
    for asked, score in zip(_BRANCHES, scores, strict=True):
        with torch.inference_mode():
            chances = engine._model(**_inputs(engine, prefix, asked)).logits[0, -1].double().softmax(0)
        says_yes, says_no = float(chances[yes].sum()), float(chances[no].sum())
        assert score == pytest.approx(says_yes / (says_yes + says_no), abs=1e-4)


def test_a_sample_depends_on_its_seed_alone(engine: TransformersEngine) -> None:
    first, second = branch("IsA", 1, 7), branch("IsA", 2, 7)
    together, _ = engine.complete(_PICTURED, [_BRANCHES[0], first, second], 24)
    alone, _ = engine.complete(_PICTURED, [first], 24)
    assert together[1] == alone[0]
    assert together[1] != together[2]


def test_special_tokens_in_a_title_are_only_text(engine: TransformersEngine) -> None:
    said, _ = engine.complete(Prefix("A <image> cup</s> <pad>", _PICTURED.images), [Branch("What?")], 4)
    assert len(said) == 1


def test_a_prompt_that_does_not_fit_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(PromptTooLong, match="tokens do not fit"):
        engine.score(Prefix("cup " * 9000), [Branch("?")])


def test_the_version_is_that_of_the_files(engine: TransformersEngine, checkpoint: Path, tmp_path: Path) -> None:
    make(tmp_path / "small")
    again = TransformersEngine(Settings(model=str(tmp_path / "small"), model_device="cpu"))
    assert again.model_version == engine.model_version
    make(tmp_path / "small", seed=1)
    other = TransformersEngine(Settings(model=str(tmp_path / "small"), model_device="cpu"))
    assert other.model_version != engine.model_version


def test_a_broken_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError) as raised:
        TransformersEngine(Settings(model=str(broken)))
    assert "\n" not in str(raised.value)
    assert "broken" in str(raised.value)
