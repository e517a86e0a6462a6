"""The demo model: a LLaVA of four million parameters, taught on a made-up shop, and the shop's sample."""

from __future__ import annotations

from pathlib import Path

#: The checkpoint; its name is in every record that it makes.
CHECKPOINT = Path(__file__).with_name("mindstream-demo-llava")
#: products.jsonl with pictures beside it, and purchases.jsonl.
SAMPLE = Path(__file__).with_name("sample")
NOTICE = (
    "These words are a demo model's: four million parameters that have seen a made-up shop and nothing else. "
    "--model (MINDSTREAM_MODEL) names a real one, such as llava-hf/llava-1.5-13b-hf."
)


def speaks_in(model_version: str) -> bool:
    """Whether a record's model version is the demo model's."""
    return model_version.startswith(f"{CHECKPOINT.name}@")
