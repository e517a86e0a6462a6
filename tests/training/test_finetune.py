"""Fine-tuning the demo model on a small release, killed and gone on with, and the adapter in the engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models.demo import CHECKPOINT
from models.untrained import make
from services.common.media import MediaStore
from services.common.settings import Settings
from services.lvlm.adapter import FILES
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, EngineError, Prefix
from services.lvlm.load import load_engine
from tests.lvlm.architectures import idefics3, llava_next, qwen2_vl
from tests.training.conftest import RECIPE, Trained
from tests.training.releases import release
from training import rows
from training.batches import Collator
from training.errors import TrainingError
from training.finetune import finetune
from training.run import CHECKPOINTS, Recipe

_BRANCHES = [Branch("Why? Because", ""), Branch("What is it", "It is")]


def test_the_record_says_what_was_trained_on_what(trained: Trained) -> None:
    manifest = json.loads((trained.release / "manifest.json").read_bytes())
    record = json.loads((trained.out / "run.json").read_bytes())
    assert record == json.loads(json.dumps(trained.record))
    assert record["state"] == "done"
    assert record["release"]["id"] == manifest["release_id"]
    assert record["base"]["version"] == Checkpoint(trained.settings).version
    assert record["recipe"]["kinds"] == list(RECIPE.kinds)
    assert {"features": 8, "generation": 8, "judgement": 8, "intent-understand": 8}.items() <= record["rows"].items()
    assert [step for step, _ in record["losses"]] == list(range(1, 25))
    assert record["losses"][-1][1] < record["losses"][0][1]
    config = json.loads((trained.out / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == CHECKPOINT.name
    assert "vision" not in config["target_modules"]


def test_the_adapter_changes_what_the_engine_says_and_its_version(trained: Trained) -> None:
    tuned = trained.settings.model_copy(update={"adapter": str(trained.out), "engine": "tree"})
    before, after = load_engine(trained.settings), load_engine(tuned)
    digest = trained.record["adapter"]["sha256"]
    assert after.model_version == f"{before.model_version}+tuned@sha256:{digest[:12]}"
    for prefix in (Prefix("Two products."), Prefix("Two products.", (Image.radial_gradient("L").convert("RGB"),))):
        assert after.score(prefix, _BRANCHES)[0] != pytest.approx(before.score(prefix, _BRANCHES)[0], abs=1e-3)


def test_the_loss_is_of_answers_alone_behind_the_engines_prompt(trained: Trained) -> None:
    checkpoint = Checkpoint(trained.settings)
    media = MediaStore(trained.settings.media_url)
    found = rows.examples(rows.verified(str(trained.release)), RECIPE.kinds).to_pylist()
    shown = [row for row in found if row["pictures"]]
    mixed = [
        shown[0],
        next(row for row in found if not row["pictures"]),
        next(r for r in shown if len(r["pictures"]) == 2),
    ]
    collator = Collator(checkpoint, media, 10**8)
    batch = collator(mixed)
    order = [mixed[0], mixed[2], mixed[1]]  # Those with pictures come first.
    assert batch["pixel_values"].shape[0] == 2
    for row, tokens, labels in zip(order, batch["input_ids"], batch["labels"], strict=True):
        learned = labels >= 0
        told = checkpoint.tokenizer.decode(labels[learned])
        assert told == f" {row['answer'].lower()}{checkpoint.tokenizer.eos_token}"
        begun = int(learned.nonzero()[0])
        picture = (Image.new("RGB", (8, 8)),) * bool(row["pictures"])
        asked = checkpoint.inputs(Prefix(row["prompt"], picture), [Branch("")], 0)["input_ids"][0]
        assert torch.equal(tokens[:begun], asked)
    lengths = collator.lengths(
        [row["prompt"] for row in order], [row["answer"] for row in order], [bool(row["pictures"]) for row in order]
    )
    assert lengths == batch["attention_mask"].sum(1).tolist()


@pytest.mark.parametrize("made", [llava_next, idefics3, qwen2_vl])
def test_other_architectures_are_trained_as_well(
    made: Callable[[Path], None], trained: Trained, tmp_path: Path
) -> None:
    made(tmp_path / "model")
    settings = trained.settings.model_copy(update={"model": str(tmp_path / "model")})
    recipe = Recipe(kinds=("generation", "intent-understand"), steps=8, batch=4, learning_rate=1e-2)
    record = finetune(str(trained.release), settings, tmp_path / "tuned", recipe, say=lambda _: None)
    assert record["losses"][-1][1] < record["losses"][0][1]
    before, after = load_engine(settings), load_engine(settings.model_copy(update={"adapter": str(tmp_path / "tuned")}))
    for prefix in (Prefix("Two products."), Prefix("Two products.", (Image.radial_gradient("L").convert("RGB"),))):
        assert after.score(prefix, _BRANCHES)[0] != pytest.approx(before.score(prefix, _BRANCHES)[0], abs=1e-3)


@pytest.mark.integration
def test_a_run_that_is_killed_goes_on_to_the_same_adapter(trained: Trained, tmp_path: Path) -> None:
    out, name = tmp_path / "tuned", "adapter_model.safetensors"
    command: list[str | Path] = [
        Path(sys.executable).with_name("mindstream"), "finetune", "--release", str(trained.release), "--out", str(out),
        "--checkpoint", str(CHECKPOINT), "--kinds", ",".join(RECIPE.kinds), "--steps", str(RECIPE.steps),
        "--batch", str(RECIPE.batch), "--learning-rate", str(RECIPE.learning_rate), "--save-every", "2",
    ]  # fmt: skip
    env = {**os.environ, "MINDSTREAM_MEDIA_URL": trained.settings.media_url, "MINDSTREAM_MODEL_DEVICE": "cpu"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    while not [*out.glob(f"{CHECKPOINTS}/checkpoint-*/trainer_state.json")] and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert not (out / name).exists()
    said: list[str] = []

    def again(resume: bool = False) -> dict[str, Any]:
        return finetune(str(trained.release), trained.settings, out, RECIPE, say=said.append, resume=resume)

    with pytest.raises(TrainingError, match="holds a run: --resume goes on with it"):
        again()
    record = again(resume=True)
    assert said[-1].startswith("going on from checkpoint-")
    assert (out / name).read_bytes() == (trained.out / name).read_bytes()
    assert record["losses"] == trained.record["losses"]
    assert again(resume=True) == json.loads((out / "run.json").read_bytes())
    with pytest.raises(TrainingError, match=r"is another one: its recipe has seed 0, not 1"):
        finetune(str(trained.release), trained.settings, out, Recipe(**{**RECIPE.__dict__, "seed": 1}), resume=True)


def damaged(trained: Trained, folder: Path) -> Path:
    shutil.copytree(trained.release, folder)
    return folder


def refused(trained: Trained, release: Path, kinds: tuple[str, ...] = RECIPE.kinds, **changed: object) -> str:
    settings = trained.settings.model_copy(update=changed)
    with pytest.raises(TrainingError) as error:
        finetune(str(release), settings, release.parent / "out", Recipe(kinds=kinds, steps=1), say=lambda _: None)
    assert "\n" not in str(error.value)
    assert not (release.parent / "out").exists()
    return str(error.value)


def test_a_release_that_is_not_whole_is_refused_by_name(trained: Trained, tmp_path: Path) -> None:
    unfinished = damaged(trained, tmp_path / "unfinished")
    (unfinished / "manifest.json").unlink()
    assert f"{unfinished} has no manifest.json" in refused(trained, unfinished)
    shard = damaged(trained, tmp_path / "shard") / "generation" / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "generation/train-00000.parquet is not what the manifest says" in refused(trained, tmp_path / "shard")
    edited = damaged(trained, tmp_path / "edited") / "manifest.json"
    edited.write_text(edited.read_text().replace('"product"', '"pair"'))
    assert "manifest.json is not what its release id says" in refused(trained, tmp_path / "edited")


def test_a_release_without_rows_to_learn_from_is_refused(trained: Trained, tmp_path: Path) -> None:
    release(tmp_path / "empty", MediaStore(trained.settings.media_url), train=0)
    assert "has no row of features, generation, judgement, intent-understand in its split train" in refused(
        trained, tmp_path / "empty"
    )
    assert "no kind 'preference'" in refused(trained, trained.release, ("preference",))


def test_a_missing_picture_is_named_and_words_alone_can_be_trained_on(trained: Trained, tmp_path: Path) -> None:
    line = refused(trained, trained.release, media_url=f"file://{tmp_path}/nothing")
    assert "pictures are not in MINDSTREAM_MEDIA_URL" in line
    assert "sha256:" in line
    assert "--no-pictures" in line
    found = rows.examples(rows.verified(str(trained.release)), RECIPE.kinds, pictures=False)
    assert rows.check_pictures(found, MediaStore(f"file://{tmp_path}/nothing"), "") == 0


def adapter(trained: Trained, folder: Path) -> Path:
    folder.mkdir()
    for name in (*FILES, "run.json"):
        shutil.copy(trained.out / name, folder)
    return folder


def test_an_adapter_that_does_not_go_with_the_checkpoint_is_one_line(trained: Trained, tmp_path: Path) -> None:
    make(tmp_path / "other")
    other = Settings(model=str(tmp_path / "other"), model_device="cpu", adapter=str(adapter(trained, tmp_path / "a")))
    with pytest.raises(EngineError, match=r"was trained on mindstream-demo-llava@sha256:\w+, and this .* is other@"):
        load_engine(other)
    (tmp_path / "a" / "run.json").unlink()
    with pytest.raises(EngineError, match=r"the adapter .*/a does not fit other@sha256:\w+: ") as error:
        load_engine(other)
    assert "\n" not in str(error.value)
    fewer = adapter(trained, tmp_path / "fewer") / "adapter_config.json"
    fewer.write_text(fewer.read_text().replace("gate_proj|", ""))
    with pytest.raises(EngineError, match=r"does not fit .*: its layers are others, such as "):
        load_engine(trained.settings.model_copy(update={"adapter": str(tmp_path / "fewer")}))
    (tmp_path / "fewer" / "adapter_model.safetensors").write_bytes(b"{}")
    with pytest.raises(EngineError, match="does not fit"):
        load_engine(trained.settings.model_copy(update={"adapter": str(tmp_path / "fewer")}))
    with pytest.raises(EngineError, match=r"no adapter in .*nowhere: adapter_config.json: No such file"):
        load_engine(trained.settings.model_copy(update={"adapter": str(tmp_path / "nowhere")}))
    with pytest.raises(EngineError, match="MINDSTREAM_ADAPTER is for a checkpoint"):
        load_engine(Settings(engine="openai", adapter=str(trained.out)))
