"""The command on the real Kafka: what arrives, what is refused, and what a kill leaves."""

from __future__ import annotations

import gzip
import io
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.intention_pb2 import CandidateIntentions
from mindstream.events.v1.product_pb2 import Product
from typer.testing import CliRunner
from typer.testing import Result as Done

from services.cli import exports
from services.cli.imports.running import SAVED_EVERY
from services.cli.main import app
from services.common import kafka, kb, topics
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.rows import rows
from tests.cli.imports.test_rows import ASSERTION, ROW_2018, ROW_FOLKSCOPE

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *given: Any) -> str:
    """A file of JSON lines in the working folder; bytes stand as they are."""
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in given]
    content = b"\n".join(lines) + b"\n"
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def invoke(*arguments: str) -> Done:
    return CliRunner().invoke(app, ["import", *arguments], catch_exceptions=False)


def held(installation: Settings, topic: topics.Topic) -> list[Any]:
    name = topic.name(installation)
    return [topic.message.FromString(record.value) for record in kafka.read_all(installation, name)]


def refused(collection: str) -> list[str]:
    path = Path("mindstream-import") / f"{collection}.refused.jsonl"
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()]


def test_a_catalogue_arrives_with_the_co_buys_whose_products_it_has(installation: Settings) -> None:
    name = write(
        "meta.json.gz",
        ROW_2018,
        {"asin": "B02", "title": "Laces", "also_buy": ["B01", "B02", "B09"]},
        {"asin": "B03", "title": "x" * 100_000},
        b'{"asin": "B04", "title": "\xff"}',
        {"asin": "B05"},
    )
    done = invoke("amazon-2018", name)
    assert done.exit_code == 1, done.output
    products: list[Product] = held(installation, topics.PRODUCTS)
    assert {one.product_id: one.title for one in products} == {"B01": 'Boot, 6"', "B02": "Laces"}
    assert [one.pair_id for one in held(installation, topics.COBUYS)] == ["B01|B02"]
    long, utf8, missing = refused("amazon-2018")
    assert "100000 characters long" in long
    assert "not valid UTF-8" in utf8
    assert "title is missing" in missing
    assert "5 rows; sent: 1 to cobuys, 2 to products" in done.output
    record = next(iter(kafka.read_all(installation, topics.PRODUCTS.name(installation))))
    assert (record.key, record.text_header("ce_source"), record.text_header("ce_id")) == (
        b"B01",
        "mindstream/import",
        "import/B01",
    )


def test_all_co_buys_or_none_and_no_pictures(installation: Settings) -> None:
    name = write("meta.jsonl", {**ROW_2018, "also_buy": ["B01", "B08"]})
    assert invoke("amazon-2018", name, "--pairs", "all", "--text-only").exit_code == 0
    (cobuy,) = held(installation, topics.COBUYS)
    assert isinstance(cobuy, CoBuy)
    assert (cobuy.pair_id, cobuy.support) == ("B01|B08", 0)
    assert not held(installation, topics.PRODUCTS)[0].HasField("image")
    assert invoke("amazon-2018", name, "--pairs", "none").exit_code == 0
    assert len(held(installation, topics.COBUYS)) == 1
    name = write("meta.jsonl", {**ROW_2018, "also_buy": ["x" * 600]})
    assert invoke("amazon-2018", name, "--pairs", "all").exit_code == 1
    assert refused("amazon-2018") == ["product_b is 600 bytes long; at most 512"]


def test_a_dry_run_counts_and_leaves_nothing(installation: Settings) -> None:
    name = write("meta.jsonl", ROW_2018, {"asin": "B02", "title": "t"}, {"asin": "B03\u009b31m"})
    done = invoke("amazon-2018", name, "--dry-run")
    assert done.exit_code == 1
    assert "3 rows; would send: 1 to cobuys, 2 to products" in done.output
    assert "control characters" in done.output
    assert "\u009b" not in done.output
    assert held(installation, topics.PRODUCTS) == []
    assert not Path("mindstream-import").exists()
    assert invoke("amazon-2018", name, "--dry-run", "--limit", "1").exit_code == 0


