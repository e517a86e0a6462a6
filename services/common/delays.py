"""How far a process is behind in each of its partitions: in records, and in seconds."""

from __future__ import annotations

import time

from services.common import metrics

_Place = tuple[str, str]


class Delays:
    """Reports a stage's lag. One thread's own."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        #: The next offset of a partition that is behind, and since when it is that, seconds since the epoch.
        self._since: dict[_Place, tuple[int, float]] = {}

    def report(self, topic: str, partition: int, records: int, next_offset: int, oldest_ms: int | None) -> None:
        """`records` wait from `next_offset` on; the first of them was written at `oldest_ms`, where that is known.

        Where it is not (nothing is held of the partition, or its producer gave no time), the seconds count from when
        that offset was first seen waiting: too few at a start with a backlog, until its first record is held.
        """
        place, now = (topic, str(partition)), time.time()
        waited = 0.0
        if records > 0:
            known, since = self._since.get(place, (-1, now))
            if known != next_offset:
                since = now
            self._since[place] = next_offset, since
            waited = now - (oldest_ms / 1000 if oldest_ms and oldest_ms > 0 else since)
        else:
            self._since.pop(place, None)
        metrics.LAG.labels(self._stage, *place).set(max(0, records))
        metrics.LAG_SECONDS.labels(self._stage, *place).set(max(0.0, waited))

    def forget(self, topic: str, partition: int) -> None:
        """The partition is another's."""
        place = topic, str(partition)
        self._since.pop(place, None)
        metrics.LAG.remove(self._stage, *place)
        metrics.LAG_SECONDS.remove(self._stage, *place)
