"""A model server under mixed calls, good and bad, some of whose callers hang up: it stays up, as does its memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mindstream.inference.v1 import common_pb2, feature_extractor_pb2, intention_filter_pb2, intention_generator_pb2
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub
from mindstream.inference.v1.intention_filter_pb2_grpc import IntentionFilterStub
from mindstream.inference.v1.intention_generator_pb2_grpc import IntentionGeneratorStub

from benchmarks.rows import Row
from models.demo import CHECKPOINT, shop
from services.common.media import digest_of
from services.common.relations import RELATIONS
from services.common.settings import Settings

_CALLS, _QUICK_CALLS, _AT_ONCE = 2000, 400, 8
#: Calls before memory is measured first: allocators and caches are full by then.
_WARM = 0.25
_SEED = 1
#: Each kind of call, how often it comes up, and how it must end.
_KINDS: dict[str, tuple[int, grpc.StatusCode]] = {
    "extract": (24, grpc.StatusCode.OK),
    "generate": (16, grpc.StatusCode.OK),
    "judge": (24, grpc.StatusCode.OK),
    "hangs up": (12, grpc.StatusCode.CANCELLED),
    "no time": (6, grpc.StatusCode.DEADLINE_EXCEEDED),
    "no title": (3, grpc.StatusCode.INVALID_ARGUMENT),
    "far too long": (3, grpc.StatusCode.INVALID_ARGUMENT),
    "no picture": (3, grpc.StatusCode.INVALID_ARGUMENT),
    "another picture": (3, grpc.StatusCode.INVALID_ARGUMENT),
    "unknown picture": (3, grpc.StatusCode.NOT_FOUND),
    "unknown relation": (3, grpc.StatusCode.INVALID_ARGUMENT),
    "no intentions": (3, grpc.StatusCode.INVALID_ARGUMENT),
}


def measure(quick: bool) -> list[Row]:
    """The server's memory after a quarter of the calls and at the end."""
    return asyncio.run(_soak(_QUICK_CALLS if quick else _CALLS))


async def _soak(calls: int) -> list[Row]:
    rng = random.Random(_SEED)
    names = rng.choices(list(_KINDS), [share for share, _ in _KINDS.values()], k=calls)
    ended: Counter[tuple[str, str]] = Counter()
    async with _server() as (process, channel):
        stubs = _Stubs(channel)
        gate, memory = asyncio.Semaphore(_AT_ONCE), list[float]()

        async def one(name: str, seed: int) -> None:
            async with gate:
                ended[name, (await stubs.ask(name, random.Random(seed))).name] += 1

        warm = int(calls * _WARM)
        for some in (names[:warm], names[warm:]):
            await asyncio.gather(*(one(name, rng.getrandbits(32)) for name in some))
            memory.append(process.memory_info().rss / 2**20)
        up = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    wrong = {ended_as: count for ended_as, count in ended.items() if ended_as[1] not in _allowed(ended_as[0])}
    growth = memory[1] / memory[0]
    return [
        Row(
            "engine.soak_memory",
            "at most 1.05 of what it was after a quarter of the calls",
            f"{growth:.2f} ({memory[0]:.0f}, then {memory[1]:.0f} MiB, {calls} calls)",
            up and growth <= 1.05,
        ),
        Row(
            "engine.soak_answers",
            "every call ends as its kind must",
            f"{calls - sum(wrong.values())} of {calls}" + (f", not: {wrong}" if wrong else ""),
            up and not wrong,
        ),
    ]


def _allowed(name: str) -> set[str]:
    # Whoever hangs up or has no time may have been answered before.
    wanted = _KINDS[name][1].name
    return {wanted, "OK"} if name in ("hangs up", "no time") else {wanted}


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[psutil.Process, grpc.aio.Channel]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as media:
        settings = {
            "SERVER_BIND": target, "MODEL": str(CHECKPOINT), "MODEL_DEVICE": "cpu", "HTTP_PORT": "0",
            "HTTP_HOST": "127.0.0.1", "MEDIA_URL": f"file://{media}", "LOG_LEVEL": "ERROR",
            "SERVER_ORPHAN_SECONDS": "0",
        }  # fmt: skip
        env = {**os.environ, **{f"MINDSTREAM_{name}": value for name, value in settings.items()}}
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.lvlm", env=env)
        try:
            async with grpc.aio.insecure_channel(target) as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                async for state in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=120):
                    if state.status == health_pb2.HealthCheckResponse.SERVING:
                        break
                yield psutil.Process(process.pid), channel
        finally:
            process.kill()
            await process.wait()


class _Stubs:
    """One call of each kind."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._extract: Callable[..., Any] = FeatureExtractorStub(channel).Extract
        self._generate: Callable[..., Any] = IntentionGeneratorStub(channel).Generate
        self._judge: Callable[..., Any] = IntentionFilterStub(channel).Judge

    async def ask(self, name: str, rng: random.Random) -> grpc.StatusCode:
        """Ask once; how it ended."""
        call = self._call(name, rng)
        if name == "hangs up":
            # At any moment of the call, also before it is begun.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(call.code())), rng.random() * 0.2)
            call.cancel()
        code: grpc.StatusCode = await call.code()
        return code

    def _call(self, name: str, rng: random.Random) -> Any:
        pair = shop.pair(rng, "held-out")
        a, b = (self._view(product) for product in (pair.a, pair.b))
        both = intention_generator_pb2.ProductPair(product_a=a, product_b=b)
        timeout = 0.02 if name == "no time" else 300
        if name in ("generate", "hangs up", "no time", "unknown relation"):
            relations = ["Likes"] if name == "unknown relation" else []
            return self._generate(
                intention_generator_pb2.GenerateRequest(pairs=[both], relations=relations), timeout=timeout
            )
        if name in ("judge", "no intentions"):
            intentions = [
                intention_filter_pb2.IntentionToJudge(relation=relation.name, text="tea")
                for relation in (RELATIONS if name == "judge" else ())
            ]
            asked = intention_filter_pb2.PairToJudge(pair=both, intentions=intentions)
            return self._judge(intention_filter_pb2.JudgeRequest(pairs=[asked]), timeout=timeout)
        if name == "no title":
            a.title = " "
        elif name == "far too long":
            a.title = "very long " * Settings().kv_tokens
        elif name == "no picture":
            a.image.CopyFrom(common_pb2.ImageRef(digest=digest_of(b"no picture"), content=b"no picture"))
        elif name == "another picture":
            a.image.CopyFrom(common_pb2.ImageRef(digest=digest_of(b"another"), content=b"no picture"))
        elif name == "unknown picture":
            a.image.CopyFrom(common_pb2.ImageRef(digest=digest_of(rng.randbytes(8))))
        return self._extract(feature_extractor_pb2.ExtractRequest(products=[a]), timeout=timeout)

    def _view(self, product: shop.Product) -> common_pb2.ProductView:
        made = common_pb2.ProductView(title=product.title)
        if product.pictured:
            content = _png(product)
            made.image.CopyFrom(common_pb2.ImageRef(digest=digest_of(content), content=content))
        return made


def _png(product: shop.Product) -> bytes:
    file = io.BytesIO()
    product.picture().save(file, "PNG")
    return file.getvalue()
