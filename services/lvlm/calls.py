"""What every job's servicer does alike: queueing, idempotency, deadlines, errors with details, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
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
from services.lvlm.batcher import Batcher
from services.lvlm.engine import (
    Branch,
    BrokenNumbers,
    Completion,
    Engine,
    Prefix,
    PromptRefused,
    Run,
    SteppedEngine,
    Usage,
)
from services.lvlm.pictures import opened
from services.lvlm.turns import Turns

Answer = TypeVar("Answer", bound=Message)
_DOMAIN = "mindstream"
#: Longest wait for a caller to be told that its turn has come.
_ANNOUNCE_SECONDS = 1.0


class InvalidRequest(Exception):
    """The request can never be answered; `field` in the request's own path notation."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field, self.description = field, description


class ImageNotFound(Exception):
    """A digest that the media store of this server does not hold."""


#: What a servicer's preparation gives: the work itself, all inputs at hand.
Work = Callable[[Engine], tuple[Answer, Usage]]


class _Dropped(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class _Computation:
    """One computation, shared by all calls with its key."""

    #: Seconds that it goes on when nobody waits for it.
    grace: float
    #: Set when its turn has come.
    started: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when a caller was told so, or all are gone.
    announced: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when nobody waits any more, and since when; read by the engine's thread between two steps.
    dropped: threading.Event = field(default_factory=threading.Event)
    since: float = 0.0
    #: Whether the engine's thread has heeded that.
    stopped: bool = False
    waiting: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self) -> bool:
        """Whether one more caller can wait for it.

        One that took longer than its caller waited goes on for the next try: begun anew, it would never be done.
        """
        with self._lock:
            if self.stopped or (self.dropped.is_set() and not self.started.is_set()):
                return False
            self.dropped.clear()
            return True

    def drop(self) -> None:
        """The last caller is gone."""
        with self._lock:
            self.since = time.monotonic()
            self.dropped.set()

    def go_on(self) -> None:
        """Called by the engine's thread between two steps.

        Raises:
            _Dropped: nobody has waited for too long.
        """
        with self._lock:
            self.stopped = self.dropped.is_set() and time.monotonic() - self.since >= self.grace
        if self.stopped:
            raise _Dropped


class _Alone:
    """The engine as one computation sees it where each request is computed by itself."""

    concurrent = False

    def __init__(self, engine: Engine, job: str, computation: _Computation) -> None:
        self.model_version = engine.model_version
        self._engine, self._job, self._computation = engine, job, computation

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        self._next(branches)
        return self._engine.complete(prefix, branches, max_new_tokens)

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        self._next(branches)
        return self._engine.score(prefix, branches)

    def _next(self, branches: Sequence[Branch]) -> None:
        self._computation.go_on()
        metrics.SERVER_BATCH.labels(self._job).observe(len(branches))


class _Beside:
    """The engine as one computation sees it where others are computed beside it."""

    concurrent = False

    def __init__(self, engine: SteppedEngine, batcher: Batcher, job: str, computation: _Computation) -> None:
        self.model_version = engine.model_version
        self._engine, self._batcher, self._job, self._computation = engine, batcher, job, computation

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        run = self._run(prefix, branches, max_new_tokens)
        return run.completions, run.usage

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        run = self._run(prefix, branches, 0)
        return run.scores, run.usage

    def _run(self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int) -> Run:
        metrics.SERVER_BATCH.labels(self._job).observe(len(branches))
        run: Run = self._engine.begin(prefix, branches, max_new_tokens)
        self._batcher.compute(run, self._computation.go_on)
        return run


