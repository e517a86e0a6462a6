"""What a stage is to the runtime: routes from topics to handlers, and a way to commit what they made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.common.records import Output, Record
from services.common.topics import Topic

#: (topic on the wire, partition)
Partition = tuple[str, int]


@dataclass(frozen=True)
class Result:
    """What a handler made of one record: records to write, or rows for the sink's committer."""

    outputs: Sequence[Output] = ()
    rows: Any = None
    #: ok or duplicate; the runtime itself adds dead_letter and parked.
    outcome: str = "ok"
    #: Called once the result is committed: what a handler counts is counted once, however often it is tried.
    count: Callable[[], None] | None = None


#: Event in, result out; raises EventFault, Parked, WorldFault or ServerCrashed (services/common/errors.py).
Handler = Callable[[Record], Awaitable[Result]]


@dataclass(frozen=True)
class Route:
    """Records of `topic` go to `handle`."""

    topic: Topic
    handle: Handler


@dataclass(frozen=True)
class Stage:
    """A consumer group with its routes. `trouble` tells why what the handlers call would not answer now, in one line,
    and nothing where it would: an idle worker must know too (services/common/readiness.py).
    """

    name: str
    routes: Sequence[Route]
    trouble: Callable[[], Awaitable[str]] | None = None
    #: Run in the handlers' event loop before the first record and after the last.
    start: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Finished:
    """A record with its result, ready to commit."""

    record: Record
    result: Result


class Aborted(Exception):
    """A commit did not happen and may be tried again: nothing of it is visible."""


class Fenced(Exception):
    """A newer worker has this slot, or these partitions: this process must stop."""


class Refused(Exception):
    """The topics are not what they must be: going on would lose or reorder records."""


class Committer(Protocol):
    """Makes results and offsets durable in one transaction."""

    def open(self) -> None:
        """Connect; fence an older worker of the same slot."""

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Where to start reading newly assigned partitions; one that is missing starts at Kafka's own offset."""

    def commit(self, batch: Sequence[Finished], offsets: Mapping[Partition, int], consumer: Any) -> None:
        """Make `batch` durable with `offsets` (the next to read per partition).

        Raises:
            Aborted: try again.
            TooLarge: Kafka never takes an output of the batch.
            Fenced: stop.
        """

    def close(self) -> None:
        """Disconnect."""


@dataclass
class Health:
    """What the health endpoints tell; written by the worker, read by the HTTP threads."""

    started: bool = False
    assigned: bool = False
    answering: bool = True
    last_poll: float = 0.0
    #: Why it is not answering, where that is known; one line.
    trouble: str = ""
