"""A loaded checkpoint: model, processor, and how prompts are written for it. Both engines decode it."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from services.common.settings import Settings
from services.lvlm.adapter import merged
from services.lvlm.engine import Branch, BrokenNumbers, EngineError, Prefix, PromptTooLong

_log = logging.getLogger(__name__)

_YES = ("Yes", "yes", "YES", " Yes", " yes")
_NO = ("No", "no", "NO", " No", " no")


class Checkpoint:
    """Any checkpoint that AutoModelForImageTextToText loads and that has a chat template."""

    def __init__(self, settings: Settings) -> None:
        """Load the checkpoint of the settings, with their adapter in its weights.

        Raises:
            EngineError: missing, broken, or without a chat template; or the adapter is not for it.
        """
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if settings.model_threads:
            torch.set_num_threads(settings.model_threads)
        device = settings.model_device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = settings.model_dtype
        if dtype == "auto":
            dtype = "float32" if device == "cpu" else "bfloat16"
        folder = folder_of(settings)
        try:
            processors: Any = AutoProcessor
            self.processor: Any = processors.from_pretrained(folder)
            models: Any = AutoModelForImageTextToText
            self.model: Any = models.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
        except Exception as error:
            # A checkpoint can be broken in any way, and each library says it with an error of its own.
            line = " ".join(str(error).split())[:200]
            raise EngineError(f"cannot load the checkpoint {settings.model} on {device}: {line}") from None
        if not getattr(self.processor, "chat_template", None):
            raise EngineError(f"the checkpoint {settings.model} has no chat template")
        #: Of the checkpoint's own files; and its name with that, and its adapter's.
        self.digest = _digest(folder)
        self.version = f"{Path(settings.model).name}@sha256:{self.digest[:12]}"
        if settings.adapter:
            self.model, adapter = merged(self.model, Path(settings.adapter), self.version, self.digest)
            self.version += f"+{adapter}"
        self.model.eval()
        self.tokenizer: Any = self.processor.tokenizer
        #: Held while the tokenizer works: it is not for two threads at once.
        self.tokenizing = threading.RLock()
        # The last position must be the last token of every prompt.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.context: int = self.model.config.get_text_config().max_position_embeddings
        special = sorted({*self.tokenizer.all_special_tokens, self.processor.image_token}, key=len, reverse=True)
        #: What stands for a part of a picture in a prompt's tokens.
        self.image_token: int = self.tokenizer.convert_tokens_to_ids(self.processor.image_token)
        self._special = re.compile("|".join(re.escape(token) for token in special))
        #: Tokens with which an answer of yes or no can begin.
        self.yes, self.no = self._first_tokens(_YES), self._first_tokens(_NO)
        ends = self.model.generation_config.eos_token_id
        #: Tokens that end an answer.
        self.ends = frozenset({self.tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])})
        _log.info("loaded %s on %s in %s", self.version, device, dtype)

    def render(self, prefix: Prefix, branch: Branch) -> str:
        """The whole prompt of a branch in the checkpoint's chat format."""
        content: list[dict[str, str]] = [{"type": "image"} for _ in prefix.images]
        content.append({"type": "text", "text": self._plain(prefix.text + branch.question)})
        rendered: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return f"{rendered.rstrip()} {branch.answer}".rstrip()

    def inputs(self, prefix: Prefix, branches: Sequence[Branch], room: int) -> Any:
        """Model inputs of whole prompts, left-padded, pictures once per prompt.

        Raises:
            PromptTooLong: the longest, and `room` tokens more, do not fit the context.
        """
        texts = [self.render(prefix, branch) for branch in branches]
        images = [list(prefix.images) for _ in branches] if prefix.images else None
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        self.check_fits(inputs["input_ids"].shape[1] + room)
        return inputs.to(self.model.device, dtype=self.model.dtype)

    def check_fits(self, length: int) -> None:
        """Refuse what is longer than the model's context.

        Raises:
            PromptTooLong: it is.
        """
        if length > self.context:
            raise PromptTooLong(f"{length} tokens do not fit the model's context of {self.context}")

    def said(self, tokens: Sequence[int], stop: str = "") -> tuple[str, int]:
        """The text of generated tokens up to what ends the answer, and how many tokens they are."""
        end = next((i for i, token in enumerate(tokens) if token in self.ends), len(tokens))
        with self.tokenizing:
            text: str = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        return text.partition(stop)[0] if stop else text, end

    def ended(self, tokens: Sequence[int], stop: str) -> bool:
        """Whether the last generated token ends the answer: by itself, or since the text holds `stop` now."""
        if tokens[-1] in self.ends:
            return True
        with self.tokenizing:
            return bool(stop) and tokens[-1] in self._ending(stop[-1]) and stop in self.tokenizer.decode(tokens)

    @cache  # noqa: B019  (a server has one checkpoint for its life)
    def _ending(self, character: str) -> frozenset[int]:
        """Tokens that hold a character: only behind one of these can a stop string be complete."""
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        return frozenset(token for token, text in enumerate(texts) if character in text)

    def chances(self, logits: Any) -> list[float]:
        """P(yes), normalised over {yes, no}, of logits (B, V).

        Raises:
            BrokenNumbers: there is none.
        """
        import torch

        numbers = logits.float()
        yes, no = numbers[:, self.yes].logsumexp(-1), numbers[:, self.no].logsumexp(-1)
        apart = yes - no
        scores: list[float] = torch.where(apart.isfinite(), torch.sigmoid(apart), torch.nan).tolist()
        if any(map(math.isnan, scores)):
            raise BrokenNumbers
        return scores

    def _plain(self, text: str) -> str:
        """Text without the model's special tokens: a title with `<image>` in it is only a title."""
        return self._special.sub(" ", text)

    def _first_tokens(self, words: Sequence[str]) -> list[int]:
        found = {self.tokenizer.encode(word, add_special_tokens=False)[0] for word in words}
        # Some tokenizers give a bare space its own token, which says neither yes nor no.
        return sorted(token for token in found if self.tokenizer.decode([token]).strip())


def folder_of(settings: Settings) -> Path:
    """The checkpoint's folder; a Hub id is downloaded, or found in the Hub's cache.

    Raises:
        EngineError: it is neither.
    """
    named = Path(settings.model)
    if named.is_dir():
        return named
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(settings.model, revision=settings.model_revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise EngineError(
            f"no checkpoint {settings.model}: neither a folder nor to be had from the Hub: {line}"
        ) from None


def _digest(folder: Path) -> str:
    """sha256 over every file of the checkpoint, by name."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.relative_to(folder).parts):
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").digest()
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + inner)
    return digest.hexdigest()
