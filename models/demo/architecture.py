"""The demo model's shape: LLaVA's, four million parameters."""

from __future__ import annotations

from typing import Any

from models.demo.tokens import IMAGE_SIDE, PATCH


def new_model(processor: Any, seed: int) -> Any:
    """A LlavaForConditionalGeneration with random weights of the seed, for that processor's tokens."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = processor.tokenizer
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=4096, tie_word_embeddings=True, **special,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
        image_size=IMAGE_SIDE, patch_size=PATCH, projection_dim=96,
    )  # fmt: skip
    config = LlavaConfig(
        text_config=text, vision_config=vision, vision_feature_layer=-1, tie_word_embeddings=True,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), **special,
    )  # fmt: skip
    torch.manual_seed(seed)
    new: Any = LlavaForConditionalGeneration
    return new(config)
