"""Kafka in memory, for interleavings that a real broker cannot be made to show: one thread, and a fault at any call.

It keeps what the promises rest on, as Apache Kafka 4 and librdkafka have it: a transaction's records and offsets become
visible together or not at all; markers take offsets of their own; readers of committed records stop at the first open
transaction; who registers a transactional id fences its older producers; offsets are taken from members of the
current generation, of whatever partition; a partition is given away when its owner has let go of it, or was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

Partition = tuple[str, int]


@dataclass(eq=False)
class Transaction:
    """Its state is that of all its records and offsets."""

    state: str = "open"
    partitions: set[Partition] = field(default_factory=set)
    offsets: dict[Partition, int] = field(default_factory=dict)


@dataclass
class Stored:
    """One offset of a partition: a record, or (without a value) a transaction's marker."""

    transaction: Transaction
    value: bytes | None = None
    key: bytes = b""
    headers: Sequence[tuple[str, bytes]] = ()


class Broker:
    """The log, the transaction coordinator, and one consumer group."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self.log: dict[Partition, list[Stored]] = {(t, p): [] for t, count in partitions.items() for p in range(count)}
        self.committed: dict[Partition, int] = {}
        self.group = Group(self)
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    def stable_end(self, partition: Partition) -> int:
        """Where readers of committed records stop."""
        log = self.log[partition]
        return next((o for o, stored in enumerate(log) if stored.transaction.state == "open"), len(log))

    def records(self, partition: Partition, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Stored]]:
        """Committed records of these offsets, also those that an open transaction before them still hides."""
        for offset, stored in enumerate(self.log[partition][start:end], start):
            if stored.value is not None and stored.transaction.state == "committed":
                yield offset, stored

    def offset_is_stable(self, partition: Partition) -> bool:
        """Whether no open transaction is about to move the group's offset (UNSTABLE_OFFSET_COMMIT)."""
        return not any(partition in transaction.offsets for transaction in self._open.values())

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, partition: Partition, stored: Stored) -> None:
        """Write a record under its transaction."""
        stored.transaction.partitions.add(partition)
        self.log[partition].append(stored)

    def end(self, transaction: Transaction, state: str) -> None:
        """Commit or abort: one instant for all of it, then the markers."""
        transaction.state = state
        for partition in sorted(transaction.partitions):
            self.log[partition].append(Stored(transaction))
        if state == "committed":
            self.committed.update(transaction.offsets)

    def register(self, name: str) -> int:
        """A new epoch of a transactional id; what an older one has open is aborted."""
        if name in self._open:
            self.end(self._open.pop(name), "aborted")
        self._epochs[name] = self._epochs.get(name, 0) + 1
        return self._epochs[name]

    def expire(self) -> None:
        """Transactions were open for too long: they are aborted, and their producers fenced."""
        for name in list(self._open):
            self.register(name)

    def live(self, name: str, epoch: int) -> None:
        """Raise what librdkafka says to a fenced producer."""
        if self._epochs[name] != epoch:
            raise KafkaException(KafkaError(KafkaError._FENCED, "a newer producer", fatal=True))

    def current(self, name: str) -> Transaction:
        """The open transaction of a transactional id, begun with its first record or offset."""
        return self._open.setdefault(name, Transaction())

    def finish(self, name: str, state: str) -> None:
        """End the open transaction of a transactional id, where there is one."""
        if name in self._open:
            self.end(self._open.pop(name), state)


