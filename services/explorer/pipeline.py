"""The pipeline behind the KB, as Kafka tells it: what waits before each stage, and dead letters by reason.

Both ask Kafka much, so an answer is kept for some seconds; where Kafka is away the pages say so and show the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from services.common import dead_letter_queue, kafka
from services.common.errors import WorldFault, printable
from services.common.lag import lags
from services.common.settings import Settings
from services.explorer.kept import Answer, Kept

T = TypeVar("T")
_SECONDS = 10.0
_FIRST = "Kafka has not answered yet: look again in some seconds."
#: A broker that does not answer in this time is away: no more is asked of it.
_AWAY_SECONDS = 3.0
#: Newest records of each dead-letter topic that are looked at.
LETTERS_LOOKED_AT = 1000
_MESSAGE_CHARACTERS = 300


class Pipeline:
    """Questions to Kafka."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._flow = Kept(lambda: _asked(self._ask_flow), _SECONDS, _FIRST)
        self._letters = Kept(lambda: _asked(self._ask_letters), _SECONDS, _FIRST)

    async def flow(self) -> Answer[list[dict[str, Any]]]:
        """Records that wait before each stage, upstream first."""
        return await self._flow.get(wait=1.5)

    async def dead_letters(self) -> Answer[list[dict[str, Any]]]:
        """Of the newest dead letters of each reader: how many wait and were replayed, by topic, stage and reason."""
        return await self._letters.get(wait=10.0)

    def _ask_flow(self) -> list[dict[str, Any]]:
        kafka.existing_topics(self._settings, _AWAY_SECONDS)
        return [{"stage": lag.group, "topic": lag.topic, "waiting": lag.records} for lag in lags(self._settings)]

    def _ask_letters(self) -> list[dict[str, Any]]:
        waiting: Counter[tuple[str, str, str]] = Counter()
        replayed: Counter[tuple[str, str, str]] = Counter()
        messages: dict[tuple[str, str, str], tuple[str, str]] = {}
        present = kafka.existing_topics(self._settings, _AWAY_SECONDS)
        for queue in dead_letter_queue.queues(self._settings):
            if queue.name not in present:
                continue
            for letter in dead_letter_queue.newest(self._settings, queue, LETTERS_LOOKED_AT):
                key = (queue.topic.base, queue.group, letter.reason)
                (replayed if letter.replayed else waiting)[key] += 1
                said = printable(letter.facts.message)[:_MESSAGE_CHARACTERS]
                messages[key] = (said, letter.facts.at.ToJsonString())
        return [
            {
                **dict(zip(("topic", "stage", "reason"), key, strict=True)),
                "waiting": waiting[key],
                "replayed": replayed[key],
                "message": messages[key][0],
                "newest": messages[key][1],
            }
            for key in sorted(messages, key=lambda key: (-waiting[key], key))
        ]


async def _asked(ask: Callable[[], T]) -> T:
    """What Kafka answers, in a thread.

    Raises:
        WorldFault: it is away.
    """
    try:
        return await asyncio.to_thread(ask)
    except KafkaException as error:
        raise WorldFault("kafka", f"Kafka: {printable(error.args[0].str())}") from None
