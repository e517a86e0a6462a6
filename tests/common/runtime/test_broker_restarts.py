"""A broker that is killed and started again, with transactions under way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.kafka import Kafka
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.model import Model, serve
from tests.conftest import await_ready

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def broker(platform_folder: Path) -> Iterator[Kafka]:
    """A broker that a test may kill."""
    folder = platform_folder / uuid.uuid4().hex
    broker = Kafka(folder, folder / "kafka.log")
    broker.start()
    try:
        await_ready(broker.child, broker.ready)
        yield broker
    finally:
        broker.child.ask_to_stop()
        broker.child.wait_stopped(30)


@pytest.fixture
def bench(broker: Kafka) -> Iterator[Bench]:
    model = Model(delay=0.01)
    server, target = serve(model)
    made = Bench(broker.bootstrap_servers, model, target, server)
    made.create()
    yield made
    server.stop(0)


def test_a_commit_under_way_outlives_the_broker(broker: Kafka, bench: Bench) -> None:
    bench.send(*({"n": n} for n in range(6000)))
    with bench.worker("0"), bench.worker("1"):
        wait_for(lambda: bench.committed() > 0, "some committed")
        process = broker.child.process
        assert process is not None
        process.kill()
        process.wait()
        broker.start()
        await_ready(broker.child, broker.ready)
        wait_for(lambda: bench.committed() >= 6000, "all committed", 150)
    assert bench.numbers() == list(range(6000))