class Group:
    """The group coordinator with cooperative assignment."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.generation = 0
        self._names = 0
        self.members: dict[str, set[Partition]] = {}
        self.assigned: dict[str, set[Partition]] = {}
        self.topics: set[str] = set()

    def join(self, topics: Sequence[str]) -> str:
        """A new member."""
        self._names += 1
        self.topics.update(topics)
        name = f"member-{self._names}"
        self.members[name] = set()
        self.rebalance()
        return name

    def remove(self, name: str) -> None:
        """The member left, or was silent for too long: its partitions are free."""
        if self.members.pop(name, None) is not None:
            self.rebalance()

    def rebalance(self) -> None:
        """A new generation: everyone keeps a fair share of what is his, and gets what is free."""
        self.generation += 1
        wanted = sorted(p for p in self._broker.log if p[0] in self.topics)
        share = -(-len(wanted) // max(1, len(self.members)))
        free = [p for p in wanted if not any(p in owned for owned in self.members.values())]
        self.assigned = {name: set(sorted(owned)[:share]) for name, owned in self.members.items()}
        for partition in free:
            poorest = min(self.assigned, key=lambda name: (len(self.assigned[name]), name), default=None)
            if poorest is not None:
                self.assigned[poorest].add(partition)


class MemoryConsumer:
    """librdkafka's consumer, as far as the worker uses it."""

    def __init__(self, broker: Broker, wait: Callable[[float], None]) -> None:
        self._broker, self._group, self._wait = broker, broker.group, wait
        self.member = ""
        self._generation = -1
        self._positions: dict[Partition, int | None] = {}
        self._paused: set[Partition] = set()
        self._at_end: set[Partition] = set()

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._topics, self._on_assign, self._on_revoke, self._on_lost = topics, on_assign, on_revoke, on_lost
        self.member = self._group.join(topics)

    def consume(self, count: int, timeout: float) -> list[Message]:
        self._serve()
        found: list[Message] = []
        for partition in sorted(set(self._positions) - self._paused):
            found += self._fetch(partition, count - len(found))
        if not found:
            self._wait(timeout)
        return found

    def _fetch(self, partition: Partition, count: int) -> Iterator[Message]:
        position = self._positions[partition]
        if position is None:
            if not self._broker.offset_is_stable(partition):
                return
            position = self._broker.committed.get(partition, 0)
        for offset, stored in self._broker.records(partition, position, self._broker.stable_end(partition)):
            if count <= 0:
                self._positions[partition] = position
                return
            count, position = count - 1, offset + 1
            self._at_end.discard(partition)
            yield Message(partition[0], partition[1], offset, stored.key, stored.value, list(stored.headers))
        end = max(position, self._broker.stable_end(partition))
        if end > position or partition not in self._at_end:
            self._at_end.add(partition)
            error = KafkaError(KafkaError._PARTITION_EOF, "end")
            yield Message(partition[0], partition[1], end, error=error)
        self._positions[partition] = end

    def _serve(self) -> None:
        """Callbacks that are due, as a poll calls them."""
        if self.member not in self._group.members:
            lost = self._held()
            self._on_lost(self, lost)
            self.incremental_unassign(lost)
            self.member = self._group.join(self._topics)
        if self._generation == self._group.generation:
            return
        while self.member in self._group.members and self._generation != self._group.generation:
            self._generation = self._group.generation
            assigned = self._group.assigned[self.member]
            revoked = [p for p in self._held() if (p.topic, p.partition) not in assigned]
            if revoked:
                self._on_revoke(self, revoked)
                self.incremental_unassign(revoked)
                if self.member in self._group.members:
                    self._group.members[self.member] -= {(p.topic, p.partition) for p in revoked}
                    self._group.rebalance()
                continue
            added = assigned - set(self._positions)
            self._group.members[self.member] |= added
            self._on_assign(self, [TopicPartition(topic, partition) for topic, partition in sorted(added)])

    def _held(self) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for topic, partition in sorted(self._positions)]

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for p in partitions:
            self._positions[p.topic, p.partition] = p.offset if p.offset >= 0 else None

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """A partition's pause outlives its assignment: it is still paused when it comes again."""
        for p in partitions:
            self._positions.pop((p.topic, p.partition), None)
            self._at_end.discard((p.topic, p.partition))

    def pause(self, partitions: list[TopicPartition]) -> None:
        assert {(p.topic, p.partition) for p in partitions} <= set(self._positions), "librdkafka: unknown partition"
        self._paused |= {(p.topic, p.partition) for p in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        assert {(p.topic, p.partition) for p in partitions} <= set(self._positions), "librdkafka: unknown partition"
        self._paused -= {(p.topic, p.partition) for p in partitions}

    def seek(self, place: TopicPartition) -> None:
        assert (place.topic, place.partition) in self._positions, "librdkafka: erroneous state"
        self._positions[place.topic, place.partition] = place.offset
        self._at_end.discard((place.topic, place.partition))

    def consumer_group_metadata(self) -> tuple[str, int]:
        """librdkafka's own thread keeps up with the group, whether or not the application has polled."""
        return self.member, self._group.generation

    def get_watermark_offsets(self, place: TopicPartition, cached: bool = False) -> tuple[int, int]:
        return 0, len(self._broker.log[place.topic, place.partition])

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(p.topic, p.partition, self._broker.committed.get((p.topic, p.partition), -1001))
            for p in places
        ]

    def close(self) -> None:
        try:
            if self.member in self._group.members:
                self._on_revoke(self, self._held())
            else:
                self._on_lost(self, self._held())
        finally:
            self._positions.clear()
            self._group.remove(self.member)


#: Called with the name of each call of a producer before it: what it raises is raised, what it returns is called after.
Fault = Callable[[str], Callable[[], None] | None]


class MemoryProducer:
    """librdkafka's transactional producer, as far as the committer uses it."""

    def __init__(self, broker: Broker, name: str, fault: Fault, partition_of: Callable[[str, bytes], int]) -> None:
        self._broker, self._name, self._fault, self._partition_of = broker, name, fault, partition_of
        self._epoch = 0

    def _call(self, what: str, do: Callable[[], None]) -> None:
        after = self._fault(what)
        do()
        if after:
            after()

    def init_transactions(self, timeout: float) -> None:
        self._epoch = self._broker.register(self._name)

    def begin_transaction(self) -> None:
        self._call("begin", lambda: self._broker.live(self._name, self._epoch))

    def produce(self, topic: str, value: bytes, key: bytes, headers: Any = (), on_delivery: Any = None) -> None:
        def write() -> None:
            self._broker.live(self._name, self._epoch)
            stored = Stored(self._broker.current(self._name), value, key, headers)
            self._broker.append((topic, self._partition_of(topic, key)), stored)

        self._call("produce", write)

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], metadata: tuple[str, int], timeout: float
    ) -> None:
        def send() -> None:
            self._broker.live(self._name, self._epoch)
            member, generation = metadata
            if member not in self._broker.group.members or generation != self._broker.group.generation:
                code = KafkaError.UNKNOWN_MEMBER_ID
                raise KafkaException(KafkaError(code, "not of this generation", txn_requires_abort=True))
            self._broker.current(self._name).offsets.update({(p.topic, p.partition): p.offset for p in positions})

        self._call("offsets", send)

    def commit_transaction(self, timeout: float) -> None:
        def commit() -> None:
            self._broker.live(self._name, self._epoch)
            self._broker.finish(self._name, "committed")

        self._call("commit", commit)

    def abort_transaction(self, timeout: float) -> None:
        self._broker.live(self._name, self._epoch)
        self._broker.finish(self._name, "aborted")

    def poll(self, timeout: float) -> None: ...
