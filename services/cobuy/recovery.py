"""Faust's way from restored tables back to its streams, with the gaps of 0.15.3 closed.

After a rebalance Faust seeks the streams' partitions to their committed offsets and empties the streams' queues. Three
things go wrong there, each seen in restarts after kill -9, one start in four in all:

- It lets the partitions be fetched before it seeks, so records reach the queues just to be emptied out of them.
- A fetch still under way notes the offset that it had read after the seek has set it back; what is fetched again is
  then dropped as known.
- It seeks only partitions that have a committed offset. A partition without one goes on behind the emptied records.

A record that went so is neither processed nor acknowledged, and its partition's offset stands still until the next
start, or moves past it. Here the fetching comes to rest first, and then every partition is sought back, without
exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, cast

from aiokafka.errors import IllegalStateError  # type: ignore[import-untyped]
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import Consumer, Transport


class RestingConsumer(Consumer):
    """Faust's consumer, which can be waited for to rest and seeks every partition of the streams."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resting = asyncio.Event()
        self.resting.set()
        #: When the last fetch came back, with records or without; monotonic.
        self.fetched_at = time.monotonic()

    def behind(self) -> dict[Any, tuple[int, int]]:
        """By partition of the streams, the committed offset and the records from there to the end, where known."""
        found = {}
        for tp in self.assignment():
            # The fetching thread may be giving the partition away meanwhile.
            with contextlib.suppress(AssertionError, AttributeError):
                end = self.highwater(tp)
                if end is not None and not self._is_changelog_tp(tp):
                    committed = self._committed_offset[tp] or 0
                    found[tp] = committed, max(0, end - committed)
        return found

    async def read_to(self, tp: Any) -> int:
        """The next offset to fetch of a partition; 0 where it is not known."""
        try:
            return await self.position(tp) or 0
        except IllegalStateError:  # Given away meanwhile.
            return 0

    async def rest(self) -> None:
        """Stop the flow and wait until no fetched record is on its way to a stream."""
        self.stop_flow()
        await self.resting.wait()

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await super()._drain_messages(fetcher)
        finally:
            self.resting.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.flow_active:
            self.resting.set()
            await self.wait(cast(Any, self.can_resume_flow))
        self.resting.clear()
        self.fetched_at = time.monotonic()
        try:
            return await super()._wait_next_records(timeout)
        finally:
            self.fetched_at = time.monotonic()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, and where there is none to the earliest; forget what was acknowledged."""
        await super().perform_seek()
        streams = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        uncommitted = {tp for tp in streams if not self._committed_offset[tp]}
        if uncommitted:
            await self.seek_wait(await self.earliest_offsets(*uncommitted))
        for tp in streams:
            for known in (self._acked, self._acked_index, self._gap):
                cast(dict[Any, Any], known).pop(tp, None)


class RestingTransport(Transport):
    """Faust's Kafka transport with that consumer."""

    Consumer = RestingConsumer


class _RestingRecovery(Recovery):
    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        await self._rest()
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        await self._rest()
        await super()._resume_streams(generation_id)

    async def _rest(self) -> None:
        await cast(RestingConsumer, self.app.consumer).rest()


class RestingTableManager(TableManager):
    """Faust's table manager with that recovery."""

    @property
    def recovery(self) -> Recovery:
        """Recovery service used by this table manager."""
        if self._recovery is None:
            self._recovery = _RestingRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
