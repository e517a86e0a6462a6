"""The real Kafka and the real PostgreSQL, one of each per test session."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from deploy.local.kafka import Kafka
from deploy.local.postgres import Postgres
from deploy.local.process import Child
from services.common import kafka as clients
from services.common import topics
from services.common.settings import Settings

# Machines differ, and the first example fills caches: no absolute time is asserted.
hypothesis.settings.register_profile("mindstream", deadline=None)
hypothesis.settings.load_profile("mindstream")

# What a client that outlives its broker says, at any moment, is nothing that a test's command has said.
logging.getLogger("librdkafka").addHandler(logging.NullHandler())


def await_ready(child: Child, ready: Callable[[], bool]) -> None:
    """Wait until a started server answers."""
    deadline = time.monotonic() + 60
    while not ready():
        assert child.running, f"{child.name} ended: {child.last_line()}"
        assert time.monotonic() < deadline, f"{child.name} is not ready"


S = TypeVar("S", Kafka, Postgres)


@contextmanager
def running(server: S) -> Iterator[S]:
    """A server from when it answers to its end."""
    server.start()
    try:
        await_ready(server.child, server.ready)
        yield server
    finally:
        server.child.ask_to_stop()
        server.child.wait_stopped(30)


def grow(settings: Settings, topic: str, partitions: int) -> None:
    """Give a topic more partitions, and wait until the broker says so."""
    client = clients.admin(settings)  # Kept: its futures die with it.
    client.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
    deadline = time.monotonic() + 60
    while clients.existing_topics(settings)[topic] != partitions:
        assert time.monotonic() < deadline, f"{topic} has no more partitions"


def delete(settings: Settings, topic: str) -> None:
    """Delete a topic."""
    client = clients.admin(settings)  # Kept: its futures die with it.
    client.delete_topics([topic])[topic].result(30)


@pytest.fixture(scope="session")
def platform_folder() -> Iterator[Path]:
    # Not pytest's own tmp_path: PostgreSQL's unprivileged user must reach it.
    with tempfile.TemporaryDirectory(prefix="mindstream-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def kafka(platform_folder: Path) -> Iterator[str]:
    """Bootstrap servers of a real broker."""
    with running(Kafka(platform_folder / "kafka", platform_folder / "kafka.log")) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def postgres_server(platform_folder: Path) -> Iterator[Postgres]:
    with running(Postgres(platform_folder / "postgres", platform_folder / "postgres.log")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres(postgres_server: Postgres) -> str:
    """DSN of a database that is new in this module."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.create_database(name)
    return postgres_server.dsn(name)


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Callable[..., Settings]:
    """A factory of settings with topics of this test's own, created on the broker."""

    def make(**overrides: object) -> Settings:
        fields: dict[str, object] = {
            "kafka_bootstrap_servers": kafka,
            "topic_prefix": f"t{uuid.uuid4().hex[:8]}.",
            "http_host": "127.0.0.1",
            "http_port": 0,
            "media_url": f"file://{tmp_path}/media",
            "datasets_url": f"file://{tmp_path}/datasets",
            **overrides,
        }
        made = Settings(**fields)  # type: ignore[arg-type]
        clients.create_topics(made, topics.specs(made))
        return made

    return make
