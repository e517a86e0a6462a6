"""Small checkpoints of other architectures, with random weights, each with the files that a real one has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

from models.untrained import make

_SIDE, _PATCH = 56, 14
_IDEFICS = ["<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
_QWEN = ["<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]


def _llava(folder: Path) -> Any:
    """The tokenizer, sizes and chat template of a small LLaVA."""
    make(folder)
    return hf.AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]


def _sizes(tokenizer: Any, **more: object) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.4, **more,
    }  # fmt: skip


def _save(folder: Path, model: Any, config: Any, processor: Any) -> None:
    torch.manual_seed(0)
    model(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: a picture in several tiles, as many as its shape asks for."""
    before = _llava(folder)
    tokenizer, grid = before.tokenizer, [[_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE]]
    vision = hf.CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=_SIDE,
        patch_size=_PATCH, projection_dim=64,
    )  # fmt: skip
    config = hf.LlavaNextConfig(
        text_config=hf.LlamaConfig(**_sizes(tokenizer)), vision_config=vision, image_grid_pinpoints=grid,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images: Any = hf.LlavaNextImageProcessor
    processor: Any = hf.LlavaNextProcessor
    made = processor(
        images(size={"shortest_edge": _SIDE}, crop_size=_SIDE, image_grid_pinpoints=grid), tokenizer,
        patch_size=_PATCH, vision_feature_select_strategy="default", chat_template=before.chat_template,
        num_additional_image_tokens=1,
    )  # fmt: skip
    _save(folder, hf.LlavaNextForConditionalGeneration, config, made)


def idefics3(folder: Path) -> None:
    """Idefics3, as SmolVLM has it: tiles between tokens of their own."""
    before = _llava(folder)
    tokenizer = before.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": [*_IDEFICS, "<image>"]})
    tokenizer.add_tokens([f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)])
    vision = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": _SIDE, "patch_size": _PATCH,
    }  # fmt: skip
    config = hf.Idefics3Config(
        text_config={"model_type": "llama", **_sizes(tokenizer)}, vision_config=vision, scale_factor=2, pad_token_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images: Any = hf.Idefics3ImageProcessor
    processor: Any = hf.Idefics3Processor
    made = processor(
        images(size={"longest_edge": 2 * _SIDE}, max_image_size={"longest_edge": _SIDE}), tokenizer,
        image_seq_len=(_SIDE // _PATCH) ** 2 // 4, chat_template=before.chat_template,
    )  # fmt: skip
    _save(folder, hf.Idefics3ForConditionalGeneration, config, made)


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL: a token has a position in time, height and width."""
    before = _llava(folder)
    tokenizer = before.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": _QWEN})
    token = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    config = hf.Qwen2VLConfig(
        text_config=_sizes(tokenizer, rope_parameters=rope),
        vision_config={"embed_dim": 64, "hidden_size": 64, "depth": 2, "num_heads": 4, "patch_size": _PATCH},
        image_token_id=token("<image>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    template = before.chat_template.replace("<image>", "<|vision_start|><image><|vision_end|>")
    images: Any = hf.Qwen2VLImageProcessor
    videos: Any = hf.Qwen2VLVideoProcessor  # type: ignore[attr-defined]  # Not in its stubs.
    processor: Any = hf.Qwen2VLProcessor
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    made = processor(
        images(patch_size=_PATCH, size=pixels), tokenizer, videos(patch_size=_PATCH), chat_template=template
    )
    _save(folder, hf.Qwen2VLForConditionalGeneration, config, made)
