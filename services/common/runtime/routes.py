"""Which topics a stage reads, and what handles their records."""

from __future__ import annotations

from services.common import topics
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


def topics_needed(stage: Stage, settings: Settings) -> dict[str, int]:
    """Topics the stage reads with the number of partitions that each must have; 0 where any will do."""
    shops = {route.topic.name(settings) for route in stage.routes if not route.topic.ours}
    return {name: 0 if name in shops else settings.topic_partitions for name in handlers(stage, settings)}
