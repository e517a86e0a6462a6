"""Every way a model call can end, sorted into the two kinds of fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import modelcalls
from services.common.errors import EventFault, ServerCrashed, WorldFault
from services.common.settings import Settings


class _Server:
    """Ends each call with the status that its request names; `hang` waits for the caller to go."""

    def __init__(self) -> None:
        self.entered, self.cancelled, self.asked = asyncio.Event(), asyncio.Event(), 0

    async def ask(self, request: StringValue, context: grpc.aio.ServicerContext[Any, Any]) -> StringValue:
        self.asked += 1
        began, _, name = request.value.rpartition(" ")
        if began:
            await context.send_initial_metadata((("mindstream-began", "1"),))
        if name == "hang":
            self.entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if name == "FIELD":
            violation = error_details_pb2.BadRequest.FieldViolation(field="pairs[0].title", description="is empty")
            packed = any_pb2.Any()
            packed.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
            rich = rpc_status.to_status(status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, details=[packed]))
            context.set_trailing_metadata(rich.trailing_metadata)
            await context.abort(rich.code, rich.details)
        if name != "OK":
            await context.abort(grpc.StatusCode[name], "as asked")
        return request


@pytest.fixture
def scripted() -> _Server:
    return _Server()


@asynccontextmanager
async def _serving(scripted: _Server, settings: Settings) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.grpc_max_message_bytes)])
    ask = grpc.unary_unary_rpc_method_handler(
        scripted.ask,
        StringValue.FromString,
        StringValue.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Ask": ask}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def channel(scripted: _Server) -> AsyncIterator[grpc.aio.Channel]:
    async with _serving(scripted, Settings()) as target, modelcalls.open_channel(target, Settings()) as channel:
        yield channel


async def _call(channel: grpc.aio.Channel, request: str, timeout: float = 60) -> StringValue:
    method: Any = channel.unary_unary(
        "/test/Ask",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    return await modelcalls.call("test", method, StringValue(value=request), StringValue, timeout)


async def test_an_answer_is_returned(channel: grpc.aio.Channel) -> None:
    assert (await _call(channel, "OK")).value == "OK"


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION"])
@pytest.mark.parametrize("began", ["", "began "])
async def test_a_refusal_is_the_events_fault(channel: grpc.aio.Channel, began: str, code: str) -> None:
    with pytest.raises(EventFault, match=f"{code}: as asked"):
        await _call(channel, began + code)


async def test_a_refusal_names_the_field(channel: grpc.aio.Channel) -> None:
    with pytest.raises(EventFault, match=r"pairs\[0\]\.title: is empty"):
        await _call(channel, "FIELD")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED"])
async def test_a_break_accuses_only_the_event_that_was_computed(channel: grpc.aio.Channel, code: str) -> None:
    with pytest.raises(WorldFault) as queued:
        await _call(channel, code)
    assert not isinstance(queued.value, ServerCrashed)
    with pytest.raises(ServerCrashed):
        await _call(channel, f"began {code}")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("RESOURCE_EXHAUSTED", "model"),
        ("DEADLINE_EXCEEDED", "model"),
        ("UNIMPLEMENTED", "model"),
        ("NOT_FOUND", "media"),
    ],
)
@pytest.mark.parametrize("began", ["", "began "])
async def test_a_server_that_is_busy_late_or_short_of_something_is_the_worlds_fault(
    channel: grpc.aio.Channel, began: str, code: str, kind: str
) -> None:
    with pytest.raises(WorldFault) as raised:
        await _call(channel, began + code)
    assert not isinstance(raised.value, ServerCrashed)
    assert raised.value.kind == kind


@pytest.mark.parametrize("began", ["", "began "])
async def test_a_passed_deadline_is_the_worlds_fault(channel: grpc.aio.Channel, began: str) -> None:
    with pytest.raises(WorldFault, match="DEADLINE_EXCEEDED") as raised:
        await _call(channel, f"{began}hang", timeout=0.2)
    assert not isinstance(raised.value, ServerCrashed)


@pytest.mark.parametrize("limited", ["server", "client"])
async def test_a_message_over_the_limit_is_the_events_fault(scripted: _Server, limited: str) -> None:
    small, large = Settings(grpc_max_message_bytes=1024), Settings()
    servers, clients = (small, large) if limited == "server" else (large, small)
    async with _serving(scripted, servers) as target, modelcalls.open_channel(target, clients) as channel:
        with pytest.raises(EventFault, match="MINDSTREAM_GRPC_MAX_MESSAGE_BYTES") as fault:
            await _call(channel, "x" * 2000 + " OK")
    assert fault.value.reason == reasons.DEAD_LETTER_REASON_TOO_LARGE


async def test_nobody_there_is_the_worlds_fault() -> None:
    async with modelcalls.open_channel("127.0.0.1:1", Settings()) as channel:
        with pytest.raises(WorldFault, match="UNAVAILABLE") as raised:
            await _call(channel, "OK")
    assert not isinstance(raised.value, ServerCrashed)


@pytest.mark.parametrize("began", ["", "began "])
async def test_a_cancelled_caller_cancels_its_call(channel: grpc.aio.Channel, scripted: _Server, began: str) -> None:
    caller = asyncio.create_task(_call(channel, f"{began}hang"))
    await scripted.entered.wait()
    caller.cancel()
    await scripted.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_calls_go_in_turn_to_every_server_of_a_name() -> None:
    servers = [_Server(), _Server()]
    async with (
        _serving(servers[0], Settings()) as one,
        _serving(servers[1], Settings()) as other,
        modelcalls.open_channel(f"ipv4:{one},{other}", Settings()) as channel,
    ):
        # The first calls go to whichever was connected first.
        while not all(server.asked for server in servers):
            await _call(channel, "OK")
        before = [server.asked for server in servers]
        for _ in range(10):
            await _call(channel, "OK")
    assert [server.asked - had for server, had in zip(servers, before, strict=True)] == [5, 5]
