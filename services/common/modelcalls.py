"""Model calls from a worker: one channel a server, a deadline a call, and errors sorted into the two kinds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from functools import cache
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import metrics, tracing
from services.common.errors import EventFault, ServerCrashed, WorldFault
from services.common.media import MediaStore
from services.common.settings import Settings
from services.common.tls import channel_credentials

Answer = TypeVar("Answer", bound=Message)
Detail = TypeVar("Detail", bound=Message)

_EVENTS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
}
#: The stream broke; whether the server was at it is told by its initial metadata.
_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED}
#: How gRPC says that a message is over a limit; a server that is busy has the same code and other words.
_TOO_LARGE = "message larger than max"
#: Calls go in turn to all servers that a target with a scheme stands for (`dns:///model:50051`, a headless Service).
#: Which those are is asked anew whenever a connection ends, and servers end theirs now and then
#: (services/lvlm/server.py). A plain `host:port` is one server: of a name with an address that refuses and one that
#: answers wrongly, gRPC tells why of the latter only where it tries them one after the other.
_SCHEMES = ("dns:", "ipv4:", "ipv6:")
_IN_TURN = '{"loadBalancingConfig": [{"round_robin": {}}]}'


class _Method(Protocol):
    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: tracing.Metadata | None = None
    ) -> Any: ...


def open_channel(target: str, settings: Settings) -> grpc.aio.Channel:
    """A channel that soon notices a server that is back, or gone.

    Raises:
        SettingsError: a certificate, key or CA is not what it should be.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", settings.grpc_max_message_bytes),
        ("grpc.max_receive_message_length", settings.grpc_max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", int(settings.backoff_max_seconds * 1000)),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if target.startswith(_SCHEMES):
        options.append(("grpc.service_config", _IN_TURN))
    credentials = channel_credentials(settings)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


async def call(
    stage: str,
    method: _Method,
    request: Message,
    answer: type[Answer],
    timeout: float,
    media: MediaStore | None = None,
) -> Answer:
    """One call with its metrics. A picture that the server does not find is looked for in `media`.

    Raises:
        EventFault: the server refused the event, it is too large to send, or its picture is nowhere.
        ServerCrashed: the stream broke while the server computed it.
        WorldFault: the server is away, busy or late.
    """
    _begin(stage)
    started = time.monotonic()
    with (
        metrics.CALLS_IN_FLIGHT.labels(stage).track_inprogress(),
        tracing.calling(stage, request.DESCRIPTOR.name.removesuffix("Request")),
    ):
        try:
            # Awaited directly: only so does cancelling the caller cancel the call at the server.
            answered = await _typed(method(request, timeout=timeout, metadata=tracing.metadata()), answer)
        except grpc.aio.AioRpcError as error:
            metrics.CALL_ERRORS.labels(stage, error.code().name).inc()
            missing = _missing_picture(error)
            if media is not None and missing:
                raise await asyncio.to_thread(_of_picture, missing, media) from None
            # Servers send initial metadata when they begin to compute; a broken stream's error has kept them.
            raise _sorted(error, bool(error.initial_metadata())) from None
    metrics.CALL_SECONDS.labels(stage).observe(time.monotonic() - started)
    return answered


@cache
def _begin(stage: str) -> None:
    """Its errors stand at zero before the first; see `metrics.begin`."""
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            metrics.CALL_ERRORS.labels(stage, code.name)


async def _typed(rpc: Awaitable[Any], answer: type[Answer]) -> Answer:
    answered = await rpc
    assert isinstance(answered, answer)
    return answered


def _sorted(error: grpc.aio.AioRpcError, began: bool) -> Exception:
    line = f"{error.code().name}: {error.details() or ''}"
    if error.code() in _EVENTS_FAULT:
        return EventFault(reasons.DEAD_LETTER_REASON_MODEL_REFUSED, "; ".join([line, *_violations(error)]))
    # What a server says itself has details; a stream that broke has none. An engine that failed says INTERNAL.
    says = error.code() is not grpc.StatusCode.INTERNAL and rpc_status.from_call(error) is not None  # type: ignore[arg-type]
    if error.code() in _BROKEN and began and not says:
        return ServerCrashed(line)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in line:
        return EventFault(reasons.DEAD_LETTER_REASON_TOO_LARGE, f"{line} (MINDSTREAM_GRPC_MAX_MESSAGE_BYTES)")
    return WorldFault("media" if error.code() is grpc.StatusCode.NOT_FOUND else "model", line)


def _violations(error: grpc.aio.AioRpcError) -> list[str]:
    """What google.rpc.BadRequest says of single fields."""
    details = _details(error, error_details_pb2.BadRequest)
    return [f"{v.field}: {v.description}" for bad in details for v in bad.field_violations]


def _missing_picture(error: grpc.aio.AioRpcError) -> str:
    """The digest that the server's media store does not hold; empty for any other error."""
    if error.code() is not grpc.StatusCode.NOT_FOUND:
        return ""
    named = (info.metadata["digest"] for info in _details(error, error_details_pb2.ErrorInfo))
    return next(named, "")


def _of_picture(digest: str, media: MediaStore) -> Exception:
    """A picture that is nowhere is the event's fault; one that only the server does not see is not."""
    try:
        media.get(digest)
    except KeyError:
        return EventFault(reasons.DEAD_LETTER_REASON_IMAGE, f"no picture {digest} in the media store, or a damaged one")
    except WorldFault as fault:
        return fault
    return WorldFault("media", f"the model server does not see picture {digest}: has it the same MINDSTREAM_MEDIA_URL?")


def _details(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Iterator[Detail]:
    """The error's rich details of one kind."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            yield detail