def test_intentions_as_they_are_are_in_the_kb_with_their_source(
    installation: Settings, settings: Callable[..., Settings], postgres: str
) -> None:
    titles = write("meta.jsonl", {"asin": "B01", "title": "A tripod"}, {"asin": "B02", "title": "A lens"}, {"asin": 7})
    header = "item_a_id,item_b_id,relation,assertion,typicality"
    bird = f'B02,B01,usedFor,"{ASSERTION}because they are both used for birds, and ""more""."'
    Path("co.csv").write_text(f"{header}\n{bird},0.9\n{bird},0.9\nB02,B01,isA,a kit,0.2\nB02,B77,isA,a kit,0.2\n")
    done = invoke("folkscope", "co.csv", "--as-is", "--products", titles)
    assert done.exit_code == 1, done.output
    assert refused("folkscope") == ["no title of product 'B77': neither item_b_name nor --products has one"]
    (record,) = kafka.read_all(installation, topics.JUDGED.name(installation))

    committer = PostgresCommitter(settings(postgres_dsn=postgres))
    committer.open()
    consumer = kafka.reader(installation, "test")
    for offset in (0, 1):  # Sent again: nothing is written twice.
        sent = replace(record, offset=offset)
        committer.commit([Finished(sent, Result(rows=rows(sent)))], {(sent.topic, 0): offset + 1}, consumer)
    consumer.close()
    committer.close()
    with psycopg.connect(postgres) as connection:
        found = list(kb.intentions(connection, kb.Query(), by_score=True))
        seen = connection.execute("SELECT DISTINCT extracted_at FROM kb.products").fetchall()
    assert seen == [(datetime(1970, 1, 1, tzinfo=UTC),)]  # What is seen of them here is always later.
    assert [(one["relation"], one["text"], one["score"], one["accepted"]) for one in found] == [
        ("UsedFor", 'birds, and "more"', 0.9, True),
        ("IsA", "a kit", 0.2, False),
    ]
    for one in found:
        assert (one["title_a"], one["title_b"]) == ("A tripod", "A lens")
        assert (one["source"], one["source_event_id"], one["generator_model"]) == ("folkscope", "co.csv:2", "folkscope")
    out = io.BytesIO()
    exports.jsonld(found, out)
    assert {node.get("source") for node in json.loads(out.getvalue())["@graph"]} == {None, "folkscope co.csv:2"}


def test_intentions_for_the_filter_are_candidates(installation: Settings) -> None:
    name = write("task.jsonl", {**ROW_FOLKSCOPE, "relation": "all", "typicality": None})
    done = invoke("intentionqa", name, "--judge")
    assert done.exit_code == 0, done.output
    (made,) = held(installation, topics.CANDIDATES)
    assert isinstance(made, CandidateIntentions)
    assert (made.generated_by.model_version, made.generated_by.prompt_version) == ("intentionqa", "import/v1")
    assert [(one.relation, one.text, one.source) for one in made.candidates] == [("UsedFor", "birds", "intentionqa")]
    assert held(installation, topics.PRODUCTS) == []


def end(consumer: Consumer, installation: Settings) -> int:
    """How many products Kafka has."""
    found: int = consumer.get_watermark_offsets(TopicPartition(topics.PRODUCTS.name(installation), 0), timeout=10)[1]
    return found


