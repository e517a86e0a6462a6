"""What the commands' tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common import kafka, topics
from services.common.settings import Settings


@pytest.fixture
def installation(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of topics of this test's own, which commands find in the environment."""
    made = settings(topic_partitions=1)
    # They are there for other clients a moment after they were created.
    while kafka.topics_trouble(made, {spec.name: 0 for spec in topics.specs(made)}):
        pass
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", made.kafka_bootstrap_servers)
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", made.topic_prefix)
    return made
