"""Which topics a stage reads, and what handles their records."""

from __future__ import annotations

from services.common import kafka, topics
from services.common.runtime.stage import Handler, Stage
from services.common.settings import Settings


def handlers(stage: Stage, settings: Settings) -> dict[str, Handler]:
    """Handlers by topic on the wire, retry topics included."""
    found: dict[str, Handler] = {}
    for route in stage.routes:
        name = route.topic.name(settings)
        found[name] = route.handle
        if route.topic.parks:
            found[topics.retry_name(name, stage.name)] = route.handle
    return found


def missing_topics(stage: Stage, settings: Settings) -> list[str]:
    """Topics the stage reads that the broker does not have.

    Raises:
        KafkaException: the broker does not answer.
    """
    return sorted(set(handlers(stage, settings)) - set(kafka.existing_topics(settings)))