def test_a_kill_loses_nothing_and_resume_goes_on(installation: Settings) -> None:
    count, bad = 2 * SAVED_EVERY + 20_000, SAVED_EVERY + 10_500
    with Path("meta.jsonl").open("w") as file:
        for number in range(count):
            also = f"B{(number + 1) % count:06d}" if number % 1000 == 0 else "elsewhere"
            title = "" if number == bad else f"Product {number}"
            file.write(json.dumps({"asin": f"B{number:06d}", "title": title, "also_buy": [also]}) + "\n")
    command = [str(Path(sys.executable).with_name("mindstream")), "import", "amazon-2018", "meta.jsonl", "--resume"]
    consumer = kafka.reader(installation, "test")
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    # What is behind a saved position is only sent when that is saved.
    while end(consumer, installation) <= SAVED_EVERY:
        assert killed.poll() is None, "it was over before it could be killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    first = end(consumer, installation)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = [one.product_id for one in held(installation, topics.PRODUCTS)]
    assert set(found) == {f"B{number:06d}" for number in range(count)} - {f"B{bad:06d}"}
    assert len(found) <= first + count - SAVED_EVERY
    assert len({one.pair_id for one in held(installation, topics.COBUYS)}) == count // 1000
    assert refused("amazon-2018") == ["title is empty"]
    assert f"{count:,} rows; " in done.stdout
    # Once more: nothing is left to do.
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert end(consumer, installation) == len(found)
    consumer.close()


def test_a_damaged_file_goes_on_when_it_is_whole(installation: Settings) -> None:
    name = write("a.jsonl", ROW_2018)
    Path("b.jsonl.gz").write_bytes(gzip.compress(b'{"asin": "B02", "title": "t"}\n' * 3)[:-9])
    done = invoke("amazon-2018", name, "b.jsonl.gz")
    assert (done.exit_code, "b.jsonl.gz: Compressed file ended" in done.output) == (2, True)
    assert held(installation, topics.PRODUCTS)[0].product_id == "B01"
    write("b.jsonl.gz", {"asin": "B02", "title": "t"})
    done = invoke("amazon-2018", name, "b.jsonl.gz", "--resume")
    assert (done.exit_code, "begins anew" in done.output) == (2, True)
    assert invoke("amazon-2018", name, "b.jsonl.gz").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["amazon-2018", "meta.jsonl", "--judge"], "holds no intentions"),
        (["folkscope", "meta.jsonl"], "either --judge"),
        (["folkscope", "meta.jsonl", "--judge", "--as-is"], "either --judge"),
        (["mind", "meta.jsonl", "--judge", "--pairs", "all"], "--pairs and --text-only do not go"),
        (["mind", "meta.jsonl", "--judge", "--score", "1"], "--score goes with --as-is"),
        (["mind", "meta.jsonl", "--judge", "--column", "a=b"], "OURS is one of product_a"),
        (["amazon-2018", "none.jsonl"], "none.jsonl: No such file"),
        (["folkscope", "meta.jsonl", "--judge", "--products", "none.csv"], "none.csv: No such file"),
        (["amazon-2018", "meta.jsonl", "--work", "meta.jsonl"], "meta.jsonl: File exists"),
        (["amazon-2018", "."], ".: Is a directory"),
    ],
)
def test_a_mistake_is_one_line(installation: Settings, arguments: list[str], line: str) -> None:
    write("meta.jsonl", ROW_2018)
    done = invoke(*arguments)
    assert (done.exit_code, line in done.output) == (2, True), done.output
    assert len(done.output.strip().splitlines()) == 1
    assert held(installation, topics.PRODUCTS) == []


def test_kafka_without_topics_is_one_line(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write("meta.jsonl", ROW_2018)
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", "nobody.")
    done = invoke("amazon-2018", name)
    assert (done.exit_code, "no topic nobody.cobuys, nobody.products" in done.output) == (3, True)
    assert len(done.output.strip().splitlines()) == 1


def test_two_imports_do_not_share_a_folder(installation: Settings) -> None:
    name = write("meta.jsonl", ROW_2018)
    assert invoke("amazon-2018", name).exit_code == 0
    busy = sqlite3.connect("mindstream-import/amazon-2018.sqlite")
    busy.execute("BEGIN EXCLUSIVE")
    done = invoke("amazon-2018", name)
    assert (done.exit_code, "another import is at work" in done.output) == (2, True)
    busy.close()
