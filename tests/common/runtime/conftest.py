"""What the runtime's tests share: topics of their own on the real broker, and workers as threads or processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Consumer, TopicPartition

from services.common import kafka, topics
from services.common.records import Record
from services.common.runtime.worker import Worker
from services.common.settings import Settings
from tests.common.runtime.model import Model, serve
from tests.common.runtime.program import stage


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Poll until the condition holds; fail after `seconds` with what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.05)


@dataclass
class Bench:
    """A broker with topics of this test's own, and a model."""

    bootstrap: str
    model: Model
    target: str
    server: object
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}.")
    overrides: dict[str, str] = field(default_factory=dict)

    def env(self, slot: str = "0") -> dict[str, str]:
        return {
            "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "MINDSTREAM_TOPIC_PREFIX": self.prefix,
            "MINDSTREAM_TOPIC_PARTITIONS": "4",
            "MINDSTREAM_EXTRACTOR_TARGET": self.target,
            "MINDSTREAM_SLOT": slot,
            "MINDSTREAM_HTTP_HOST": "127.0.0.1",
            "MINDSTREAM_HTTP_PORT": "0",
            "MINDSTREAM_SESSION_TIMEOUT_SECONDS": "6",
            "MINDSTREAM_BACKOFF_MAX_SECONDS": "0.5",
            "MINDSTREAM_DRAIN_SECONDS": "5",
            **self.overrides,
        }

    def settings(self, slot: str = "0") -> Settings:
        names = {k.removeprefix("MINDSTREAM_").lower(): v for k, v in self.env(slot).items()}
        return Settings(**names)  # type: ignore[arg-type]

    def create(self, **limits: int) -> None:
        """Create the topics; `limits` are sizes of a record (`max.message.bytes`) by topic, dots as underscores."""
        settings = self.settings()
        specs = list(topics.specs(settings))
        for spec in specs:
            name = spec.name.removeprefix(self.prefix).replace(".", "_")
            if name in limits:
                spec.config["max.message.bytes"] = str(limits[name])
        kafka.create_topics(settings, specs)

    def send(
        self, *events: Mapping[str, object], headers: Mapping[str, str] | None = None, topic: str = "cobuys"
    ) -> None:
        """Events to a topic, in order; `k` is the key, the number where it is missing."""
        producer = kafka.plain_producer(self.settings())
        for event in events:
            key, given = str(event.get("k", event["n"])), list((headers or {}).items())
            producer.produce(self.prefix + topic, json.dumps(event).encode(), key, headers=given)  # type: ignore[arg-type]
            producer.poll(0)
        assert producer.flush(30) == 0

    def read(self, topic: str) -> list[Record]:
        """Everything committed in a topic now."""
        return list(kafka.read_all(self.settings(), self.prefix + topic))

    def numbers(self, topic: str = "cobuys.featured") -> list[int]:
        return sorted(json.loads(r.value)["n"] for r in self.read(topic))

    def committed(self) -> int:
        """Sum of the group's committed offsets over `cobuys`."""
        consumer = Consumer(kafka.consumer_config(self.settings(), topics.group_id(self.settings(), "extractor")))
        places = kafka.committed(consumer, [TopicPartition(self.prefix + "cobuys", p) for p in range(4)])
        consumer.close()
        return sum(max(0, p.offset) for p in places)

    @contextlib.contextmanager
    def worker(self, slot: str = "0") -> Iterator[Worker]:
        """A worker in a thread."""
        settings = self.settings(slot)
        worker = Worker(stage(settings), settings)
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(worker.run()), daemon=True)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(60)
            assert codes, "the worker did not stop"

    def process(self, slot: str = "0") -> subprocess.Popen[bytes]:
        """A worker as a process."""
        command = [sys.executable, "-m", "tests.common.runtime.program"]
        return subprocess.Popen(command, env={**os.environ, **self.env(slot)}, stderr=subprocess.DEVNULL)


@pytest.fixture
def bench(kafka: str) -> Iterator[Bench]:
    model = Model()
    server, target = serve(model)
    made = Bench(kafka, model, target, server)
    made.create()
    yield made
    model.gate.set()
    server.stop(0)
