"""The demo model's tokenizer, chat template and processor.

Lower case only, so that a word in a title and in a sentence is the same word: a model this small copies better so.
Each sentence of the project's prompts is one token: nothing of it is wasted on reading its own instructions. A prompt
of another version still tokenizes, into pieces that this model has not been taught.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.demo import lessons, shop, words
from services.common.relations import RELATIONS
from services.lvlm.prompts import PromptFile, load

IMAGE_SIDE, PATCH = 64, 8
_VOCABULARY = 4096
#: As in LLaVA-1.5: what the user says, pictures first, and then the assistant.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
PROMPTS: dict[str, PromptFile] = {room: load(room, "v1") for room in ("extractor", "generator", "filter")}


def phrases() -> list[str]:
    """What becomes one token each: the sentences of the prompts between their slots, and the relations' phrases."""
    found = {"USER:", " ASSISTANT:", " ...", "\nFeatures:", "\nUses:", " " + lessons.NOTHING}
    found.add(" " + PROMPTS["generator"]["answer"].split("{")[0].strip())
    for prompts in PROMPTS.values():
        for text in prompts.texts.values():
            for piece in re.split(r"{\w+}", text):
                # Spaces and line ends around a slot belong to no sentence.
                found |= {line.strip() for line in piece.split("\n") if len(line.strip()) > 3}
    found |= {f" {relation.phrase}" for relation in RELATIONS}
    return sorted(found, key=lambda phrase: (-len(phrase), phrase))


def _corpus(seed: int) -> Iterator[str]:
    """Titles and answers, and English words once each, for the merges."""
    rng = random.Random(seed)
    for _ in range(12_000):
        made = shop.pair(rng, "train")
        yield f" {made.a.title} {lessons.description(made.a)} {', '.join(lessons.features(made.a))}"
        yield " " + lessons.intention(made, rng.choice(RELATIONS).name)
    yield " ".join(words.english("train"))
    yield from (" yes", " no") * 1000


def tokenizer(seed: int = 0) -> Any:
    """Train the byte-level BPE on lessons of the seed; the same seed gives the same tokenizer."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    own = phrases()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(own),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(seed), trainer)
    bpe.add_tokens([AddedToken(phrase, normalized=True) for phrase in own])
    new: Any = PreTrainedTokenizerFast
    return new(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )


def processor(tokenizer: Any) -> Any:
    """The LLaVA processor: pictures of IMAGE_SIDE pixels square, one image token per patch."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    new: Any = LlavaProcessor
    return new(
        image_processor=CLIPImageProcessor(size={"shortest_edge": IMAGE_SIDE}, crop_size=IMAGE_SIDE),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def load_processor(folder: Path) -> Any:
    """The processor of a checkpoint."""
    from transformers import AutoProcessor

    new: Any = AutoProcessor
    return new.from_pretrained(folder)
