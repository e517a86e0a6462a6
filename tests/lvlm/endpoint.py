"""An OpenAI-compatible endpoint over a real checkpoint, as far as the engine `openai` uses the protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from aiohttp import web
from PIL import Image

from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Prefix, PromptTooLong
from services.lvlm.plain import PlainEngine


@dataclass
class Endpoint:
    """What the endpoint is asked, and how it misbehaves."""

    checkpoint: Checkpoint
    engine: PlainEngine
    url: str = ""
    names: tuple[str, ...] = ("small",)
    #: Status codes of the next answers; afterwards all is well.
    failing: list[int] = field(default_factory=list)
    with_logprobs: bool = True
    with_pictures: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    keys: set[str] = field(default_factory=set)
    _now: int = 0
    _one: threading.Lock = field(default_factory=threading.Lock)

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        listed = [{"id": name, "object": "model"} for name in self.names]
        failure = self._failure(request)
        return failure if failure is not None else web.json_response({"object": "list", "data": listed})

    async def chat(self, request: web.Request) -> web.Response:
        """POST /v1/chat/completions."""
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            asked = await request.json()
            failure = self._failure(request)
            return failure if failure is not None else await asyncio.to_thread(self._answer, asked)
        finally:
            self._now -= 1

    def _failure(self, request: web.Request) -> web.Response | None:
        self.keys.add(request.headers.get("Authorization", ""))
        if not self.failing:
            return None
        return web.json_response({"error": {"message": "as the test wants"}}, status=self.failing.pop(0))

    def _answer(self, asked: dict[str, Any]) -> web.Response:
        with self._one:
            self.asked.append(asked)
            prefix, branch = _read(asked)
            if prefix.images and not self.with_pictures:
                return web.json_response({"error": {"message": "this model does not see"}}, status=400)
            try:
                choice, usage = (
                    self._scored(prefix, branch) if asked.get("logprobs") else self._said(prefix, branch, asked)
                )
            except PromptTooLong as error:
                return web.json_response({"error": {"message": str(error)}}, status=400)
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "small",
                "choices": [choice],
                "usage": counts,
            }
        )

    def _said(self, prefix: Prefix, branch: Branch, asked: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, int]]:
        (said,), usage = self.engine.complete(prefix, [branch], asked["max_completion_tokens"])
        message = {"role": "assistant", "content": said.text}
        return {"index": 0, "finish_reason": "stop", "message": message}, (usage.prompt_tokens, said.tokens)

    def _scored(self, prefix: Prefix, branch: Branch) -> tuple[dict[str, Any], tuple[int, int]]:
        inputs = self.checkpoint.inputs(prefix, [branch], 0)
        with torch.inference_mode():
            chances = self.checkpoint.model(**inputs, logits_to_keep=1).logits[0, -1].log_softmax(-1)
        # As many as the vocabulary has: a model without training has yes and no anywhere.
        ranked = chances.sort(descending=True)
        tokens = [self.checkpoint.tokenizer.decode([token]) for token in ranked.indices.tolist()]
        top = [{"token": t, "logprob": p, "bytes": None} for t, p in zip(tokens, ranked.values.tolist(), strict=True)]
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": tokens[0]}
        }  # fmt: skip
        if self.with_logprobs:
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return choice, (inputs["input_ids"].shape[1], 1)


def _read(asked: dict[str, Any]) -> tuple[Prefix, Branch]:
    question, *begun = asked["messages"]
    text, images = "", []
    for part in question["content"]:
        if part["type"] == "text":
            text += part["text"]
        else:
            content = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
            images.append(Image.open(io.BytesIO(content)))
    if begun:
        assert asked["continue_final_message"] is True
        assert asked["add_generation_prompt"] is False
    stop = asked.get("stop", [""])[0]
    return Prefix(text, tuple(images)), Branch("", begun[0]["content"] if begun else "", asked.get("seed"), stop)


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[None]:
    """Serve it from a thread of its own; its `url` is set."""
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=2**26)
    app.add_routes([web.get("/v1/models", endpoint.models), web.post("/v1/chat/completions", endpoint.chat)])
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
