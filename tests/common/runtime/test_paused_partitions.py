"""Partitions that go while the worker has paused, and come back after it has gone on."""

from __future__ import annotations

import threading

import pytest
from grpc import Server

from services.common import kafka, topics
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.model import serve


@pytest.mark.integration
def test_partitions_that_went_while_paused_are_read_when_they_come_back(bench: Bench) -> None:
    settings = bench.settings()
    assert isinstance(bench.server, Server)
    bench.server.stop(0).wait()
    with bench.worker() as worker:
        wait_for(lambda: len(worker._assigned) == 8, "all partitions of the topic and of its retries")
        bench.send({"n": 0})
        wait_for(lambda: worker._paused, "the worker waits for the model")
        gone = threading.Event()

        def visit() -> None:
            visitor = kafka.reader(settings, topics.group_id(settings, "extractor"))
            visitor.subscribe([bench.prefix + "cobuys", bench.prefix + "cobuys.extractor.retry"])
            while not gone.is_set():
                visitor.consume(1, 0.1)
            visitor.close()

        thread = threading.Thread(target=visit)
        thread.start()
        try:
            wait_for(lambda: len(worker._assigned) == 4, "half of the partitions are another's")
            bench.server, _ = serve(bench.model, bench.target)
            wait_for(lambda: not worker._paused, "the worker goes on")
        finally:
            gone.set()
            thread.join()
        wait_for(lambda: len(worker._assigned) == 8, "all partitions are back")
        bench.send(*({"n": number} for number in range(1, 41)))
        wait_for(lambda: bench.numbers() == list(range(41)), "every event is answered", 60)
