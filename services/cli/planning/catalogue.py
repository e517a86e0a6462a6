"""Cards and checkpoints that can be planned with, and where their figures are from."""

from __future__ import annotations

import json
from pathlib import Path

from services.cli.planning.roofline import Card, Decoder

#: By NVIDIA's data sheets ("H100 Tensor Core GPU", "H200 ...", "A100 80GB ...", "L40S ..."): bfloat16 tensor operations
#: without sparsity, memory's bandwidth and size.
CARDS = {
    "h100": Card(operations=989e12, bandwidth=3.35e12, memory=80e9),  # SXM
    "h200": Card(operations=989e12, bandwidth=4.8e12, memory=141e9),  # SXM
    "a100": Card(operations=312e12, bandwidth=2.039e12, memory=80e9),  # SXM, 80 GB
    "l40s": Card(operations=362e12, bandwidth=864e9, memory=48e9),
}
#: By each checkpoint's config.json on the Hub (a Llama 2 7B and 13B; LLaVA's own vocabulary). Other ones: a folder.
MODELS = {
    "llava-hf/llava-1.5-7b-hf": {"hidden": 4096, "intermediate": 11_008, "layers": 32, "vocabulary": 32_064},
    "llava-hf/llava-1.5-13b-hf": {"hidden": 5120, "intermediate": 13_824, "layers": 40, "vocabulary": 32_064},
}
#: config.json's names (transformers) for the sizes.
_FIELDS = {
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "vocabulary": "vocab_size",
}


class Unknown(Exception):
    """No such card or checkpoint; the message says which there are."""


def card(name: str) -> Card:
    """A card by its short name.

    Raises:
        Unknown: of none of the names.
    """
    found = CARDS.get(name.lower())
    if found is None:
        raise Unknown(f"no GPU {name!r}: one of {', '.join(CARDS)}")
    return found


def decoder(model: str, on: Card) -> Decoder:
    """A checkpoint's text model: a name of `MODELS`, or a folder with a config.json.

    Raises:
        Unknown: neither, or the file does not say the sizes.
    """
    if model in MODELS:
        return Decoder(**MODELS[model], card=on)
    file = Path(model) / "config.json"
    if not file.is_file():
        raise Unknown(f"no model {model!r}: one of {', '.join(MODELS)}, or a folder with a config.json")
    try:
        config = json.loads(file.read_text())
        text = config.get("text_config", config)
        sizes = {name: text.get(said) for name, said in _FIELDS.items()}
        heads = text.get("num_attention_heads", 1)
        kept = text.get("num_key_value_heads", heads)
    except (ValueError, AttributeError):
        raise Unknown(f"{file}: no JSON object with a checkpoint's sizes") from None
    for name, value in {**sizes, "heads": heads, "kept": kept}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            said = _FIELDS.get(name, "num_attention_heads or num_key_value_heads")
            raise Unknown(f"{file}: {said} of the text model is missing or no whole number above 0")
    return Decoder(**sizes, kept_heads=kept / heads, card=on)
