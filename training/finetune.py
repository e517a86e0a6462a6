"""LoRA on a release: peft's layers, TRL's trainer, the engine's prompts.

The loss is of answers alone. The same command runs on a CPU in float32 and on a GPU in bfloat16. A run that was killed
goes on from its newest checkpoint, with the batches that it would have had.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from services.common.media import MediaStore
from services.common.settings import Settings
from services.lvlm.adapter import digest_of
from services.lvlm.checkpoint import Checkpoint
from training import rows
from training.batches import Collator, order
from training.errors import TrainingError
from training.run import CHECKPOINTS, Recipe, Run, as_record, versions

Say = Callable[[str], None]
#: Share of the steps over which the learning rate rises, before half a cosine takes it down.
_WARM_UP = 0.03
#: Checkpoints of the trainer that are kept, and losses that the record has.
_KEPT, _LOSSES = 2, 200
#: Examples whose tokens are counted at a time.
_COUNTED = 2_000


def finetune(
    release: str, settings: Settings, out: Path, recipe: Recipe, *, save_every: int = 0, resume: bool = False,
    say: Say = print,
) -> dict[str, Any]:  # fmt: skip
    """Train an adapter for the settings' checkpoint on a release, and leave it in `out`; the run's record.

    Raises:
        TrainingError: the release, its pictures, or what is in `out` is not as it must be.
        EngineError: the checkpoint cannot be loaded.
        WorldFault: the storage of the release or of the pictures is away.
    """
    manifest = rows.verified(release)
    found = rows.examples(manifest, recipe.kinds, pictures=recipe.pictures)
    media = MediaStore(settings.media_url)
    pictures = rows.check_pictures(found, media, settings.media_url)
    if settings.adapter:
        raise TrainingError("MINDSTREAM_ADAPTER is set: an adapter is trained on a checkpoint alone")
    checkpoint = Checkpoint(settings)
    collator = Collator(checkpoint, media, settings.image_max_pixels)
    lengths = _lengths(collator, found)
    fits = [place for place, length in enumerate(lengths) if length <= checkpoint.context]
    if not fits:
        raise TrainingError(f"no example fits the checkpoint's context of {checkpoint.context} tokens")
    a_step = recipe.batch * recipe.accumulate
    steps = recipe.steps or math.ceil(recipe.epochs * len(fits) / a_step)
    chosen = order([lengths[place] for place in fits], recipe.batch, steps * recipe.accumulate, recipe.seed)
    device = checkpoint.model.device.type
    run = Run(out)
    newest = run.open(
        {
            "release": {"id": manifest["release_id"], "url": release, "sha256": manifest["sha256"]},
            "base": {"model": settings.model, "version": checkpoint.version, "sha256": checkpoint.digest},
            "recipe": as_record(recipe),
            "rows": {
                **Counter(found.column("kind").to_pylist()),
                "pictures": pictures,
                "longer than the context": found.num_rows - len(fits),
            },
            "steps": steps,
            "tokens": sum(lengths[fits[place]] for place in chosen),
            "device": device,
            "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
            "versions": versions(),
        },
        resume,
    )
    if run.done:
        say(f"the run in {out} is done")
        return run.record
    say(f"{len(fits)} examples of {manifest['release_id']}, {steps} steps on {device}")
    if newest:
        say(f"going on from {newest.name}")
    began = time.monotonic()
    made = Dataset(found).select(fits).select(chosen)
    trainer = _trainer(checkpoint, made, collator, out, recipe, steps, save_every or max(1, steps // 10))
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    # Where the checkpoint lay is this machine's; which it was stands in the record.
    trainer.model.peft_config["default"].base_model_name_or_path = Path(settings.model).name
    trainer.model.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)  # peft's form of a model card, not filled in.
    losses = [(row["step"], round(row["loss"], 6)) for row in trainer.state.log_history if "loss" in row]
    run.record |= {
        "state": "done",
        "adapter": {"sha256": digest_of(out)},
        "losses": losses,
        # Of this process: what another one that was killed took, nobody knows.
        "seconds": round(time.monotonic() - began, 1),
    }
    run.write()
    return run.record


def _lengths(collator: Collator, found: Any) -> list[int]:
    lengths: list[int] = []
    told = iter(found.select(["prompt", "answer", "pictures"]).to_pylist())
    while some := list(islice(told, _COUNTED)):
        lengths += collator.lengths(
            [row["prompt"] for row in some], [row["answer"] for row in some], [bool(row["pictures"]) for row in some]
        )
    return lengths


def _trainer(
    checkpoint: Checkpoint, made: Dataset, collator: Collator, out: Path, recipe: Recipe, steps: int, save_every: int
) -> Any:
    from huggingface_hub import constants
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    # TRL tells its makers of every run; this is a shop's.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    on_gpu = checkpoint.model.device.type == "cuda"
    asked = SFTConfig(
        output_dir=str(out / CHECKPOINTS),
        max_steps=steps,
        per_device_train_batch_size=recipe.batch,
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(_WARM_UP * steps),
        seed=recipe.seed,
        # The batches' order is made already.
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=on_gpu,
        dataloader_pin_memory=on_gpu,
        logging_steps=max(1, steps // _LOSSES),
        save_steps=save_every,
        save_total_limit=_KEPT,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        lora_dropout=recipe.dropout,
        target_modules=_targets(checkpoint.model),
        task_type="CAUSAL_LM",
    )
    return SFTTrainer(
        model=checkpoint.model,
        args=asked,
        data_collator=collator,
        train_dataset=made,
        processing_class=checkpoint.processor,
        peft_config=lora,
    )


def _targets(model: Any) -> str:
    """All linear layers of the text model, as peft's pattern: what sees pictures stays as it is."""
    text = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is text)
    leaves = {name.rpartition(".")[2] for name, module in text.named_modules() if isinstance(module, torch.nn.Linear)}
    return rf"{re.escape(place)}\..*\.({'|'.join(sorted(leaves))})"
