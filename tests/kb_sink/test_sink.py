"""The sink on the real Kafka and PostgreSQL: every row once, whatever is killed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import TopicPartition
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    Intention,
    JudgedIntention,
    JudgedIntentions,
)
from prometheus_client import REGISTRY

from services.common import datasets, kafka, kb, metrics, topics
from services.common.errors import EventFault, WorldFault
from services.common.ids import intention_id
from services.common.lag import lags
from services.common.postgres import migrate
from services.common.records import Output, Record
from services.common.relations import RELATIONS
from services.common.runtime.stage import Fenced, Finished, Result
from services.common.settings import Settings
from services.kb_sink.committer import MIGRATIONS, PostgresCommitter
from services.kb_sink.release import make_release
from services.kb_sink.release.splits import split_of
from services.kb_sink.releases import release, report
from services.kb_sink.rows import rows

pytestmark = pytest.mark.integration


def judged(number: int) -> JudgedIntentions:
    """A co-buy with one intention per relation, every other one accepted."""
    made = JudgedIntentions(threshold=0.5)
    a, b = f"a{number:05d}", f"b{number:05d}"
    featured = made.featured
    featured.cobuy.pair_id, featured.cobuy.product_a, featured.cobuy.product_b = f"{a}|{b}", a, b
    featured.source.topic, featured.source.offset = "cobuys", number
    for product, features in ((a, featured.product_a), (b, featured.product_b)):
        features.product_id, features.title, features.content_digest = (
            product,
            f"Title of {product}",
            f"sha256:{product}",
        )
        features.extracted_by.model_version, features.extracted_by.prompt_version = "m@1", "extractor/v1"
    made.judged_at.FromSeconds(1_700_000_000 + number)
    for index, relation in enumerate(RELATIONS):
        own = Intention(
            intention_id=intention_id(f"{a}|{b}", relation.name, "m@1", "generator/v1", 0),
            relation=relation.name,
            text=f"reason {number} of {relation.name}",
        )
        verdict = VERDICT_ACCEPTED if index % 2 else VERDICT_REJECTED
        made.judged.append(JudgedIntention(intention=own, score=0.25 + 0.5 * (index % 2), verdict=verdict))
    return made


def send(settings: Settings, numbers: range) -> None:
    producer = kafka.plain_producer(settings)
    for number in numbers:
        value = judged(number).SerializeToString()
        producer.produce(topics.JUDGED.name(settings), value, str(number))
        producer.poll(0)
    assert producer.flush(60) == 0


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        if not connection.execute("SELECT to_regclass(%s)", [f"kb.{table}"]).fetchone()[0]:  # type: ignore[index]
            return 0
        return int(connection.execute(f"SELECT count(*) FROM kb.{table}").fetchone()[0])  # type: ignore[index]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        threading.Event().wait(0.1)


def sink(settings: Settings) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "MINDSTREAM_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
        "MINDSTREAM_SESSION_TIMEOUT_SECONDS": "3",
        "MINDSTREAM_HTTP_HOST": "127.0.0.1",
        "MINDSTREAM_HTTP_PORT": "0",
        "MINDSTREAM_WINDOW_RECORDS": "100",
    }
    return subprocess.Popen([sys.executable, "-m", "services.kb_sink"], env=env, stderr=subprocess.DEVNULL)


def test_kill_9_loses_no_row_and_doubles_none(settings: Callable[..., Settings], postgres: str) -> None:
    made = settings(postgres_dsn=postgres)
    send(made, range(2000))
    send(made, range(1000))  # resent: the same ids
    for kill in range(3):
        process = sink(made)
        target = min(count(postgres, "pairs"), 1999 - kill)
        wait_for(lambda target=target: count(postgres, "pairs") > target)  # type: ignore[misc]
        process.kill()
        process.wait()
    process = sink(made)
    wait_for(lambda: count(postgres, "pairs") == 2000)
    process.terminate()
    assert process.wait(30) == 0
    assert count(postgres, "intentions") == 2000 * len(RELATIONS)
    with psycopg.connect(postgres) as connection:
        texts = {row["intention_id"]: row["text"] for row in kb.intentions(connection, kb.Query())}
    expected = {one.intention.intention_id: one.intention.text for n in range(2000) for one in judged(n).judged}
    assert texts == expected


def test_lag_is_told_right_after_a_kill_between_both_offsets(settings: Callable[..., Settings], postgres: str) -> None:
    made = settings(postgres_dsn=postgres)
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    send(made, range(7000, 7010))

    def waiting() -> int:
        return sum(lag.records for lag in lags(made) if lag.topic == topics.JUDGED.name(made))

    assert waiting() == 10
    # As if all were written, and the kill had come before Kafka was told.
    reader = kafka.reader(made, "ends")
    with psycopg.connect(postgres) as connection:
        for partition in range(made.topic_partitions):
            name = topics.JUDGED.name(made)
            _, end = reader.get_watermark_offsets(TopicPartition(name, partition), 10)
            connection.execute("INSERT INTO kb.offsets VALUES (%s, %s, %s)", [name, partition, end])
    reader.close()
    before = count(postgres, "pairs")
    process = sink(made)
    try:
        wait_for(lambda: waiting() == 0)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert count(postgres, "pairs") == before


def test_what_the_database_finds_too_large_is_set_aside_alone(settings: Callable[..., Settings], postgres: str) -> None:
    made = settings(postgres_dsn=postgres)
    process = sink(made)
    try:
        with psycopg.connect(postgres, autocommit=True) as connection:
            wait_for(lambda: connection.execute("SELECT to_regclass('kb.pairs')").fetchone() != (None,))
            # As an index says of a row that does not fit in it.
            connection.execute("""
                CREATE FUNCTION too_large() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'index row size' USING ERRCODE = '54000'; END $$;
                CREATE TRIGGER too_large BEFORE INSERT ON kb.pairs
                FOR EACH ROW WHEN (NEW.pair_id IN ('a06003|b06003', 'a06004|b06004')) EXECUTE FUNCTION too_large()
            """)
            before = count(postgres, "pairs")
            send(made, range(6000, 6010))
            wait_for(lambda: count(postgres, "pairs") == before + 8)
            connection.execute("DROP TRIGGER too_large ON kb.pairs; DROP FUNCTION too_large")
        dlq = topics.dlq_name(topics.JUDGED.name(made), "kb_sink")
        wait_for(lambda: len(list(kafka.read_all(made, dlq))) == 2)
        letters = list(kafka.read_all(made, dlq))
        assert [letter.text_header("mindstream-dlq-reason") for letter in letters] == ["invalid"] * 2
    finally:
        process.terminate()
        assert process.wait(30) == 0


def finished(settings: Settings, offset: int, number: int) -> Finished:
    record = Record(topics.JUDGED.name(settings), 0, offset, b"k", judged(number).SerializeToString())
    return Finished(record, Result(rows=rows(record)))


def test_a_sink_that_lost_its_partition_writes_nothing(settings: Callable[..., Settings], postgres: str) -> None:
    made = settings(postgres_dsn=postgres)
    committer = PostgresCommitter(made)
    committer.open()
    consumer = kafka.reader(made, "test")
    partition = (topics.JUDGED.name(made), 0)
    committer.commit([finished(made, 0, 9000), finished(made, 1, 9001)], {partition: 2}, consumer)
    before = count(postgres, "pairs")
    with pytest.raises(Fenced):
        committer.commit([finished(made, 1, 9999)], {partition: 2}, consumer)
    assert count(postgres, "pairs") == before
    assert committer.positions([partition]) == {partition: 2}
    consumer.close()
    committer.close()


def test_a_commit_that_is_tried_again_sends_a_dead_letter_once_and_counts_once(
    settings: Callable[..., Settings], postgres: str
) -> None:
    made = settings(postgres_dsn=postgres)
    committer = PostgresCommitter(made)
    committer.open()
    consumer = kafka.reader(made, "test")
    topic = topics.JUDGED.name(made)
    dlq = topics.dlq_name(topic, "kb_sink")
    poison = Finished(Record(topic, 0, 1, b"k", b"bad"), Result([Output(dlq, b"k", b"bad")]))
    batch = [finished(made, 0, 8000), poison]
    name, labels = "mindstream_sink_rows_total", {"table": "pairs", "outcome": "written"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    with psycopg.connect(postgres, autocommit=True) as connection:
        # The server goes away at the COMMIT: all was written until then.
        connection.execute("""
            CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'shutting down' USING ERRCODE = '57P01'; END $$;
            CREATE CONSTRAINT TRIGGER go_away AFTER INSERT ON kb.pairs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION go_away()
        """)
        for _ in range(3):
            with pytest.raises(WorldFault, match="shutting down"):
                committer.commit(batch, {(topic, 0): 2}, consumer)
        connection.execute("DROP TRIGGER go_away ON kb.pairs")
        connection.execute("DROP FUNCTION go_away")
    committer.commit(batch, {(topic, 0): 2}, consumer)
    assert [letter.value for letter in kafka.read_all(made, dlq)] == [b"bad"]
    assert REGISTRY.get_sample_value(name, labels) == before + 1
    # An older offset: another sink's partition, or a topic made anew; the message says what to do.
    with pytest.raises(Fenced, match=r"DELETE FROM kb\.offsets WHERE topic"):
        committer.commit([poison], {(topic, 0): 2}, consumer)
    assert len(list(kafka.read_all(made, dlq))) == 1
    consumer.close()
    committer.close()


def test_what_the_tables_cannot_hold_is_the_events_fault() -> None:
    def refused(change: Callable[[JudgedIntentions], None], match: str) -> None:
        event = judged(1)
        change(event)
        with pytest.raises(EventFault, match=match):
            rows(Record("intentions.judged", 0, 0, b"k", event.SerializeToString()))

    def no_pair(event: JudgedIntentions) -> None:
        event.featured.cobuy.pair_id = ""

    def huge_support(event: JudgedIntentions) -> None:
        event.featured.cobuy.support = 2**63

    def unknown_relation(event: JudgedIntentions) -> None:
        event.judged[3].intention.relation = "Fancies"

    def nul(event: JudgedIntentions) -> None:
        event.judged[3].intention.text = "a\0b"

    def long_pair(event: JudgedIntentions) -> None:
        event.featured.cobuy.pair_id = "杯" * 900

    def long_product(event: JudgedIntentions) -> None:
        event.featured.product_b.product_id = "p" * 2600

    refused(long_pair, "pair's key is 2706 bytes")
    refused(long_product, "product's key")
    refused(no_pair, "pair id")
    refused(huge_support, "support")
    refused(unknown_relation, "Fancies")
    refused(nul, "NUL")


def test_each_product_keeps_its_own_extractor_version(settings: Callable[..., Settings], postgres: str) -> None:
    made = settings(postgres_dsn=postgres)
    event = judged(7000)
    event.featured.product_b.extracted_by.prompt_version = "extractor/v2"
    record = Record(topics.JUDGED.name(made), 0, 0, b"k", event.SerializeToString())
    grown = JudgedIntentions.FromString(record.value)
    grown.featured.cobuy.support = 9
    again = Record(topics.JUDGED.name(made), 0, 1, b"k", grown.SerializeToString())
    committer = PostgresCommitter(made)
    committer.open()
    consumer = kafka.reader(made, "test")
    batch = [Finished(one, Result(rows=rows(one))) for one in (again, record)]
    committer.commit(batch, {(record.topic, 0): 2}, consumer)
    consumer.close()
    committer.close()
    with psycopg.connect(postgres) as connection:
        found = list(kb.intentions(connection, kb.Query(pair="a07000|b07000")))
    assert len(found) == len(RELATIONS)
    assert {(row["extractor_prompt_a"], row["extractor_prompt_b"]) for row in found} == {
        ("extractor/v1", "extractor/v2")
    }
    assert {row["support"] for row in found} == {9}


def test_a_release_is_reproducible_verifiable_and_loads(settings: Callable[..., Settings], postgres: str) -> None:
    import datasets as hugging_face

    made = settings(postgres_dsn=postgres)
    committer = PostgresCommitter(made)
    committer.open()
    consumer = kafka.reader(made, "test")
    batch = [finished(made, offset, 5000 + offset) for offset in range(60)]
    committer.commit(batch, {(topics.JUDGED.name(made), 0): 60}, consumer)
    consumer.close()
    committer.close()

    first, again = (
        make_release(made),
        make_release(made.model_copy(update={"datasets_url": made.datasets_url + "-again"})),
    )
    assert first is not None
    assert again is not None
    assert first.manifest == again.manifest
    assert datasets.verify(first.url) == []
    newest = datasets.latest(made.datasets_url)
    assert newest is not None
    assert newest["release_id"] == first.release_id

    folder = first.url.removeprefix("file://")
    for config in ("generation", "intent-understand", "intent-utilize"):
        loaded = hugging_face.load_dataset(folder, name=config, cache_dir=f"{folder}-cache")
        assert sum(len(split) for split in loaded.values()) > 0
        for name, split in loaded.items():
            assert {split_of(row[product]) for row in split for product in ("product_a", "product_b")} == {name}
            assert all(row["messages"][-1]["role"] == "assistant" for row in split)

    leftover = f"{made.datasets_url}/20200101T000000Z-00000000/README.md".removeprefix("file://")
    os.makedirs(os.path.dirname(leftover))
    pathlib.Path(leftover).touch()
    make_release(made)
    assert not os.path.exists(leftover)

    # A process that starts later reports what was released before it, and heeds no manifest that a crash cut short.
    released = release(made)
    assert released is not None
    cut = pathlib.Path(folder).parent / "20200101T000000Z-00000000"
    cut.mkdir()
    (cut / datasets.MANIFEST).write_text('{"release_id": "2020')
    metrics.RELEASE_BYTES.set(0)
    metrics.RELEASE_TIME.set(0)
    report(made)
    size = sum(facts["bytes"] for facts in released.manifest["files"].values())
    assert REGISTRY.get_sample_value("mindstream_dataset_release_bytes") == size
    assert time.time() - (REGISTRY.get_sample_value("mindstream_dataset_release_timestamp_seconds") or 0) < 3600
    assert release(made) is not None
    assert not cut.exists()

    victim = next(name for name in first.manifest["files"] if name.endswith(".parquet"))
    with open(f"{folder}/{victim}", "r+b") as file:
        file.seek(10)
        byte = file.read(1)
        file.seek(10)
        file.write(bytes([byte[0] ^ 1]))
    assert datasets.verify(first.url) == [f"{victim} is not what the manifest says"]
    manifest = json.loads(pathlib.Path(folder, datasets.MANIFEST).read_text())
    with open(f"{folder}/{datasets.MANIFEST}", "wb") as file:
        file.write(datasets.to_json({**manifest, "accepted": 10**9}))
    assert f"{datasets.MANIFEST} is not what its release id says" in datasets.verify(first.url)
