"""The in-order window: records held per partition until everything before them is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from services.common.records import Record
from services.common.runtime.stage import Partition, Result


@dataclass(slots=True, eq=False)
class Entry:
    """A record in the window. `result` is set once, by the handlers' thread; `dropped` once, by Kafka's."""

    record: Record
    size: int
    result: Result | None = None
    dropped: bool = False
    #: Of the span in which it was handled; empty where nothing is traced.
    traceparent: str = ""

    @property
    def partition(self) -> Partition:
        """Where the record was read."""
        return self.record.topic, self.record.partition


class Window:
    """Bounded in records and bytes over all partitions of the worker.

    One record over the limits is let in when the window is empty, so that no record can block for ever.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._entries: dict[Partition, deque[Entry]] = {}
        self.records = 0
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether intake must stop."""
        return self.records >= self._max_records or self.bytes >= self._max_bytes

    @property
    def roomy(self) -> bool:
        """Whether intake may go on after having stopped: a quarter of the window is free again."""
        return self.records <= self._max_records * 3 // 4 and self.bytes <= self._max_bytes * 3 // 4

    @property
    def room(self) -> int:
        """Records that still fit."""
        return max(0, self._max_records - self.records)

    def add(self, record: Record) -> Entry:
        """Hold a record; records of a partition must come in offset order."""
        entry = Entry(record, len(record.value) + record.envelope_bytes + 200)
        self._entries.setdefault(entry.partition, deque()).append(entry)
        self.records += 1
        self.bytes += entry.size
        return entry

    def finished(self, limit: int) -> list[Entry]:
        """The finished prefix of every partition, at most `limit` in all; they stay until `remove`."""
        found: list[Entry] = []
        for entries in self._entries.values():
            for entry in islice(entries, limit - len(found)):
                if entry.result is None:
                    break
                found.append(entry)
        return found

    def remove(self, entries: Iterable[Entry]) -> None:
        """Let go of what `finished` gave, after its commit."""
        for entry in entries:
            held = self._entries.get(entry.partition)
            if held and held[0] is entry:
                held.popleft()
                self._forget(entry)

    def drop(self, partition: Partition) -> None:
        """Let go of a partition that is no longer ours, finished or not."""
        for entry in self._entries.pop(partition, ()):
            entry.dropped = True
            self._forget(entry)

    def count(self, partition: Partition) -> int:
        """Records of the partition that are held."""
        return len(self._entries.get(partition, ()))

    def oldest_ms(self, partition: Partition) -> int | None:
        """When the first record that is held of a partition was written, milliseconds since the epoch."""
        entries = self._entries.get(partition)
        return entries[0].record.timestamp_ms if entries else None

    @property
    def unfinished(self) -> int:
        """Records with no result yet."""
        return sum(entry.result is None for entries in self._entries.values() for entry in entries)

    def _forget(self, entry: Entry) -> None:
        self.records -= 1
        self.bytes -= entry.size
