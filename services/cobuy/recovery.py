"""Faust's table recovery, with one gap of 0.15.3 closed.

When the tables are restored, Faust lets the streams' partitions be fetched, then seeks them to their committed offsets
one by one, then resumes flow control, which empties the streams' queues. What was fetched in between is gone: it is
neither processed nor acknowledged, and since acknowledgements must be without gaps, no offset of that partition is
committed until the next rebalance. Measured here: one start in four lost a partition's first records so. Fetching is
therefore held until Faust resumes it itself, after the seek.
"""

from __future__ import annotations

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


class _HeldRecovery(Recovery):
    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        await super().on_recovery_completed(generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        self.app.consumer.stop_flow()
        await super()._resume_streams(generation_id)


class HeldTableManager(TableManager):
    """Faust's table manager with that recovery."""

    @property
    def recovery(self) -> Recovery:
        """Recovery service used by this table manager."""
        if self._recovery is None:
            self._recovery = _HeldRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
