"""The engine's first form: plain transformers, all branches of one request in one left-padded batch.

Requests are never mixed: a batch's floating-point results depend on its shape, and only so is a co-buy's text the same
whatever else the server does.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.common.settings import Settings
from services.lvlm.engine import Branch, Completion, Prefix, PromptTooLong, Usage

_log = logging.getLogger(__name__)

_YES = ("Yes", "yes", "YES", " Yes", " yes")
_NO = ("No", "no", "NO", " No", " no")


class CheckpointError(Exception):
    """The checkpoint cannot be used; one line says why."""


class TransformersEngine:
    """Any checkpoint that AutoModelForImageTextToText loads and that has a chat template."""

    def __init__(self, settings: Settings) -> None:
        """Load the checkpoint of the settings.

        Raises:
            CheckpointError: missing, broken, or without a chat template.
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
        folder = _folder(settings)
        try:
            processors: Any = AutoProcessor
            self._processor: Any = processors.from_pretrained(folder)
            models: Any = AutoModelForImageTextToText
            self._model: Any = models.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
        except Exception as error:
            # A checkpoint can be broken in any way, and each library says it with an error of its own.
            line = " ".join(str(error).split())[:200]
            raise CheckpointError(f"cannot load the checkpoint {settings.model} on {device}: {line}") from None
        if not getattr(self._processor, "chat_template", None):
            raise CheckpointError(f"the checkpoint {settings.model} has no chat template")
        self._torch = torch
        self._model.eval()
        self._tokenizer: Any = self._processor.tokenizer
        # The last position must be the last token of every prompt.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._context: int = self._model.config.get_text_config().max_position_embeddings
        special = sorted({*self._tokenizer.all_special_tokens, self._processor.image_token}, key=len, reverse=True)
        self._special = re.compile("|".join(re.escape(token) for token in special))
        self._yes, self._no = self._first_tokens(_YES), self._first_tokens(_NO)
        self.model_version = f"{Path(settings.model).name}@sha256:{_digest(folder)[:12]}"
        _log.info("loaded %s on %s in %s", self.model_version, device, dtype)

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        greedy = [i for i, branch in enumerate(branches) if branch.seed is None]
        done: dict[int, Completion] = {}
        read = 0
        # A sampled branch runs alone with its own seed, so that its text depends on nothing else.
        for group in [greedy, *([i] for i, branch in enumerate(branches) if branch.seed is not None)]:
            if not group:
                continue
            inputs = self._inputs(prefix, [branches[i] for i in group], max_new_tokens)
            seed = branches[group[0]].seed
            if seed is not None:
                self._torch.manual_seed(seed)
            with self._torch.inference_mode():
                sequences = self._model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=seed is not None,
                    pad_token_id=self._tokenizer.pad_token_id,
                )
            read += int(inputs["attention_mask"].sum())
            for index, tokens in zip(group, sequences[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                kept = self._until_end(tokens)
                done[index] = Completion(self._tokenizer.decode(kept, skip_special_tokens=True), len(kept))
        return [done[i] for i in range(len(branches))], Usage(read, sum(c.tokens for c in done.values()))

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        inputs = self._inputs(prefix, branches, 0)
        with self._torch.inference_mode():
            logits = self._model(**inputs, logits_to_keep=1).logits[:, -1].float()
        yes = logits[:, self._yes].logsumexp(-1)
        no = logits[:, self._no].logsumexp(-1)
        scores: list[float] = self._torch.sigmoid(yes - no).tolist()
        return scores, Usage(int(inputs["attention_mask"].sum()), 0)

    def render(self, prefix: Prefix, branch: Branch) -> str:
        """The whole prompt of a branch in the checkpoint's chat format."""
        content: list[dict[str, str]] = [{"type": "image"} for _ in prefix.images]
        content.append({"type": "text", "text": self._plain(prefix.text + branch.question)})
        rendered: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return f"{rendered.rstrip()} {branch.answer}".rstrip()

    def _plain(self, text: str) -> str:
        """Text without the model's special tokens: a title with `<image>` in it is only a title."""
        return self._special.sub(" ", text)

    def _inputs(self, prefix: Prefix, branches: Sequence[Branch], room: int) -> Any:
        texts = [self.render(prefix, branch) for branch in branches]
        images = [list(prefix.images) for _ in branches] if prefix.images else None
        inputs = self._processor(images=images, text=texts, padding=True, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        length = inputs["input_ids"].shape[1] + room
        if length > self._context:
            raise PromptTooLong(f"{length} tokens do not fit the model's context of {self._context}")
        return inputs.to(self._model.device, dtype=self._model.dtype)

    def _until_end(self, tokens: list[int]) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        stops = {self._tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])}
        end = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
        return tokens[:end]

    def _first_tokens(self, words: Sequence[str]) -> list[int]:
        found = {self._tokenizer.encode(word, add_special_tokens=False)[0] for word in words}
        # Some tokenizers give a bare space its own token, which says neither yes nor no.
        return sorted(token for token in found if self._tokenizer.decode([token]).strip())


def _folder(settings: Settings) -> Path:
    """The checkpoint's folder; a Hub id is downloaded, or found in the Hub's cache."""
    named = Path(settings.model)
    if named.is_dir():
        return named
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(settings.model, revision=settings.model_revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(
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
