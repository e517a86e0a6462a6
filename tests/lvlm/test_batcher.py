"""The engine's thread: budget, cancellation, and errors that are one call's alone."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.common.settings import Settings
from services.lvlm.batcher import Batcher
from services.lvlm.engine import Engine, Prefix, SteppedEngine
from services.lvlm.tree.run import Run
from tests.lvlm.fixtures import no_memory
from tests.lvlm.test_together import _BRANCHES, _PREFIXES, _TOKENS


class _Watched:
    """The real engine, and what it was given to compute; a test decides when its steps go on."""

    model_version, concurrent = "", False

    def __init__(self, engine: SteppedEngine) -> None:
        self._engine = engine
        self.most_held = self.most_runs = 0
        self.running: set[Run] = set()
        self.open, self.stepped = threading.Event(), threading.Event()
        self.open.set()

    def begin(self, *args: Any) -> Run:
        made: Run = self._engine.begin(*args)
        return made

    def complete(self, *args: Any) -> Any: ...

    def score(self, *args: Any) -> Any: ...

    def alive(self) -> bool:
        return True

    def prefill(self, run: Run) -> None:
        self.running.add(run)
        self._note()
        self._engine.prefill(run)

    def step(self, runs: Sequence[Run]) -> None:
        self.stepped.set()
        assert self.open.wait(60)
        self._engine.step(runs)
        self._note()

    def _note(self) -> None:
        self.running = {run for run in self.running if not run.done}
        self.most_held = max(self.most_held, sum(run.cost for run in self.running))
        self.most_runs = max(self.most_runs, len(self.running))


@pytest.fixture
def watched(engine: Engine) -> _Watched:
    assert isinstance(engine, SteppedEngine)
    return _Watched(engine)


def _stay() -> None:
    """Somebody waits."""


def test_what_is_held_together_keeps_to_the_budget(watched: _Watched, engine: Engine) -> None:
    runs = [watched.begin(prefix, _BRANCHES, _TOKENS) for prefix in (*_PREFIXES, *_PREFIXES[:3])]
    budget = max(run.cost for run in runs) + min(run.cost for run in runs)
    batcher = Batcher(watched, budget)
    with ThreadPoolExecutor(len(runs)) as threads:
        for done in [threads.submit(batcher.compute, run, _stay) for run in runs]:
            done.result(60)
    assert watched.most_held <= budget
    assert watched.most_runs > 1
    alone, _ = engine.complete(_PREFIXES[0], _BRANCHES, _TOKENS)
    assert runs[0].completions == alone


class _Gone(Exception):
    pass


def _leaving(gone: threading.Event) -> Callable[[], None]:
    def wanted() -> None:
        if gone.is_set():
            raise _Gone

    return wanted


def test_what_nobody_wants_leaves_between_two_steps(watched: _Watched) -> None:
    batcher = Batcher(watched, Settings().kv_tokens)
    left, stays = (watched.begin(_PREFIXES[0], _BRANCHES, _TOKENS) for _ in range(2))
    gone = threading.Event()
    watched.open.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(batcher.compute, left, _leaving(gone))
        assert watched.stepped.wait(60)
        second = threads.submit(batcher.compute, stays, _stay)
        gone.set()
        watched.open.set()
        with pytest.raises(_Gone):
            first.result(60)
        second.result(60)
    assert not left.done
    assert stays.done


def test_what_waits_and_is_not_wanted_any_more_makes_room(watched: _Watched) -> None:
    running, unwanted = (watched.begin(_PREFIXES[0], _BRANCHES, _TOKENS) for _ in range(2))
    batcher, gone = Batcher(watched, running.cost), threading.Event()
    watched.open.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(batcher.compute, running, _stay)
        assert watched.stepped.wait(60)
        second = threads.submit(batcher.compute, unwanted, _leaving(gone))
        gone.set()
        watched.open.set()
        with pytest.raises(_Gone):
            second.result(60)
        first.result(60)
    assert not unwanted.whole


def test_a_run_that_failed_is_held_by_nobody(
    watched: _Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "services.lvlm.batcher")  # A captured record would hold the error's frames.
    run = watched.begin(_PREFIXES[0], _BRANCHES, _TOKENS)
    held = weakref.ref(run.tree)
    monkeypatch.setattr(watched, "step", no_memory)
    batcher = Batcher(watched, Settings().kv_tokens)
    gc.disable()  # Without it only what nothing refers to goes.
    try:
        with pytest.raises(MemoryError):
            batcher.compute(run, _stay)
        watched.running.clear()
        del run
        _eventually(lambda: held() is None)
    finally:
        gc.enable()


def _eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failure_is_that_of_the_request_at_fault(watched: _Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad, worse = (watched.begin(Prefix(text), _BRANCHES, _TOKENS) for text in ("cup", "saucer", "spoon"))
    step, prefill = watched.step, watched.prefill

    def failing_step(runs: Sequence[Run]) -> None:
        if bad in runs:
            raise MemoryError("too much")
        step(runs)

    def failing_prefill(run: Run) -> None:
        if run is worse:
            raise MemoryError("far too much")
        prefill(run)

    monkeypatch.setattr(watched, "step", failing_step)
    monkeypatch.setattr(watched, "prefill", failing_prefill)
    batcher = Batcher(watched, Settings().kv_tokens)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(batcher.compute, run, _stay) for run in (good, bad, worse)]
        for failed, said in ((asked[1], "^too much"), (asked[2], "far too much")):
            with pytest.raises(MemoryError, match=said):
                failed.result(60)
        asked[0].result(60)
    assert len(good.completions) == len(_BRANCHES)