class Calls:
    """The one engine of a server process and the calls before it: several at once where the engine can, else one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._media = MediaStore(settings.media_url)
        self._known: OrderedDict[tuple[str, str], tuple[_Computation, asyncio.Task[Message]]] = OrderedDict()
        self._queued = 0
        self.serve(None)

    def serve(self, engine: Engine | None) -> None:
        """Answer with this engine; None: not yet."""
        self.engine = engine
        self._batcher = Batcher(engine, self.settings.kv_tokens) if isinstance(engine, SteppedEngine) else None
        several = engine is not None and (self._batcher is not None or engine.concurrent)
        together = self.settings.server_together if several else 1
        self._turns, self._threads = Turns(together), ThreadPoolExecutor(together, "call")

    async def answer(
        self,
        job: str,
        key: str,
        context: grpc.aio.ServicerContext[Any, Any],
        prepare: Callable[[], Work[Answer]],
        alone: bool = False,
    ) -> Answer:
        """Answer one call: with a computation that is known under `key`, or a new one; `alone`, with no other beside.

        `prepare` checks the request and reads its pictures before the call's turn, and what it returns runs in it;
        both in threads of their own. Its answer's `call` field is completed here.
        """
        if self.engine is None:
            await self._abort(job, context, _status(code_pb2.UNAVAILABLE, "the model is not loaded yet"))
        joined = self._join(job, key, prepare, alone)
        if joined is None:
            await self._abort(job, context, _queue_full(self._queued))
        computation, task = joined
        computation.waiting += 1
        try:
            await self._announce(computation, task, context)
            answer: Any = await asyncio.shield(task)
        except InvalidRequest as error:
            await self._abort(job, context, _invalid(error))
        except PromptRefused as error:
            await self._abort(job, context, _status(code_pb2.INVALID_ARGUMENT, str(error)))
        except BrokenNumbers as error:
            await self._abort(job, context, _status(code_pb2.FAILED_PRECONDITION, str(error)))
        except ImageNotFound as error:
            await self._abort(job, context, _image_not_found(str(error)))
        except WorldFault as error:
            await self._abort(job, context, _status(code_pb2.UNAVAILABLE, str(error)))
        finally:
            computation.waiting -= 1
            if not computation.waiting:
                # Nobody waits any more (answered, deadline, cancelled): do not begin, or stop before long.
                computation.announced.set()
                computation.drop()
                if not computation.started.is_set():
                    task.cancel()
        metrics.SERVER_CALLS.labels(job, "OK").inc()
        return answer  # type: ignore[no-any-return]

    def picture(self, image: ImageRef, place: str) -> Image:
        """A picture of a request; `place` is its path in the request.

        Raises:
            ImageNotFound, InvalidRequest: not in the store; not what its digest says, or not a picture.
            WorldFault: the store is away.
        """
        content = image.content
        if content and digest_of(content) != image.digest:
            raise InvalidRequest(f"{place}.content", f"does not hash to {image.digest!r}")
        try:
            return opened(content or self._media.get(image.digest), self.settings.image_max_pixels)
        except KeyError:
            raise ImageNotFound(image.digest) from None
        except OSError as error:
            raise InvalidRequest(place, f"{image.digest} is not a usable picture: {error}") from None

    async def _announce(
        self, computation: _Computation, task: asyncio.Task[Message], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Wait for the turn and tell the caller, who can then see that its call was running if this process dies."""
        started = asyncio.ensure_future(computation.started.wait())
        try:
            either: set[asyncio.Future[Any]] = {started, task}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if computation.started.is_set():
            await context.send_initial_metadata((("mindstream-began", "1"),))
            computation.announced.set()

    def _join(
        self, job: str, key: str, prepare: Callable[[], Work[Answer]], alone: bool
    ) -> tuple[_Computation, asyncio.Task[Message]] | None:
        """The computation of a key, known or new; None where the queue is full."""
        place = (job, key)
        known = self._known.get(place) if key else None
        if known is not None and known[0].join():
            metrics.SERVER_ANSWERS_REUSED.labels(job).inc()
            return known
        if self._queued >= self.settings.server_queue:
            return None
        self._queued += 1
        metrics.SERVER_QUEUE.labels(job).inc()
        computation = _Computation(self.settings.server_orphan_seconds)
        task: asyncio.Task[Message] = asyncio.create_task(self._compute(job, prepare, computation, alone))
        task.add_done_callback(lambda done: self._settle(job, key, done))
        if key:
            self._known[place] = (computation, task)
        return computation, task

    def _settle(self, job: str, key: str, task: asyncio.Task[Message]) -> None:
        """Keep good answers, the newest ones; forget what failed."""
        self._queued -= 1
        metrics.SERVER_QUEUE.labels(job).dec()
        failed = task.cancelled() or task.exception() is not None
        known = self._known.get((job, key))
        if failed and known is not None and known[1] is task:
            del self._known[job, key]
        done = [place for place, (_, task) in self._known.items() if task.done()]
        for place in done[: max(0, len(done) - self.settings.server_answers)]:
            del self._known[place]

    async def _compute(
        self, job: str, prepare: Callable[[], Work[Answer]], computation: _Computation, alone: bool
    ) -> Message:
        accepted = time.monotonic()
        work = await asyncio.to_thread(prepare)
        async with self._turns.turn(job, alone):
            computation.started.set()
            # The caller must know before the engine begins: what kills the process now was this call, or one beside it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(computation.announced.wait(), _ANNOUNCE_SECONDS)
            began = time.monotonic()
            watched = self._watched(job, computation)
            answer, usage = await asyncio.get_running_loop().run_in_executor(self._threads, work, watched)
        self._report(job, answer, usage, began - accepted, time.monotonic() - began)
        return answer

    def _watched(self, job: str, computation: _Computation) -> Engine:
        engine = self.engine
        assert engine is not None
        if self._batcher is None:
            return _Alone(engine, job, computation)
        assert isinstance(engine, SteppedEngine)
        return _Beside(engine, self._batcher, job, computation)

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
