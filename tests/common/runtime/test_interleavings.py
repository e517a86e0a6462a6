"""The worker under any interleaving of polls, answers, rebalances, kills, fencing and failing calls of Kafka.

The worker, its window, its dispatcher and its committer are the real ones; Kafka is in memory (memory.py), so that a
fault can strike between any two calls. The promise, looked at after every step: what is committed of a partition is
the outcome of exactly the records below its committed offset, each once and in order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import NoReturn
from unittest import mock

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.dead_letters import read
from services.common.records import Record
from services.common.runtime import dispatch, transactions, worker
from tests.common.runtime.memory import Broker, Partition, Stored, Transaction
from tests.common.runtime.processes import DLQ, FROM, IN, OUT, RETRY, Clock, Killed, Process


class Interleavings(RuleBasedStateMachine):
    @initialize(partitions=st.integers(1, 3))
    def begin(self, partitions: int) -> None:
        self.broker = Broker({IN: partitions, RETRY: partitions, OUT: partitions, DLQ: 1})
        self.clock = Clock()
        self._patches = [mock.patch.object(module, "time", self.clock) for module in (worker, dispatch, transactions)]
        for patch in self._patches:
            patch.start()
        self.partitions, self.sent = partitions, Counter[int]()
        self.alive: list[Process] = []
        self._running: set[Process] = set()
        #: Members of processes that are gone, which Kafka finds out by their silence.
        self.silent: list[str] = []

    # -- the world ----------------------------------------------------------------------------------------------------

    @rule(
        partition=st.integers(0, 2),
        modes=st.lists(st.sampled_from(["ok", "ok", "poison", "park", "park"]), min_size=1, max_size=5),
        state=st.sampled_from(["committed", "committed", "aborted"]),
    )
    def send(self, partition: int, modes: list[str], state: str) -> None:
        place, transaction = (IN, partition % self.partitions), Transaction()
        for mode in modes:
            number = sum(self.sent.values()) + 10**6 * (state == "aborted")
            value = json.dumps({"n": number, "mode": mode}).encode()
            self.broker.append(place, Stored(transaction, value, str(place[1]).encode()))
            if state == "committed":
                self.sent[number] += 1
        self.broker.end(transaction, state)

    @precondition(lambda self: len(self.alive) < 3)
    @rule(slot=st.sampled_from("01"))
    def start(self, slot: str) -> None:
        self.alive.append(Process(self.broker, self.clock, slot))

    # -- the workers --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2), call=st.none() | st.integers(0, 5), times=st.integers(1, 3))
    def step(self, which: int, call: int | None, times: int) -> None:
        """The model answers a worker, and the worker's loop goes round."""
        process = self.alive[which % len(self.alive)]
        process.answer(call)
        for _ in range(times):
            self._run(process, Process.step)

    @precondition(lambda self: self.alive)
    @rule(rounds=st.integers(1, 3), answered=st.booleans())
    def everybody_steps(self, rounds: int, answered: bool) -> None:
        for process in [one for one in self.alive for _ in range(rounds)]:
            self._run(process, Process.step)
            if answered and process in self.alive:
                process.answer()

    @precondition(lambda self: self.alive)
    @rule(
        which=st.integers(0, 2),
        what=st.sampled_from(["kill", "stop", "silence", "silence", "expire", "miss the silent", "a while", "longer"]),
    )
    def strike(self, which: int, what: str) -> None:
        """Something happens between two polls."""
        process = self.alive[which % len(self.alive)]
        match what:
            case "kill":
                self._gone(process)
            case "stop":
                self._run(process, Process.drain)
            case "silence":  # It was not heard of for too long, and does not know.
                self.broker.group.remove(process.consumer.member)
            case "expire":
                self.broker.expire()
            case "miss the silent":
                self._miss_the_silent()
            case "a while":
                self.clock.pass_by(1.0)
            case "longer":
                self.clock.pass_by(5.0)

    @precondition(lambda self: self.alive)
    @rule(
        which=st.integers(0, 2),
        calls=st.sampled_from([("begin",), ("produce",), ("offsets",), ("commit",)]),
        well=st.integers(0, 2),
        what=st.sampled_from(["kill", "kill after", "silence", "expire", "replace", "others go on"]),
    )
    def strike_a_commit(self, which: int, calls: tuple[str, ...], well: int, what: str) -> None:
        """Something happens in the midst of a commit, at one of the producer's next calls."""
        process = self.alive[which % len(self.alive)]
        process.fault = (well, calls, lambda: self._happens(process, what))

    @precondition(lambda self: self.alive)
    @rule(
        which=st.integers(0, 2),
        call=st.sampled_from(["offsets", "commit"]),
        code=st.sampled_from([KafkaError._TIMED_OUT, KafkaError._STATE]),
        after=st.booleans(),
    )
    def fail_a_commit(self, which: int, call: str, code: int, after: bool) -> None:
        """Kafka does not answer, before it has done what was asked or after; or the transaction must be aborted."""
        late = after and code == KafkaError._TIMED_OUT
        error = KafkaException(KafkaError(code, "failed", retriable=code == KafkaError._TIMED_OUT))

        def fails() -> Callable[[], None] | None:
            return (lambda: _raise(error)) if late else _raise(error)

        self.alive[which % len(self.alive)].fault = (0, (call,), fails)

    def _happens(self, process: Process, what: str) -> Callable[[], None] | None:
        match what:
            case "kill":
                raise Killed
            case "kill after":
                return lambda: _raise(Killed())
            case "silence":
                self.broker.group.remove(process.consumer.member)
            case "expire":
                self.broker.expire()
            case "replace":
                self.alive.append(Process(self.broker, self.clock, process.slot))
        self._others_go_on(process)
        return None

    def _others_go_on(self, process: Process) -> None:
        for _ in range(3):
            for other in [one for one in self.alive if one is not process]:
                self._run(other, Process.step)
                if other in self.alive:
                    other.answer()

    def _run(self, process: Process, do: Callable[[Process], bool]) -> None:
        """Let a worker do something, unless it is in the midst of something; it is gone when that is False."""
        if process in self._running or process not in self.alive:
            return
        self.clock.now += 0.02
        self._running.add(process)
        try:
            if not do(process):
                self.alive.remove(process)
        except Killed:
            self._gone(process)
        finally:
            self._running.discard(process)

    def _gone(self, process: Process) -> None:
        self.alive.remove(process)
        self.silent.append(process.consumer.member)
        process.kill()

    def _miss_the_silent(self) -> None:
        while self.silent:
            self.broker.group.remove(self.silent.pop())

    # -- the promise --------------------------------------------------------------------------------------------------

    @invariant()
    def exactly_what_is_below_the_committed_offset_is_out_once_and_in_order(self) -> None:
        if not hasattr(self, "broker"):
            return
        out: dict[tuple[str, Partition], list[int]] = {}
        for topic in (OUT, RETRY, DLQ):
            for place in (p for p in self.broker.log if p[0] == topic):
                for _, stored in self.broker.records(place):
                    out.setdefault((topic, _came_from(topic, stored)), []).append(json.loads(stored.value or b"")["n"])
        for place in (p for p in self.broker.log if p[0] in (IN, RETRY)):
            end = self.broker.committed.get(place, 0)
            done = [json.loads(stored.value or b"") for _, stored in self.broker.records(place, 0, end)]
            expected: dict[str, list[int]] = {OUT: [], RETRY: [], DLQ: []}
            for event in done:
                kind = event["mode"] if place[0] == IN else "ok"
                expected[{"ok": OUT, "park": RETRY, "poison": DLQ}[kind]].append(event["n"])
            for topic, numbers in expected.items():
                assert out.pop((topic, place), []) == numbers
        assert not out

    def teardown(self) -> None:
        if not hasattr(self, "broker"):
            return
        try:
            self._finish()
        finally:
            for process in self.alive:
                process.kill()
            for patch in self._patches:
                patch.stop()

    def _finish(self) -> None:
        """When nothing fails any more, everything comes out."""
        for process in self.alive:
            process.fault = None
        self.broker.expire()
        self._miss_the_silent()
        for _ in range(200):
            if not self.alive:
                self.alive.append(Process(self.broker, self.clock, "0"))
            for process in list(self.alive):
                self._run(process, Process.step)
                if process in self.alive:
                    process.answer()
            self.clock.now += 0.5
            if all(
                self.broker.committed.get(p, 0) >= len(self.broker.log[p])
                for p in self.broker.log
                if p[0] in (IN, RETRY)
            ):
                break
        else:
            pytest.fail(f"stuck: {self.broker.committed}")
        self.exactly_what_is_below_the_committed_offset_is_out_once_and_in_order()
        came = Counter(
            json.loads(stored.value or b"")["n"]
            for place in self.broker.log
            if place[0] in (OUT, DLQ)
            for _, stored in self.broker.records(place)
        )
        assert came == self.sent


def _came_from(topic: str, stored: Stored) -> Partition:
    """Where the record stood that a stage made this of."""
    if topic == OUT:
        name, partition, _ = dict(stored.headers)[FROM].decode().split("/")
        return name, int(partition)
    if topic == DLQ:
        facts = read(Record(topic, 0, 0, stored.key, stored.value or b"", list(stored.headers)))
        return facts.topic, facts.partition
    return IN, int(stored.key)


def _raise(error: BaseException) -> NoReturn:
    raise error


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
