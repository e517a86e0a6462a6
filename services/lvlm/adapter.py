"""LoRA adapters: small differences to a checkpoint's weights (peft's format), added to them at load.

What decodes afterwards is a checkpoint like any other: trees, packing and scores know nothing of adapters.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from services.lvlm.engine import EngineError

#: What an adapter is; `mindstream finetune` leaves its run's record beside it.
FILES = ("adapter_config.json", "adapter_model.safetensors")
RUN = "run.json"


def digest_of(folder: Path) -> str:
    """sha256 over an adapter's files.

    Raises:
        EngineError: one is missing.
    """
    digest = hashlib.sha256()
    for name in FILES:
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError as error:
            raise EngineError(f"no adapter in {folder}: {name}: {error.strerror}") from None
    return digest.hexdigest()


def merged(model: Any, folder: Path, base: str, base_digest: str) -> tuple[Any, str]:
    """The model with the adapter's differences in its weights, and the adapter's name and digest.

    Raises:
        EngineError: there is none, it was trained on another checkpoint than `base`, or it does not fit its layers.
    """
    version = f"{folder.resolve().name}@sha256:{digest_of(folder)[:12]}"
    trained_on = _trained_on(folder)
    if trained_on and trained_on["sha256"] != base_digest:
        raise EngineError(f"the adapter {folder} was trained on {trained_on['version']}, and this checkpoint is {base}")
    # Here, not above: most servers have no adapter, and peft takes a second to import.
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    try:
        tuned: Any = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
        found: Any = set_peft_model_state_dict(tuned, load_peft_weights(str(folder), device="cpu"))
        # What peft does not find it leaves as it was, which is random or nothing.
        odd = [*found.unexpected_keys, *(name for name in found.missing_keys if "lora_" in name)]
        if odd:
            raise ValueError(f"its layers are others, such as {odd[0]}")
        return tuned.merge_and_unload(safe_merge=True), version
    except Exception as error:
        # Of a file that anybody may have made: each library says with an error of its own what is wrong with it.
        line = " ".join(str(error).split())[:200]
        raise EngineError(f"the adapter {folder} does not fit {base}: {line}") from None


def _trained_on(folder: Path) -> dict[str, str]:
    """What the run's record says of the checkpoint; nothing where there is no record, as of adapters from elsewhere."""
    try:
        base: dict[str, str] = json.loads((folder / RUN).read_bytes())["base"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, OSError):
        raise EngineError(f"{folder / RUN} is not the record of a run") from None
    return base
