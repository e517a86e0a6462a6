"""What is fetched next, of three topics that feed one another.

Faust takes all that its client holds of every topic and works it off before it looks again. An order makes several pair
occurrences: under load each such batch begot a larger one, `purchases` stood still for minutes, and after the 300
seconds that a group may take between two polls the worker was put out of it for good. Here a batch is small and of one
topic, the one furthest downstream that has any: what waits, waits in `purchases`, and not in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.cobuy.recovery import RestingConsumer, RestingTransport

#: As Kafka's own consumer has it (max.poll.records).
BATCH_RECORDS = 500


class DownstreamFirstConsumer(RestingConsumer):
    """Faust's consumer, which takes from the topic furthest downstream."""

    async def _getmany(self, active_partitions: set[Any] | None, timeout: float) -> Any:
        active = active_partitions or set()
        order: Sequence[str] = self.transport.downstream_first  # type: ignore[attr-defined]
        for topic in order:
            partitions = {tp for tp in active if tp.topic == topic}
            if partitions and (found := await super()._getmany(partitions, 0.0)):
                return found
        return await super()._getmany(active_partitions, timeout)


class DownstreamFirstTransport(RestingTransport):
    """Faust's Kafka transport with that consumer."""

    Consumer = DownstreamFirstConsumer
    #: Names of topics on the wire.
    downstream_first: Sequence[str] = ()
