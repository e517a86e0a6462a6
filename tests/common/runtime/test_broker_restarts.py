"""A broker that is killed and started again, with transactions under way."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local.kafka import Kafka
from services.common.runtime import transactions
from services.common.runtime.worker import Worker
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.model import Model, serve
from tests.common.runtime.program import stage
from tests.conftest import await_ready, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def broker(platform_folder: Path) -> Iterator[Kafka]:
    """A broker that a test may kill."""
    folder = platform_folder / uuid.uuid4().hex
    with running(Kafka(folder, folder / "kafka.log")) as broker:
        yield broker


@pytest.fixture
def bench(broker: Kafka) -> Iterator[Bench]:
    model = Model(delay=0.01)
    server, target = serve(model)
    made = Bench(broker.bootstrap_servers, model, target, server)
    made.create()
    yield made
    server.stop(0)


@pytest.mark.parametrize("idle_ms", [transactions._IDLE_MS, 0])
def test_a_commit_under_way_outlives_the_broker(
    broker: Kafka, bench: Bench, monkeypatch: pytest.MonkeyPatch, idle_ms: int
) -> None:
    # Without the idle connections' end librdkafka hangs for good, and the worker is started anew.
    monkeypatch.setattr(transactions, "_IDLE_MS", idle_ms)
    bench.send(*({"n": n} for n in range(6000)))
    with _supervised(bench, "0"), _supervised(bench, "1"):
        wait_for(lambda: bench.committed() > 0, "some committed")
        process = broker.child.process
        assert process is not None
        process.kill()
        process.wait()
        broker.start()
        await_ready(broker.child, broker.ready)
        wait_for(lambda: len(bench.numbers()) >= 6000, "all committed", 150)
    assert bench.numbers() == list(range(6000))


@contextmanager
def _supervised(bench: Bench, slot: str) -> Iterator[None]:
    """A worker in a thread; a new one where it ends."""
    workers: list[Worker] = []
    over = threading.Event()

    def supervise() -> None:
        while not over.is_set():
            settings = bench.settings(slot)
            workers.append(Worker(stage(settings), settings))
            workers[-1].run()

    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    yield
    over.set()
    workers[-1].stop()
    thread.join(60)
    assert not thread.is_alive()
