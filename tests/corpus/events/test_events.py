"""Poison events through the real services: each a dead letter with its reason, or taken, and good neighbours pass."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from confluent_kafka import KafkaError
from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common import dead_letters, kafka, topics
from services.common.lag import lags
from services.common.runtime.stage import Committer, Stage
from services.common.runtime.worker import Worker
from services.common.settings import Settings
from services.common.topics import Topic
from services.extractor import server as extractor_server
from services.extractor.handler import Extractor
from services.filter import server as filter_server
from services.filter.handler import Filter
from services.generator import server as generator_server
from services.generator.handler import Generator
from services.kb_sink.__main__ import stage as sink
from services.kb_sink.committer import PostgresCommitter
from services.lvlm.calls import Calls
from services.lvlm.engine import Engine
from tests.cobuy.test_service import service as cobuy
from tests.corpus.events import neighbours
from tests.corpus.events.cases import LIMIT, Case, cases
from tests.corpus.events.raw_headers import RECORDS
from tests.corpus.table import seen
from tests.lvlm.fixtures import checkpoint, engine

__all__ = ["checkpoint", "engine"]
pytestmark = pytest.mark.integration
CASES = list(cases())
#: Topics take what is far over the limit: it may have been lowered.
_MOST_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def model(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real model server on a loop of its own: its address, and its media store."""
    media = f"file://{tmp_path_factory.mktemp('media')}"
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> tuple[grpc.aio.Server, int]:
        calls = Calls(Settings(media_url=media, max_new_tokens=4, features_max_new_tokens=8))
        calls.serve(engine)
        server = grpc.aio.server()
        for room in (extractor_server, generator_server, filter_server):
            room.register(server, calls)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(120)
    yield f"127.0.0.1:{port}", media
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)


