"""How often a pair was completed, counting each order once. Pure: no Kafka, no clock."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Support:
    """The count of a pair. Times in seconds since the epoch."""

    count: int = 0
    first_seen: float = 0.0
    last_seen: float = 0.0
    #: Hashes of the newest orders counted, oldest first.
    recent: list[str] = field(default_factory=list)
    crossed: bool = False

    def counted(self, order_id: str, at: float, remember: int) -> Support | None:
        """The count with this order in it; None when it was counted before."""
        order = hashlib.sha256(order_id.encode()).hexdigest()[:16]
        if order in self.recent:
            return None
        return Support(
            self.count + 1,
            min(self.first_seen, at) if self.count else at,
            max(self.last_seen, at) if self.count else at,
            [*self.recent, order][-remember:],
            self.crossed,
        )

    def crosses(self, minimum: int) -> bool:
        """Whether this count is the first to reach the minimum."""
        return not self.crossed and self.count >= minimum

    def dump(self) -> dict[str, Any]:
        """As JSON for the table."""
        return asdict(self)
