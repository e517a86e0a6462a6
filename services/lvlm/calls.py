"""What every job's servicer does alike: queueing, idempotency, deadlines, errors with details, metrics."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from mindstream.inference.v1.common_pb2 import CallInfo, ImageRef
from PIL.Image import Image

from services.common import metrics
from services.common.errors import WorldFault
from services.common.media import MediaStore, digest_of
from services.common.settings import Settings
from services.lvlm.engine import Engine, Usage
from services.lvlm.pictures import opened

Answer = TypeVar("Answer", bound=Message)
_DOMAIN = "mindstream"


class InvalidRequest(Exception):
    """The request can never be answered; `field` in the request's own path notation."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field, self.description = field, description


class ImageNotFound(Exception):
    """A digest that the media store of this server does not hold."""


@dataclass
class _Computation:
    """One computation, shared by all calls with its key. `started` is set when the engine begins on it."""

    task: asyncio.Task[Message]
    started: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Calls:
    """The one engine of a server process and the line of calls before it.

    The engine computes one call at a time, so every call runs alone, isolated ones too.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self._media = MediaStore(settings.media_url)
        self._thread = ThreadPoolExecutor(1, "engine")
        self._known: OrderedDict[tuple[str, str], _Computation] = OrderedDict()
        self._queued = 0

    async def answer(
        self,
        job: str,
        key: str,
        context: grpc.aio.ServicerContext[Any, Any],
        compute: Callable[[Engine], tuple[Answer, Usage]],
    ) -> Answer:
        """Answer one call: with a computation that is known under `key`, or a new one.

        `compute` runs in the engine's thread; its answer's `call` field is filled in here.
        """
        try:
            computation = self._join(job, key, compute)
        except _QueueFull:
            await self._abort(job, context, _queue_full(self._queued))
        computation.waiting += 1
        try:
            started = asyncio.ensure_future(computation.started.wait())
            await asyncio.wait({started, computation.task}, return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
            if computation.started.is_set():
                # Tells the caller that its call was running, should this process die now.
                await context.send_initial_metadata((("mindstream-began", "1"),))
            answer: Any = await asyncio.shield(computation.task)
        except InvalidRequest as error:
            await self._abort(job, context, _invalid(error))
        except ImageNotFound as error:
            await self._abort(job, context, _image_not_found(str(error)))
        except WorldFault as error:
            await self._abort(job, context, _status(code_pb2.UNAVAILABLE, str(error)))
        finally:
            computation.waiting -= 1
            if not computation.waiting and not computation.started.is_set():
                # Nobody waits any more (deadline, cancelled): do not begin.
                computation.task.cancel()
        metrics.SERVER_CALLS.labels(job, "OK").inc()
        return answer  # type: ignore[no-any-return]

    def picture(self, image: ImageRef) -> Image:
        """A picture of a request.

        Raises:
            ImageNotFound, InvalidRequest: not in the store; not what its digest says, or not a picture.
        """
        content = image.content
        if content and digest_of(content) != image.digest:
            raise InvalidRequest("image.content", f"does not hash to {image.digest}")
        try:
            return opened(content or self._media.get(image.digest))
        except KeyError:
            raise ImageNotFound(image.digest) from None
        except OSError as error:
            raise InvalidRequest("image", f"{image.digest} is not a picture: {error}") from None

    def _join(self, job: str, key: str, compute: Callable[[Engine], tuple[Answer, Usage]]) -> _Computation:
        known = self._known.get((job, key)) if key else None
        if known is not None and not known.task.cancelled():
            metrics.SERVER_ANSWERS_REUSED.labels(job).inc()
            return known
        if self._queued >= self.settings.server_queue:
            raise _QueueFull
        started = asyncio.Event()
        task: asyncio.Task[Message] = asyncio.create_task(self._compute(job, compute, started))
        computation = _Computation(task, started)
        if key:
            self._known[job, key] = computation
            task.add_done_callback(lambda done: self._settle((job, key), done))
        return computation

    def _settle(self, place: tuple[str, str], task: asyncio.Task[Message]) -> None:
        """Keep good answers, the newest ones; forget what failed."""
        if task.cancelled() or task.exception() is not None:
            self._known.pop(place, None)
        while len(self._known) > self.settings.server_answers:
            oldest = next(iter(self._known))
            if not self._known[oldest].task.done():
                break
            del self._known[oldest]

    async def _compute(
        self, job: str, compute: Callable[[Engine], tuple[Answer, Usage]], started: asyncio.Event
    ) -> Message:
        loop, accepted = asyncio.get_running_loop(), time.monotonic()
        self._queued += 1
        metrics.SERVER_QUEUE.labels(job).inc()

        def run() -> tuple[Answer, Usage, float]:
            loop.call_soon_threadsafe(started.set)
            began = time.monotonic()
            if self.engine is None:
                raise WorldFault("model", "the model is not loaded yet")
            answer, usage = compute(self.engine)
            return answer, usage, began

        try:
            answer, usage, began = await loop.run_in_executor(self._thread, run)
        finally:
            self._queued -= 1
            metrics.SERVER_QUEUE.labels(job).dec()
        self._report(job, answer, usage, began - accepted, time.monotonic() - began)
        return answer

    def _report(self, job: str, answer: Any, usage: Usage, queued: float, computed: float) -> None:
        info: CallInfo = answer.call
        assert self.engine is not None
        info.model_version = self.engine.model_version
        info.queued.CopyFrom(_duration(queued))
        info.computed.CopyFrom(_duration(computed))
        info.prompt_tokens, info.generated_tokens = usage.prompt_tokens, usage.generated_tokens
        metrics.SERVER_QUEUE_SECONDS.labels(job).observe(queued)
        metrics.SERVER_COMPUTE_SECONDS.labels(job).observe(computed)
        metrics.SERVER_TOKENS.labels(job, "prompt").inc(usage.prompt_tokens)
        metrics.SERVER_TOKENS.labels(job, "generated").inc(usage.generated_tokens)

    async def _abort(
        self, job: str, context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status
    ) -> NoReturn:
        metrics.SERVER_CALLS.labels(job, code_pb2.Code.Name(status.code)).inc()
        rich = rpc_status.to_status(status)
        context.set_trailing_metadata(rich.trailing_metadata)
        await context.abort(rich.code, rich.details)


class _QueueFull(Exception):
    pass


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _status(code: int, message: str, *details: Message) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def _invalid(error: InvalidRequest) -> status_pb2.Status:
    violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    return _status(code_pb2.INVALID_ARGUMENT, "the request cannot be answered", bad)


def _image_not_found(digest: str) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason="IMAGE_NOT_FOUND", domain=_DOMAIN, metadata={"digest": digest})
    return _status(code_pb2.NOT_FOUND, f"no picture {digest} in the media store", info)


def _queue_full(queued: int) -> status_pb2.Status:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
    return _status(code_pb2.RESOURCE_EXHAUSTED, f"{queued} calls are waiting", retry)
