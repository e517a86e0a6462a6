"""The real parts that the measures run on."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.kafka import Kafka
from deploy.local.postgres import Postgres
from deploy.local.process import Child
from services.common import kafka as clients
from services.common import topics
from services.common.settings import Settings


@dataclass(frozen=True)
class Parts:
    """A broker, a database, and whether few rounds are enough."""

    bootstrap_servers: str
    dsn: str
    quick: bool

    def settings(self, **overrides: object) -> Settings:
        """Settings with the stage's topics created under a prefix of their own."""
        fields = {
            "kafka_bootstrap_servers": self.bootstrap_servers,
            "postgres_dsn": self.dsn,
            "topic_prefix": f"bench-{uuid.uuid4().hex[:8]}.",
            "slot": "0",
            "http_host": "127.0.0.1",
            "http_port": 0,
            **overrides,
        }
        made = Settings(**fields)  # type: ignore[arg-type]
        needed = (topics.COBUYS.name(made), topics.FEATURED.name(made))
        clients.create_topics(made, [spec for spec in topics.specs(made) if spec.name.startswith(needed)])
        return made


@contextmanager
def started(quick: bool) -> Iterator[Parts]:
    """Kafka and PostgreSQL with new data, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as tmp:
        # PostgreSQL's unprivileged user must be able to pass.
        Path(tmp).chmod(0o755)
        broker = Kafka(Path(tmp) / "kafka", Path(tmp) / "kafka.log")
        database = Postgres(Path(tmp) / "postgres", Path(tmp) / "postgres.log")
        children = [(broker.child, broker.ready), (database.child, database.ready)]
        try:
            broker.start()
            database.start()
            for child, ready in children:
                _wait(child, ready)
            database.create_database()
            yield Parts(broker.bootstrap_servers, database.dsn(), quick)
        finally:
            for child, _ in children:
                child.ask_to_stop()
            for child, _ in children:
                child.wait_stopped(30)


def _wait(child: Child, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        if not child.running or time.monotonic() > deadline:
            raise RuntimeError(f"{child.name} does not start: {child.last_line()}")
        time.sleep(0.1)


def fill(settings: Settings, records: int, value_bytes: int) -> None:
    """Write `records` of `value_bytes` each to `cobuys`."""
    producer = clients.plain_producer(settings)
    name, value = topics.COBUYS.name(settings), bytes(value_bytes)
    for number in range(records):
        while True:
            try:
                producer.produce(name, value, str(number))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise RuntimeError("Kafka did not take the records")
