"""The runtime's promises on the real broker: nothing lost, nothing twice, whatever is killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from services.common import dead_letters, kafka, metrics, topics
from services.common.errors import WorldFault
from services.common.records import Output, Record
from services.common.runtime.stage import Aborted, Fenced, Finished, Result
from services.common.runtime.transactions import KafkaCommitter
from services.common.runtime.worker import Worker
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.model import Model, serve
from tests.common.runtime.program import stage

pytestmark = pytest.mark.integration


def numbered(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"n": n} for n in range(start, start + count)]


def test_everything_comes_through_once_and_in_order(bench: Bench) -> None:
    bench.send(*({"n": n, "k": n % 10} for n in range(2000)))
    with bench.worker():
        wait_for(lambda: bench.committed() >= 2000, "2000 committed")
    assert bench.numbers() == list(range(2000))
    by_key: dict[bytes | None, list[int]] = defaultdict(list)
    for record in bench.read("cobuys.featured"):
        by_key[record.key].append(json.loads(record.value)["n"])
    assert all(ns == sorted(ns) for ns in by_key.values())


def test_kill_9_in_the_middle_loses_nothing_and_doubles_nothing(bench: Bench) -> None:
    bench.model.delay = 0.01
    bench.send(*numbered(3000))
    workers = {slot: bench.process(slot) for slot in ("0", "1")}
    try:
        for round_ in range(4):
            before = bench.committed()
            wait_for(lambda before=before: bench.committed() > before, f"progress before kill {round_}")  # type: ignore[misc]
            slot = str(round_ % 2)
            workers[slot].kill()
            workers[slot].wait()
            workers[slot] = bench.process(slot)
        wait_for(lambda: bench.committed() >= 3000, "all committed", 150)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    assert bench.numbers() == list(range(3000))


def test_a_zombie_is_fenced_after_its_session_is_over(bench: Bench) -> None:
    bench.model.gate.clear()
    bench.send(*numbered(200))
    zombie = bench.process("0")
    try:
        wait_for(lambda: len(bench.model.calls) > 0, "the first worker calls")
        zombie.send_signal(signal.SIGSTOP)
        bench.model.gate.set()
        with bench.worker("1"):
            wait_for(lambda: bench.committed() >= 200, "the second worker takes over")
            zombie.send_signal(signal.SIGCONT)
            bench.send(*numbered(200, 200))
            wait_for(lambda: bench.committed() >= 400, "both go on")
            zombie.terminate()
            zombie.wait(60)
    finally:
        zombie.kill()
        zombie.wait()
    assert bench.numbers() == list(range(400))


def test_rebalances_during_calls(bench: Bench) -> None:
    bench.model.delay = 0.02
    sent = 0
    with bench.worker("0"):
        for slot in ("1", "2", "3"):
            bench.send(*numbered(500, sent))
            sent += 500
            with bench.worker(slot) as other:
                wait_for(lambda other=other: other.health.assigned, "the new worker is assigned")  # type: ignore[misc]
        wait_for(lambda: bench.committed() >= sent, "all committed")
    assert bench.numbers() == list(range(sent))


def test_a_model_server_that_is_away_is_waited_for(bench: Bench) -> None:
    bench.server.stop(0).wait()  # type: ignore[attr-defined]
    bench.send(*numbered(50))
    with bench.worker() as worker:
        wait_for(lambda: worker.health.assigned and not worker.health.answering, "not ready")
        assert bench.numbers() == []
        server, _ = serve(Model(), bench.target)
        wait_for(lambda: bench.committed() >= 50, "all committed")
        server.stop(0)
    assert bench.numbers() == list(range(50))
    assert bench.read("cobuys.extractor.dlq") == []


def test_an_idle_worker_knows_whether_the_model_serves(bench: Bench) -> None:
    bench.server.stop(0).wait()  # type: ignore[attr-defined]
    with bench.worker() as worker:
        wait_for(lambda: worker.health.assigned and not worker.health.answering, "not ready")
        server, _ = serve(Model(), bench.target)
        wait_for(lambda: worker.health.answering, "ready")
        server.stop(0).wait()
        wait_for(lambda: not worker.health.answering, "not ready again")


def test_a_worker_whose_commits_fail_is_not_ready_until_one_succeeds(bench: Bench) -> None:
    away, tries = threading.Event(), []
    away.set()

    class Away(KafkaCommitter):
        def commit(self, *arguments: Any) -> None:
            tries.append(worker.health.answering)
            if away.is_set():
                raise WorldFault("database", "away")
            super().commit(*arguments)

    settings = bench.settings()
    worker = Worker(stage(settings), settings, Away(settings, "extractor", lambda: True))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_for(lambda: worker.health.answering, "ready")
        bench.send({"n": 1})
        wait_for(lambda: len(tries) >= 4, "commits tried again")
        assert tries[1:] == [False] * len(tries[1:])
        away.clear()
        wait_for(lambda: worker.health.answering, "ready again")
        assert bench.numbers() == [1]
    finally:
        worker.stop()
        thread.join(60)


def test_lag_is_told_before_the_first_commit_and_not_of_others_partitions(bench: Bench) -> None:
    bench.model.gate.clear()
    bench.send(*numbered(40))

    def told() -> dict[str, float]:
        samples = [sample for family in metrics.LAG.collect() for sample in family.samples]
        ours = [s for s in samples if s.labels["topic"] == bench.prefix + "cobuys"]
        return {s.labels["partition"]: s.value for s in ours}

    with bench.worker():
        wait_for(lambda: sum(told().values()) >= 40, "lag of what is not committed")
        bench.model.gate.set()
        wait_for(lambda: sum(told().values()) == 0, "no lag", 120)
    assert told() == {}


def test_poison_is_set_aside_and_its_neighbours_pass(bench: Bench) -> None:
    events: list[dict[str, object]] = numbered(30)
    events[3]["mode"] = events[17]["mode"] = "poison"
    bench.send(*events)
    with bench.worker():
        wait_for(lambda: bench.committed() >= 30, "all committed")
    assert bench.numbers() == [n for n in range(30) if n not in (3, 17)]
    letters = bench.read("cobuys.extractor.dlq")
    assert sorted(json.loads(r.value)["n"] for r in letters) == [3, 17]
    facts = dead_letters.read(letters[0])
    assert (facts.group, facts.message, facts.attempts) == ("extractor", "poison", 1)
    assert facts.topic == bench.prefix + "cobuys"


def test_bytes_over_the_limit_and_a_bug_in_the_handler_are_dead_letters(bench: Bench) -> None:
    bench.overrides["MINDSTREAM_EVENT_MAX_BYTES"] = "2048"
    bench.send({"n": 1, "pad": "x" * 4000}, {"n": 2})
    producer = kafka.plain_producer(bench.settings())
    producer.produce(bench.prefix + "cobuys", b"not json", b"k")
    producer.flush()
    with bench.worker():
        wait_for(lambda: bench.committed() >= 3, "all committed")
    labels = sorted(r.text_header("mindstream-dlq-reason") for r in bench.read("cobuys.extractor.dlq"))
    assert labels == ["internal", "too_large"]
    assert bench.numbers() == [2]


def test_a_parked_record_is_tried_again_and_then_set_aside(bench: Bench) -> None:
    bench.overrides.update({"MINDSTREAM_PARK_SECONDS": "0.3", "MINDSTREAM_PARK_GRACE_SECONDS": "0.9"})
    bench.send({"n": 1, "mode": "park"}, *numbered(10, 2))
    with bench.worker():
        wait_for(lambda: bench.numbers() == list(range(2, 12)), "neighbours pass")
        wait_for(lambda: len(bench.read("cobuys.extractor.dlq")) == 1, "set aside after the grace")
    assert len(bench.read("cobuys.extractor.retry")) >= 2
    letter = dead_letters.read(bench.read("cobuys.extractor.dlq")[0])
    assert (letter.topic, letter.message) == (bench.prefix + "cobuys", "unknown product")


def test_an_event_that_kills_the_model_server_is_isolated(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bench.target = f"127.0.0.1:{probe.getsockname()[1]}"
    stopping: list[bool] = []
    events: list[dict[str, object]] = numbered(40)
    events[11]["mode"] = "crash"

    def server() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.common.runtime.model", bench.target])

    running = [server()]

    def done() -> bool:
        if running[-1].poll() is not None and not stopping:
            running.append(server())
        return bench.committed() >= 40

    bench.send(*events)
    try:
        with bench.worker():
            wait_for(done, "all committed", 120)
        crashes = sum(process.poll() is not None for process in running)
    finally:
        running[-1].kill()
        running[-1].wait()
    assert bench.numbers() == [n for n in range(40) if n != 11]
    (letter,) = bench.read("cobuys.extractor.dlq")
    assert letter.text_header("mindstream-dlq-reason") == "model_crash"
    # Once in company (again, if the death came before the sign that it was being computed), then three times alone.
    assert 1 + 3 <= crashes <= 1 + 5


def test_sigterm_drains_and_leaves_no_result_behind(bench: Bench) -> None:
    bench.model.delay = 0.05
    bench.send(*numbered(400))
    worker = bench.process()
    wait_for(lambda: bench.committed() > 0, "some committed")
    worker.terminate()
    assert worker.wait(60) == 0
    # What was called was committed: nothing is asked of the model again.
    assert len(bench.numbers()) == bench.committed() == len(bench.model.calls)


def test_an_older_worker_of_the_slot_is_fenced_and_its_transaction_invisible(bench: Bench) -> None:
    settings = bench.settings()
    old = KafkaCommitter(settings, "extractor", lambda: True)
    old.open()
    new = KafkaCommitter(settings, "extractor", lambda: True)
    new.open()
    consumer = kafka.reader(settings, "other")
    batch = [Finished(Record("t", 0, 0, b"k", b"v"), Result([Output(bench.prefix + "cobuys.featured", b"k", b"{}")]))]
    with pytest.raises(Fenced, match="transactional id"):
        old.commit(batch, {(bench.prefix + "cobuys", 0): 1}, consumer)
    consumer.close()
    assert bench.read("cobuys.featured") == []


def test_offsets_of_a_group_member_that_was_removed_abort_the_transaction(bench: Bench) -> None:
    settings = bench.settings()
    committer = KafkaCommitter(settings, "extractor", lambda: True)
    committer.open()
    topic = bench.prefix + "cobuys"
    group = topics.group_id(settings, "extractor")
    member = kafka.reader(settings, group)
    member.subscribe([topic])
    wait_for(lambda: bool(member.poll(0.2) or member.assignment()), "assignment")
    stale = member.consumer_group_metadata()
    member.close()

    class Stale:
        def consumer_group_metadata(self) -> object:
            return stale

    batch = [Finished(Record(topic, 0, 0, b"k", b"v"), Result([Output(bench.prefix + "cobuys.featured", b"k", b"{}")]))]
    with pytest.raises(Aborted):
        committer.commit(batch, {(topic, 0): 1}, Stale())  # type: ignore[arg-type]
    assert bench.read("cobuys.featured") == []
    # The producer is as good as new afterwards.
    consumer = kafka.reader(settings, "fresh")
    consumer.assign([TopicPartition(topic, 0)])
    committer.commit(batch, {(topic, 0): 1}, consumer)
    consumer.close()
    assert len(bench.read("cobuys.featured")) == 1
