"""What every job's servicer does alike: queueing, idempotency, deadlines, errors with details, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status
from mindstream.inference.v1.common_pb2 import CallInfo, ImageRef
from PIL.Image import Image

from services.common import metrics, tracing
from services.common.media import MediaStore, digest_of
from services.common.settings import Settings
from services.lvlm import statuses
from services.lvlm.batcher import Batcher
from services.lvlm.computation import Asked, Beside, Computation, Direct
from services.lvlm.engine import Engine, SteppedEngine, Usage
from services.lvlm.pictures import opened
from services.lvlm.statuses import ImageNotFound, InvalidRequest
from services.lvlm.turns import Turns

Answer = TypeVar("Answer", bound=Message)
#: A job, a key, and whether it is computed alone: what is computed beside others is no answer to that.
_Place = tuple[str, str, bool]
#: Longest wait for a caller to be told that its turn has come.
_ANNOUNCE_SECONDS = 1.0


#: What a servicer's preparation gives: the work itself, all inputs at hand.
Work = Callable[[Asked], tuple[Answer, Usage]]


class Calls:
    """The one engine of a server process and the calls before it: several at once where the engine can, else one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._media = MediaStore(settings.media_url)
        self._known: OrderedDict[_Place, tuple[Computation, asyncio.Task[Message]]] = OrderedDict()
        self._queued: Counter[str] = Counter()
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
        with tracing.serving(job, context.invocation_metadata()):
            return await self._answer(job, key, context, prepare, alone)

    async def _answer(
        self,
        job: str,
        key: str,
        context: grpc.aio.ServicerContext[Any, Any],
        prepare: Callable[[], Work[Answer]],
        alone: bool,
    ) -> Answer:
        if self.engine is None:
            await self._abort(job, context, statuses.status(code_pb2.UNAVAILABLE, "the model is not loaded yet"))
        joined = self._join(job, key, prepare, alone)
        if joined is None:
            await self._abort(job, context, statuses.queue_full(self._queued[job]))
        computation, task = joined
        computation.waiting += 1
        try:
            await self._announce(computation, task, context)
            answer: Any = await asyncio.shield(task)
        except Exception as error:
            await self._abort(job, context, statuses.of(error))
        finally:
            computation.waiting -= 1
            if not computation.waiting:
                # Nobody waits any more (answered, deadline, cancelled): without a turn it never begins.
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
        self, computation: Computation, task: asyncio.Task[Message], context: grpc.aio.ServicerContext[Any, Any]
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
    ) -> tuple[Computation, asyncio.Task[Message]] | None:
        """The computation of a key, known or new; None where the queue is full."""
        place = (job, key, alone)
        known = self._known.get(place) if key else None
        if known is not None and known[0].join():
            metrics.SERVER_ANSWERS_REUSED.labels(job).inc()
            return known
        if self._queued[job] >= self.settings.server_queue:
            return None
        self._queued[job] += 1
        metrics.SERVER_QUEUE.labels(job).inc()
        # Without a key nobody can ask for it again.
        computation = Computation(self.settings.server_orphan_seconds if key else 0)
        task: asyncio.Task[Message] = asyncio.create_task(self._compute(job, prepare, computation, alone))
        task.add_done_callback(lambda done: self._settle(place, done))
        if key:
            self._known[place] = (computation, task)
        return computation, task

    def _settle(self, place: _Place, task: asyncio.Task[Message]) -> None:
        """Keep good answers, the newest ones; forget what failed."""
        self._queued[place[0]] -= 1
        metrics.SERVER_QUEUE.labels(place[0]).dec()
        failed = task.cancelled() or task.exception() is not None
        known = self._known.get(place)
        if failed and known is not None and known[1] is task:
            del self._known[place]
        done = [place for place, (_, task) in self._known.items() if task.done()]
        for place in done[: max(0, len(done) - self.settings.server_answers)]:
            del self._known[place]

    async def _compute(
        self, job: str, prepare: Callable[[], Work[Answer]], computation: Computation, alone: bool
    ) -> Message:
        accepted = time.monotonic()
        work = await asyncio.to_thread(prepare)
        async with self._turns.turn(job, alone):
            computation.started.set()
            # The caller must know before the engine begins: what kills the process now was this call, or one beside it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(computation.announced.wait(), _ANNOUNCE_SECONDS)
            began = time.monotonic()
            asked = self._asked(job, computation)
            # In the call's context, so that what is logged there names its event.
            run = contextvars.copy_context().run
            answer, usage = await asyncio.get_running_loop().run_in_executor(self._threads, run, work, asked)
        self._report(job, answer, usage, began - accepted, time.monotonic() - began)
        return answer

    @property
    def computing(self) -> bool:
        """Whether a call has its turn."""
        return self._turns.busy

    def _asked(self, job: str, computation: Computation) -> Asked:
        engine = self.engine
        assert engine is not None
        if self._batcher is None:
            return Direct(engine, job, computation)
        assert isinstance(engine, SteppedEngine)
        return Beside(engine, self._batcher, job, computation)

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
