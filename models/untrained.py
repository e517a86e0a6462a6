"""LLaVA checkpoints with random weights, for tests and benchmarks: noise that differs from prompt to prompt.

They have the real architecture (CLIP vision tower, projector, Llama) and every file that a real one has.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "untrained-llava"

_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_PATCH = 14


@dataclass(frozen=True)
class Shape:
    """How large a checkpoint is: the text model's sizes, and the pixels of a picture's side."""

    hidden: int = 128
    intermediate: int = 256
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 4
    picture: int = 56


#: 130 thousand parameters a layer: a second to make.
SMALL = Shape()


def _texts() -> Iterator[str]:
    """The project's own prompts and phrases: what the tokenizer must say in few tokens."""
    from services.common.relations import RELATIONS
    from services.lvlm.prompts import load

    for room in ("extractor", "generator", "filter"):
        yield from load(room, "v1").texts.values()
    yield from (relation.phrase for relation in RELATIONS)
    yield from ("USER: ASSISTANT:", "Yes", "No", "yes", "no", " Yes", " No", " yes", " no")


def make(folder: Path, seed: int = 0, shape: Shape = SMALL) -> None:
    """Write a checkpoint of the shape; the same seed writes the same weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    # Without types of their own.
    new_tokenizer: Any = PreTrainedTokenizerFast
    new_processor: Any = LlavaProcessor

    special = ["<pad>", "<s>", "</s>", "<image>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_texts(), trainer)
    tokenizer = new_tokenizer(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = len(tokenizer)
    text = LlamaConfig(
        vocab_size=size, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=8192, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        # Wide enough that answers differ from prompt to prompt.
        initializer_range=3.4 * shape.hidden**-0.5,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        image_size=shape.picture, patch_size=_PATCH, projection_dim=64,
    )  # fmt: skip
    config = LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    images = CLIPImageProcessor(size={"shortest_edge": shape.picture}, crop_size=shape.picture)
    processor = new_processor(
        image_processor=images, tokenizer=tokenizer, chat_template=_TEMPLATE, patch_size=_PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: another process may be looking for it.
    with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        made = Path(tmp) / NAME
        model.save_pretrained(made)
        processor.save_pretrained(made)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