@dataclass
class Bench:
    """Topics of this test's own, each of one partition, so that no event can be passed by."""

    settings: Settings

    def create(self) -> None:
        specs = list(topics.specs(self.settings))
        for spec in specs:
            spec.config["max.message.bytes"] = str(_MOST_BYTES)
        kafka.create_topics(self.settings, specs)

    def send(self, topic: Topic) -> dict[int, Case]:
        """Each of a topic's cases with a good event behind it; the cases by their offset."""
        producer = kafka.plain_producer(self.settings.model_copy(update={"event_max_bytes": _MOST_BYTES // 4}))
        offsets: dict[int, Case] = {}
        name = topic.name(self.settings)

        def noted(case: Case) -> Callable[[KafkaError | None, Any], None]:
            return lambda error, message: offsets.update({} if error else {message.offset(): case})

        for number, case in enumerate(of(topic), 1):
            key = case.name.encode() if case.key == b"" else case.key
            headers: Any = case.headers
            producer.produce(name, case.value, key, 0, headers=headers, on_delivery=noted(case))
            producer.produce(name, neighbours.event(topic, number).SerializeToString(), b"good", 0)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert len(offsets) == len(of(topic))
        return offsets

    def keys(self, topic: Topic) -> set[str]:
        records = kafka.read_all(self.settings, topic.name(self.settings))
        return {(record.key or b"").decode("utf-8", "replace") for record in records}

    def column(self, query: str) -> set[str]:
        try:
            with psycopg.connect(self.settings.postgres_dsn.get_secret_value()) as connection:
                return {row[0] for row in connection.execute(query)}
        except psycopg.errors.UndefinedTable:  # The worker has not come so far.
            return set()

    def drained(self, group: str) -> set[str]:
        return set() if any(lag.records for lag in lags(self.settings) if lag.group == group) else {"drained"}

    def check(self, topic: Topic, group: str, offsets: dict[int, Case], passed: Callable[[], set[str]]) -> None:
        """Wait for the last good event; all of them came through, and every case ended as it should."""
        good = {neighbours.made_of(topic, number) for number in range(1, len(offsets) + 1)}
        await_all(good, passed)
        # What a handler writes to a database stands there before the commit that its neighbours' dead letters wait for.
        await_all({"drained"}, lambda: self.drained(group))
        letters = {}
        for record in kafka.read_all(self.settings, topics.dlq_name(topic.name(self.settings), group)):
            assert dead_letters.read(record).offset not in letters, "set aside twice"
            letters[dead_letters.read(record).offset] = record
        assert set(letters) <= set(offsets), "a good event is among the dead letters"
        wrong = []
        for offset, case in sorted(offsets.items()):
            letter = letters.get(offset)
            found = "taken" if letter is None else letter.text_header("mindstream-dlq-reason")
            message = "" if letter is None else letter.text_header("mindstream-dlq-message")
            seen(f"events: {topic.base}", case.name, case.expected, f"{found}: {message}"[:120].rstrip(": "))
            if found != case.expected.split(":")[0]:
                wrong.append(f"{case.name}: expected {case.expected}, found {found}: {message}")
            if letter is None:
                continue
            assert len(message.splitlines()) == 1
            if dead_letters.value_bytes(letter) is None:
                assert letter.value == (case.value or b""), case.name
                assert dead_letters.original_headers(letter) == [
                    (name, value or b"") for name, value in case.headers if not name.startswith("mindstream-")
                ]
            else:
                assert dead_letters.value_bytes(letter) == len(case.value or b"")
        assert not wrong, "\n".join(wrong)


def await_all(good: set[str], passed: Callable[[], set[str]]) -> None:
    deadline = time.monotonic() + 120
    while missing := good - passed():
        assert time.monotonic() < deadline, f"did not come through: {sorted(missing)}"
        threading.Event().wait(0.2)


def pairs(bench: Bench) -> set[str]:
    """Of the co-buys that were counted."""
    records = kafka.read_all(bench.settings, topics.COBUYS.name(bench.settings))
    return {CoBuy.FromString(record.value).pair_id for record in records}


def of(topic: Topic) -> list[Case]:
    return [case for case in CASES if case.topic is topic]


@pytest.fixture
def bench(kafka: str, postgres: str, model: tuple[str, str]) -> Bench:
    target, media = model
    made = Bench(
        Settings(
            kafka_bootstrap_servers=kafka,
            topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
            topic_partitions=1,
            postgres_dsn=postgres,
            media_url=media,
            extractor_target=target,
            generator_target=target,
            filter_target=target,
            event_max_bytes=LIMIT,
            park_grace_seconds=0,
            session_timeout_seconds=6,
            slot="0",
        )
    )
    made.create()
    return made


@contextmanager
def working(stage: Stage, settings: Settings, committer: Committer | None = None) -> Iterator[None]:
    worker = Worker(stage, settings, committer)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(worker.run()), daemon=True)
    thread.start()
    try:
        yield
        assert thread.is_alive(), "the worker ended"
    finally:
        worker.stop()
        thread.join(60)
    assert codes == [0]


@pytest.mark.parametrize("topic", [topics.PURCHASES, topics.JUDGED], ids=["faust", "librdkafka"])
def test_a_header_whose_name_is_no_utf8_stops_nobody(bench: Bench, tmp_path: Path, topic: Topic) -> None:
    """No client but these two writes such a name, and the broker keeps it."""
    name, value = topic.name(bench.settings), neighbours.event(topic, 0).SerializeToString()
    command = [sys.executable, "-m", "tests.corpus.events.raw_headers", bench.settings.kafka_bootstrap_servers]
    subprocess.run([*command, name, value.hex()], check=True)
    producer = kafka.plain_producer(bench.settings)
    producer.produce(name, neighbours.event(topic, 1000).SerializeToString(), b"good", 0)
    assert producer.flush(30) == 0
    if topic is topics.PURCHASES:
        with cobuy(bench.settings, tmp_path, MINDSTREAM_COBUY_MIN_SUPPORT="1") as process:
            await_all({"a1000|b1000"}, lambda: pairs(bench))
            assert process.poll() is None
    else:
        with working(sink(bench.settings), bench.settings, PostgresCommitter(bench.settings)):
            await_all({"a1000|b1000"}, lambda: bench.column("SELECT pair_id FROM kb.pairs"))
    letters = list(kafka.read_all(bench.settings, topics.dlq_name(name, topic.readers[0])))
    assert [(letter.key, letter.value, dead_letters.original_headers(letter)) for letter in letters] == [
        (b"raw", value, [])
    ] * RECORDS
    assert {letter.text_header("mindstream-dlq-reason") for letter in letters} == {"undecodable"}
    line = letters[0].text_header("mindstream-dlq-message")
    seen(f"events: {topic.base}", "a header's name that is no UTF-8", "undecodable", f"undecodable: {line}")


def test_there_are_enough_of_each() -> None:
    names = [(case.topic.base, case.name) for case in CASES]
    assert len(set(names)) == len(names) >= 60
    for topic in {case.topic.base: case.topic for case in CASES}.values():
        assert len(of(topic)) >= 20
        assert len({neighbours.made_of(topic, number) for number in range(len(of(topic)) + 1)}) == len(of(topic)) + 1


def test_purchases(bench: Bench, tmp_path: Path) -> None:
    offsets = bench.send(topics.PURCHASES)
    given = {"MINDSTREAM_EVENT_MAX_BYTES": str(LIMIT), "MINDSTREAM_COBUY_MIN_SUPPORT": "1"}
    with cobuy(bench.settings, tmp_path, **given) as process:
        bench.check(topics.PURCHASES, "cobuy", offsets, lambda: pairs(bench))
        assert process.poll() is None


def test_products_and_cobuys(bench: Bench) -> None:
    offsets = bench.send(topics.PRODUCTS)
    producer = kafka.plain_producer(bench.settings)
    for product in neighbours.shelf():
        producer.produce(topics.PRODUCTS.name(bench.settings), product.SerializeToString(), product.product_id, 0)
    assert producer.flush(30) == 0
    shelf = {product.product_id for product in neighbours.shelf()}
    with working(Extractor(bench.settings).stage(), bench.settings):
        known = "SELECT product_id FROM extractor.products WHERE NOT deleted"
        bench.check(topics.PRODUCTS, "extractor", offsets, lambda: bench.column(known))
        await_all(shelf, lambda: bench.column(known))
        offsets = bench.send(topics.COBUYS)
        bench.check(topics.COBUYS, "extractor", offsets, lambda: bench.keys(topics.FEATURED))


def test_cobuys_featured(bench: Bench) -> None:
    offsets = bench.send(topics.FEATURED)
    with working(Generator(bench.settings).stage(), bench.settings):
        bench.check(topics.FEATURED, "generator", offsets, lambda: bench.keys(topics.CANDIDATES))


@pytest.mark.parametrize(("topic", "into"), [(topics.CANDIDATES, topics.JUDGED), (topics.AGAIN, topics.REJUDGED)])
def test_intentions_to_judge(bench: Bench, topic: Topic, into: Topic) -> None:
    offsets = bench.send(topic)
    with working(Filter(bench.settings).stage(), bench.settings):
        bench.check(topic, "filter", offsets, lambda: bench.keys(into))


@pytest.mark.parametrize("topic", [topics.JUDGED, topics.REJUDGED])
def test_intentions_judged(bench: Bench, topic: Topic) -> None:
    offsets = bench.send(topic)
    with working(sink(bench.settings), bench.settings, PostgresCommitter(bench.settings)):
        bench.check(topic, "kb_sink", offsets, lambda: bench.column("SELECT pair_id FROM kb.pairs"))
    assert bench.column("SELECT score FROM kb.intentions WHERE NOT score BETWEEN 0 AND 1") == set()


def test_intentions_feedback(bench: Bench) -> None:
    offsets = bench.send(topics.FEEDBACK)
    with working(sink(bench.settings), bench.settings, PostgresCommitter(bench.settings)):
        bench.check(topics.FEEDBACK, "kb_sink", offsets, lambda: bench.column("SELECT pair_id FROM kb.feedback"))
