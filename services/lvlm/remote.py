"""The engine of an OpenAI-compatible endpoint (vLLM, SGLang): one chat completion a branch, many at once.

Such a server shares a prefix's memory between branches by itself, if it caches prefixes. Beyond the standard it must
continue an answer that is begun (`continue_final_message`), as vLLM and SGLang do, and give log probabilities.
"""

from __future__ import annotations

import base64
import io
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from PIL import Image

from services.common.errors import WorldFault
from services.common.settings import Settings
from services.lvlm.engine import Branch, Completion, EngineError, Prefix, PromptRefused, Usage

_log = logging.getLogger(__name__)

#: Tries after the first; the library waits longer before each.
_RETRIES = 2
#: Codes that are this request's fault: malformed, too large, not to be processed.
_REFUSED = (400, 413, 422)
#: What chat templates mark turns and pictures with: in a title it is only a title's text.
_SPECIAL = re.compile(r"</?s>|<image>|<\|[^|<>]{1,40}\|>")
#: The most alternatives that the protocol gives per token.
_ALTERNATIVES = 20
#: Longest wait for an endpoint that is still starting, between two looks.
_LOOK_SECONDS = 10.0


class RemoteEngine:
    """See Engine."""

    concurrent = True

    def __init__(self, settings: Settings, wait: Callable[[float], object] = time.sleep, checked: bool = True) -> None:
        """Wait for the endpoint, and see (if it is to be `checked`) that it can do what the pipeline asks of it.

        Raises:
            EngineError: it refuses the key, has no such model, or gives no log probabilities.
        """
        self._settings = settings
        self._client = openai.OpenAI(
            base_url=settings.openai_base_url,
            api_key=settings.openai_api_key.get_secret_value() or "none",
            timeout=settings.openai_timeout_seconds,
            max_retries=_RETRIES,
        )
        self._threads = ThreadPoolExecutor(settings.openai_requests, "openai")
        self._model = self._named(wait)
        self.model_version = f"{self._model}@openai"
        if checked:
            self._check()

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        asked = [{**self._sampling(branch), "max_completion_tokens": max_new_tokens} for branch in branches]
        answers = self._ask(prefix, branches, asked)
        said = [
            Completion(answer.choices[0].message.content or "", answer.usage.completion_tokens) for answer in answers
        ]
        return said, _usage(answers)

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine. Only the likeliest next tokens are known: yes or no counts nought where it is not one of them."""
        one: dict[str, Any] = {
            "max_completion_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _ALTERNATIVES,
        }
        answers = self._ask(prefix, branches, [one] * len(branches))
        return [_chance(answer) for answer in answers], _usage(answers)

    def _ask(self, prefix: Prefix, branches: Sequence[Branch], asked: Sequence[dict[str, Any]]) -> list[Any]:
        images = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in prefix.images]
        requests = []
        for branch, options in zip(branches, asked, strict=True):
            text = _SPECIAL.sub(" ", prefix.text + branch.question)
            content = [*images, {"type": "text", "text": text}]
            messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
            extra: dict[str, Any] = {}
            if branch.answer:
                messages.append({"role": "assistant", "content": branch.answer})
                extra = {"continue_final_message": True, "add_generation_prompt": False}
            requests.append({"model": self._model, "messages": messages, "extra_body": extra, **options})
        return list(self._threads.map(self._one, requests))

    def _one(self, request: dict[str, Any]) -> Any:
        try:
            return self._client.chat.completions.create(**request)
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError) and error.status_code in _REFUSED:
                raise PromptRefused(f"the endpoint refuses it: {_line(error)}") from None
            raise WorldFault("model", f"{self._settings.openai_base_url}: {_line(error)}") from None

    def _sampling(self, branch: Branch) -> dict[str, Any]:
        chosen: dict[str, Any] = {"temperature": 0}
        if branch.seed is not None:
            chosen = {
                "temperature": self._settings.sample_temperature,
                "top_p": self._settings.sample_top_p,
                "seed": branch.seed,
            }
        return chosen | ({"stop": [branch.stop]} if branch.stop else {})

    def _named(self, wait: Callable[[float], object]) -> str:
        """The model's name there. One that is away may be starting: it is waited for."""
        seconds = 0.5
        while True:
            try:
                names = [model.id for model in self._client.models.list()]
                break
            except (openai.APIConnectionError, openai.InternalServerError) as error:
                _log.warning("waiting for the endpoint %s: %s", self._settings.openai_base_url, _line(error))
                wait(seconds)
                seconds = min(2 * seconds, _LOOK_SECONDS)
            except openai.OpenAIError as error:
                raise EngineError(f"the endpoint {self._settings.openai_base_url}: {_line(error)}") from None
        wanted = self._settings.openai_model or next(iter(names), "")
        if wanted not in names:
            raise EngineError(
                f"the endpoint {self._settings.openai_base_url} has no model {wanted or 'at all'}; it has "
                + (", ".join(names) or "none")
            )
        return wanted

    def _check(self) -> None:
        picture = Prefix("What is this?", (Image.new("RGB", (64, 64), "teal"),))
        what = "pictures, or answers that are begun"
        try:
            self.complete(picture, [Branch(" Say it in a word.", "It is", stop="\n")], 2)
            if "filter" in self._settings.server_jobs:
                what = f"the log probabilities of {_ALTERNATIVES} tokens, which the filter needs"
                self.score(picture, [Branch(" Is it wet? Answer with yes or no.")])
        except (PromptRefused, WorldFault) as error:
            raise EngineError(f"the endpoint {self._settings.openai_base_url} does not do {what}: {error}") from None


def _chance(answer: Any) -> float:
    """P(yes) normalised over {yes, no}; nought where the likeliest tokens hold neither."""
    logprobs = answer.choices[0].logprobs
    if not logprobs or not logprobs.content:
        raise WorldFault("model", "the endpoint's answer has no log probabilities")
    sums = {"yes": 0.0, "no": 0.0}
    for alternative in logprobs.content[0].top_logprobs:
        word = alternative.token.strip().lower()
        if word in sums:
            sums[word] += math.exp(alternative.logprob)
    total = sum(sums.values())
    return sums["yes"] / total if total else 0.0


def _usage(answers: Sequence[Any]) -> Usage:
    return Usage(
        sum(answer.usage.prompt_tokens for answer in answers), sum(answer.usage.completion_tokens for answer in answers)
    )


def _data_url(image: Any) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
