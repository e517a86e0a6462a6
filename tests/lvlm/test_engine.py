"""Both engines against the same model used by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.untrained import Shape, make
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Engine, EngineError, Prefix, PromptTooLong
from services.lvlm.load import load_engine
from services.lvlm.plain import PlainEngine
from services.lvlm.tree.engine import TreeEngine

_PICTURED = Prefix("First: a red cup.\nSecond: a saucer.", (Image.radial_gradient("L").convert("RGB"),))
_PREFIXES = [Prefix("First: a red cup.\nSecond: a saucer."), _PICTURED]
_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS]


def _load(folder: Path) -> Checkpoint:
    return Checkpoint(Settings(model=str(folder), model_device="cpu"))


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return _load(checkpoint)


@pytest.fixture(scope="module", params=[TreeEngine, PlainEngine])
def engine(request: pytest.FixtureRequest, checkpoint: Path) -> Engine:
    """On a checkpoint of its own: the tree engine changes it, and is compared with one that nobody did."""
    made: Engine = request.param(_load(checkpoint), Settings())
    return made


@pytest.fixture(scope="module", params=_PREFIXES, ids=["text", "picture"])
def alone(request: pytest.FixtureRequest, loaded: Checkpoint) -> tuple[Prefix, list[str]]:
    """A prefix, and what `generate()` says to each branch by itself."""
    said = []
    for asked in _BRANCHES:
        inputs = loaded.inputs(request.param, [asked], 24)
        with torch.inference_mode():
            tokens = loaded.model.generate(**inputs, max_new_tokens=24, do_sample=False)
        text = loaded.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        said.append(text.partition("\n")[0])
    return request.param, said


def test_all_branches_together_say_what_each_says_alone(engine: Engine, alone: tuple[Prefix, list[str]]) -> None:
    prefix, said = alone
    together, usage = engine.complete(prefix, _BRANCHES, 24)
    assert [completion.text for completion in together] == said
    assert len(set(said)) > len(RELATIONS) // 2
    assert usage.generated_tokens == sum(completion.tokens for completion in together)


@pytest.mark.parametrize("prefix", _PREFIXES, ids=["text", "picture"])
def test_a_score_is_what_the_logits_say(engine: Engine, loaded: Checkpoint, prefix: Prefix) -> None:
    scores, _ = engine.score(prefix, _BRANCHES)
    encode = loaded.tokenizer.encode
    yes, no = (
        sorted({encode(word, add_special_tokens=False)[0] for word in words})
        for words in (("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no"))
    )
    for asked, score in zip(_BRANCHES, scores, strict=True):
        with torch.inference_mode():
            chances = loaded.model(**loaded.inputs(prefix, [asked], 0)).logits[0, -1].double().softmax(0)
        says_yes, says_no = float(chances[yes].sum()), float(chances[no].sum())
        assert score == pytest.approx(says_yes / (says_yes + says_no), abs=1e-4)


def test_a_sample_depends_on_its_seed_alone(engine: Engine) -> None:
    first, second = branch("IsA", 1, 7), branch("IsA", 2, 7)
    together, _ = engine.complete(_PICTURED, [_BRANCHES[0], first, second], 24)
    alone, _ = engine.complete(_PICTURED, [first], 24)
    assert together[1] == alone[0]
    assert together[1] != together[2]
    assert together[0] == engine.complete(_PICTURED, [_BRANCHES[0]], 24)[0][0]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_length_limit_is_kept(engine: Engine, count: int) -> None:
    said, usage = engine.complete(_PICTURED, _BRANCHES, count)
    assert max(completion.tokens for completion in said) == count
    assert usage.generated_tokens <= count * len(_BRANCHES)


def test_one_branch_is_a_tree_too(engine: Engine) -> None:
    for prefix in _PREFIXES:
        several, _ = engine.complete(prefix, _BRANCHES[:3], 8)
        assert engine.complete(prefix, _BRANCHES[:1], 8)[0] == several[:1]
        scores, _ = engine.score(prefix, _BRANCHES[:3])
        assert engine.score(prefix, _BRANCHES[:1])[0] == pytest.approx(scores[:1], abs=1e-4)


def test_alike_branches_say_alike(engine: Engine) -> None:
    said, _ = engine.complete(_PICTURED, [_BRANCHES[4]] * 3, 8)
    assert len(set(said)) == 1


def test_the_tree_reads_its_prefix_once(loaded: Checkpoint, checkpoint: Path) -> None:
    tree, plain = TreeEngine(_load(checkpoint), Settings()), PlainEngine(loaded, Settings())
    ours, theirs = (engine.score(_PICTURED, _BRANCHES)[1].prompt_tokens for engine in (tree, plain))
    one = plain.score(_PICTURED, _BRANCHES[:1])[1].prompt_tokens
    assert ours < theirs / 2
    assert ours >= one


def test_heads_that_share_keys_are_a_tree_too(tmp_path: Path) -> None:
    make(tmp_path / "grouped", shape=Shape(key_value_heads=2))
    tree, plain = (engine(_load(tmp_path / "grouped"), Settings()) for engine in (TreeEngine, PlainEngine))
    assert tree.complete(_PICTURED, _BRANCHES, 8)[0] == plain.complete(_PICTURED, _BRANCHES, 8)[0]


def test_an_attention_that_the_tree_does_not_know_is_decoded_plainly(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["model_type"] = "mistral"
    config["text_config"]["sliding_window"] = 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert isinstance(load_engine(Settings(model=str(tmp_path), model_device="cpu")), PlainEngine)
    with pytest.raises(EngineError, match="sliding window"):
        load_engine(Settings(model=str(tmp_path), model_device="cpu", engine="tree"))


def test_special_tokens_in_a_title_are_only_text(engine: Engine) -> None:
    said, _ = engine.complete(Prefix("A <image> cup</s> <pad>", _PICTURED.images), [Branch("What?")], 4)
    assert len(said) == 1


def test_a_prompt_that_does_not_fit_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="tokens do not fit"):
        engine.score(Prefix("cup " * 9000), [Branch("?")])


def test_the_version_is_that_of_the_files(loaded: Checkpoint, tmp_path: Path) -> None:
    make(tmp_path / "small")
    again = Checkpoint(Settings(model=str(tmp_path / "small"), model_device="cpu"))
    assert again.version == loaded.version
    make(tmp_path / "small", seed=1)
    other = Checkpoint(Settings(model=str(tmp_path / "small"), model_device="cpu"))
    assert other.version != loaded.version


def test_a_broken_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(EngineError) as raised:
        load_engine(Settings(model=str(broken)))
    assert "\n" not in str(raised.value)
    assert "broken" in str(raised.value)
