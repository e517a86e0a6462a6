"""Queueing, idempotency, deadlines and error details through real gRPC."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import feature_extractor_pb2 as pb
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub

from services.common import modelcalls
from services.common.errors import EventFault, ServerCrashed, WorldFault
from services.common.media import digest_of
from services.lvlm.engine import BrokenNumbers, Engine, PromptTooLong
from tests.lvlm.fixtures import Served, png


class _Gate:
    """The real engine behind a gate, so that a test decides when computing goes on."""

    concurrent = False

    def __init__(self, engine: Any) -> None:
        self.model_version = engine.model_version
        self.open, self.entered, self.batches = threading.Event(), threading.Event(), 0
        self._engine = engine

    def complete(self, *args: Any) -> Any:
        self.batches += 1
        self.entered.set()
        assert self.open.wait(60)
        return self._engine.complete(*args)

    def score(self, *args: Any) -> Any:
        return self._engine.score(*args)


@pytest.fixture
def gate(served: Served) -> _Gate:
    assert served.calls.engine is not None
    gate = _Gate(served.calls.engine)
    served.calls.serve(gate)
    return gate


@pytest.fixture
def extract(served: Served) -> Callable[..., Any]:
    stub = FeatureExtractorStub(served.channel)

    def ask(key: str, *titles: str, timeout: float | None = None) -> Any:
        products = [common_pb2.ProductView(product_id="p", title=title) for title in titles]
        return stub.Extract(pb.ExtractRequest(idempotency_key=key, products=products), timeout=timeout)

    return ask


def _detail(error: grpc.aio.AioRpcError, detail: Message) -> Any:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(detail)
    return detail


async def test_overlapping_and_repeated_calls_of_a_key_share_one_computation(
    extract: Callable[..., Any], gate: _Gate
) -> None:
    calls = [extract("k", "cup"), extract("k", "cup")]
    await asyncio.to_thread(gate.entered.wait)
    gate.open.set()
    first, second = [await call for call in calls]
    assert first == second == await extract("k", "cup")
    assert gate.batches == 1


async def test_a_full_queue_pushes_back(extract: Callable[..., Any], gate: _Gate) -> None:
    running = extract("1", "cup")
    await asyncio.to_thread(gate.entered.wait)
    # The queue's limit is 3: of four calls one is too many.
    queued = [extract(key, "cup") for key in ("2", "3", "4")]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asyncio.gather(*queued)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _detail(raised.value, error_details_pb2.RetryInfo()).retry_delay.seconds > 0
    gate.open.set()
    assert (await running).products


async def test_a_call_whose_deadline_passed_is_not_begun(extract: Callable[..., Any], gate: _Gate) -> None:
    running = extract("1", "cup")
    await asyncio.to_thread(gate.entered.wait)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await extract("2", "cup", timeout=0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gate.open.set()
    await running
    await extract("3", "cup")
    assert gate.batches == 2


async def test_what_outlasts_its_caller_is_there_for_the_next_try(
    served: Served, extract: Callable[..., Any], gate: _Gate
) -> None:
    first = extract("k", "cup")
    await asyncio.to_thread(gate.entered.wait)
    ((computation, _),) = served.calls._known.values()
    first.cancel()
    await asyncio.to_thread(computation.dropped.wait)
    asked, join = asyncio.Event(), served.calls._join

    def joining(*args: Any) -> Any:
        asked.set()
        return join(*args)

    served.calls._join = joining  # type: ignore[method-assign, assignment]
    second = extract("k", "cup")
    await asked.wait()
    gate.open.set()
    assert (await second).products
    assert gate.batches == 1


async def test_cancelled_work_stops_at_the_next_batch(served: Served, extract: Callable[..., Any], gate: _Gate) -> None:
    running = extract("1", "cup", "saucer", "spoon")
    await asyncio.to_thread(gate.entered.wait)
    ((computation, _),) = served.calls._known.values()
    running.cancel()
    await asyncio.to_thread(computation.dropped.wait)
    gate.open.set()
    assert (await extract("2", "cup")).products
    # One batch of the first call, and one of the second: the rest of the first was never begun.
    assert gate.batches == 2


class _Failing:
    """An engine that fails in one way."""

    model_version, concurrent = "failing", False

    def __init__(self, error: Exception) -> None:
        self._error = error

    def complete(self, *_: Any) -> Any:
        raise self._error

    score = complete


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (WorldFault("model", "endpoint away"), grpc.StatusCode.UNAVAILABLE, WorldFault),
        (MemoryError(), grpc.StatusCode.RESOURCE_EXHAUSTED, WorldFault),
        (BrokenNumbers(), grpc.StatusCode.FAILED_PRECONDITION, EventFault),
        (PromptTooLong("9 tokens"), grpc.StatusCode.INVALID_ARGUMENT, EventFault),
        (ZeroDivisionError(), grpc.StatusCode.INTERNAL, ServerCrashed),
    ],
)
async def test_a_worker_blames_whom_the_engine_blames(
    served: Served, error: Exception, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    served.calls.serve(_Failing(error))
    request = pb.ExtractRequest(products=[common_pb2.ProductView(title="cup")])
    stub = FeatureExtractorStub(served.channel)
    with pytest.raises(kind, match=code.name) as raised:
        await modelcalls.call("extractor", stub.Extract, request, pb.ExtractResponse, 30)
    assert type(raised.value) is kind


async def test_a_bad_request_names_the_field(extract: Callable[..., Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await extract("k", "cup", " ")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _detail(raised.value, error_details_pb2.BadRequest()).field_violations[0].field == "products[1].title"


async def test_pictures_by_digest_and_inline(served: Served) -> None:
    stub = FeatureExtractorStub(served.channel)

    async def ask(image: common_pb2.ImageRef) -> pb.ExtractResponse:
        product = common_pb2.ProductView(title="cup", image=image)
        answer: pb.ExtractResponse = await stub.Extract(pb.ExtractRequest(products=[product]))
        return answer

    red = png("red")
    inline = await ask(common_pb2.ImageRef(digest=digest_of(red), content=red))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(common_pb2.ImageRef(digest=digest_of(red)))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert _detail(raised.value, error_details_pb2.ErrorInfo()).reason == "IMAGE_NOT_FOUND"
    stored = await ask(common_pb2.ImageRef(digest=served.media.put(red)))
    assert stored.products == inline.products
    for content in (png("blue"), b"no picture"):
        digest = digest_of(red if content != b"no picture" else content)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(common_pb2.ImageRef(digest=digest, content=content))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_server_without_its_model_is_unavailable_and_has_not_begun(
    served: Served, extract: Callable[..., Any]
) -> None:
    engine: Engine | None = served.calls.engine
    served.calls.serve(None)
    call = extract("k", "cup")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not await call.initial_metadata()
    served.calls.serve(engine)
    assert (await extract("k", "cup")).products
