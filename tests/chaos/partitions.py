"""What takeover and scaling share: events for every partition all the time, and how long a partition stood still."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from confluent_kafka import KafkaException

from deploy.local.kafka import Kafka
from services.common import kafka, topics
from tests.common.runtime.conftest import Bench
from tests.common.runtime.model import Model, serve
from tests.conftest import running

EVENTS_A_SECOND = 40


@contextlib.contextmanager
def benches() -> Iterator[Iterator[Bench]]:
    """A broker and a model, and topics of their own for each trial."""
    with (
        tempfile.TemporaryDirectory(prefix="mindstream-partitions-") as tmp,
        running(Kafka(Path(tmp, "kafka"), Path(tmp, "kafka.log"))) as broker,
    ):
        model = Model()
        server, target = serve(model)
        yield _made(broker.bootstrap_servers, model, target, server)
        server.stop(0)


def _made(bootstrap: str, model: Model, target: str, server: object) -> Iterator[Bench]:
    while True:
        bench = Bench(bootstrap, model, target, server)
        bench.create()
        yield bench


class Shop(threading.Thread):
    """Sends numbered events at an even pace until told to stop."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self._bench = bench
        self.sent = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            until = self.sent + EVENTS_A_SECOND // 2
            self._bench.send(*({"n": n} for n in range(self.sent, until)))
            self.sent = until


def members(bench: Bench) -> int:
    """Members of the stage's group that have partitions."""
    settings = bench.settings()
    client = kafka.admin(settings)  # Kept: its futures die with it.
    group = topics.group_id(settings, "extractor")
    try:
        found = client.describe_consumer_groups([group])[group].result(20)
    except (KafkaException, TimeoutError):
        return 0  # Its coordinator is being made.
    return sum(bool(one.assignment and one.assignment.topic_partitions) for one in found.members)


def end(worker: subprocess.Popen[bytes]) -> None:
    """Wait for a worker that was told to stop; kill it where it does not."""
    try:
        worker.wait(30)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def longest_pause(bench: Bench, since: float, until: float) -> float:
    """The longest pause between two results of a partition that ended in that time, or from its last one to the end."""
    times: dict[int, list[float]] = defaultdict(list)
    for record in bench.read("cobuys.featured"):
        # Both topics have as many partitions, so that a result stands in the partition of its event.
        times[record.partition].append(record.timestamp_ms / 1000)
    return max(
        later - earlier
        for found in times.values()
        for earlier, later in pairwise([*sorted(time for time in found if time < until), until])
        if later > since
    )
