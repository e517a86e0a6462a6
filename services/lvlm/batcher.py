"""One thread that computes the prompts of several calls together, on an engine that can."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from services.common import metrics
from services.lvlm.engine import Run, SteppedEngine

_log = logging.getLogger(__name__)

#: Pieces of prompts that are read between two steps: what is being decoded never waits for more than these.
_PIECES = 2
#: Exit code where the device has failed.
_DEVICE_GONE = 70


@dataclass(eq=False)
class _Request:
    run: Run
    #: Called between two steps; raises when nobody wants the result any more.
    wanted: Callable[[], None]
    done: Future[None] = field(default_factory=Future)


class Batcher:
    """Takes runs in as they come and as `kv_tokens` allows, first come first served; each leaves when it is done."""

    def __init__(self, engine: SteppedEngine, kv_tokens: int) -> None:
        self._engine, self._budget = engine, kv_tokens
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    def compute(self, run: Any, wanted: Callable[[], None]) -> None:
        """Bring a run to its end; blocks the calling thread meanwhile.

        Raises:
            Exception: what `wanted` raised, or the engine for this very run.
        """
        request = _Request(run, wanted)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        try:
            request.done.result()
        finally:
            # An error's traceback holds this frame, and would hold the run's keys and values with it.
            del request, run

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._running:
                    self._changed.wait()
            # In a frame of its own: while nothing comes, nothing here holds what is done.
            self._round()

    def _round(self) -> None:
        with self._changed:
            known = (*self._waiting, *self._running)
        for request in known:
            self._guarded(request, request.wanted)
        self._admit()
        self._read()
        self._step()
        for request in list(self._running):
            if request.run.done:
                self._leave(request)

    def _admit(self) -> None:
        held = sum(request.run.cost for request in self._running)
        with self._changed:
            while self._waiting and (not self._running or held + self._waiting[0].run.cost <= self._budget):
                request = self._waiting.popleft()
                self._running.append(request)
                held += request.run.cost
        self._report(held)

    def _read(self) -> None:
        began = time.perf_counter()
        for _ in range(_PIECES):
            request = next((request for request in self._running if not request.run.whole), None)
            if request is None:
                break
            self._guarded(request, partial(self._engine.prefill, request.run))
        metrics.ENGINE_SECONDS.labels("prefill").inc(time.perf_counter() - began)

    def _step(self) -> None:
        ready = [request for request in self._running if request.run.whole and not request.run.done]
        if not ready:
            return
        began = time.perf_counter()
        together = self._stepped(ready)
        if not together:
            # One of them is at fault, or all together were too much: each shows by itself.
            for request in ready:
                self._guarded(request, partial(self._engine.step, [request.run]))
        seconds = time.perf_counter() - began
        metrics.ENGINE_SECONDS.labels("decode").inc(seconds)
        metrics.ENGINE_STEP_SECONDS.observe(seconds)

    def _stepped(self, ready: Sequence[_Request]) -> bool:
        # Whoever tries again does so outside: the error holds what the failed forward has allocated.
        try:
            self._engine.step([request.run for request in ready])
        except Exception:
            _log.exception("a step of %d runs failed; each is tried by itself", len(ready))
            return False
        return True

    def _guarded(self, request: _Request, work: Callable[[], None]) -> None:
        """What fails here is this request's, and no other's."""
        try:
            work()
        except Exception as error:
            if not self._engine.alive():
                _log.critical("the device is gone; ending, so that another process takes over", exc_info=True)
                logging.shutdown()
                os._exit(_DEVICE_GONE)
            # Without its traceback, which holds tensors.
            self._leave(request, error.with_traceback(None))

    def _leave(self, request: _Request, error: Exception | None = None) -> None:
        if request in self._running:
            self._running.remove(request)
        else:
            with self._changed:
                self._waiting.remove(request)
        self._report(sum(request.run.cost for request in self._running))
        if error is None:
            request.done.set_result(None)
        else:
            request.done.set_exception(error)

    def _report(self, held: int) -> None:
        metrics.ENGINE_RUNS.set(len(self._running))
        metrics.ENGINE_KV_TOKENS.labels("runs").set(held)
