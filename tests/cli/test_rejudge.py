"""The KB judged once more by the real filter on the real Kafka and PostgreSQL, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mindstream.events.v1.intention_pb2 import CandidateIntentions, JudgedIntention, JudgedIntentions
from psycopg.rows import dict_row
from typer.testing import CliRunner
from typer.testing import Result as Done

from deploy.local.process import free_port
from services.cli.main import app
from services.cli.rejudge import stored
from services.common import dead_letter_queue, kafka, topics
from services.common.lag import lags
from services.common.media import MediaStore
from services.common.records import Record
from services.common.settings import Settings
from services.kb_sink.rows import COLUMNS, rows
from tests.cli.conftest import installation
from tests.common.runtime.conftest import wait_for
from tests.kb_sink.test_release import Said, database, fill, new_database, shop
from tests.lvlm.fixtures import checkpoint, png

__all__ = ["checkpoint", "database", "installation", "new_database"]
pytestmark = pytest.mark.integration

#: What judging again may change. A search's words follow from what is kept; by `written_xact` the change is followed.
_JUDGEMENT = ("score", "accepted", "threshold", "filter_model", "filter_prompt", "judged_at")
_CHANGED = (*_JUDGEMENT, "words", "written_xact")
_SAID = [Said(1, 2, "UsedFor", "eating soup", 0.9), Said(1, 2, "IsA", "", 0.0), Said(103, 104, "IsA", "", 0.0)]


def table(dsn: str, name: str, order: str = "pair_id, intention_id") -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM kb.{name} ORDER BY {order}").fetchall()


def invoke(*arguments: str) -> Done:
    return CliRunner().invoke(app, ["kb", "rejudge", *arguments], catch_exceptions=False)


def kept(row: dict[str, Any]) -> str:
    """What judging again may not change."""
    return json.dumps({name: value for name, value in row.items() if name not in _CHANGED}, default=str)


def test_a_stored_intention_is_the_message_that_it_came_in(database: str) -> None:
    fill(database, [*shop(2, pairs=30), *_SAID])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.pairs SET first_seen = NULL WHERE pair_id < 'p030'")
        pairs = stored.pairs(connection, "", 1000)
        found = list(stored.messages(connection, stored.Which(), pairs, 1_000_000))
        small = list(stored.messages(connection, stored.Which(), pairs, 100))
    assert max(len(one.candidates) for one in small) == 1
    assert sum(len(one.candidates) for one in small) == sum(len(one.candidates) for one in found)
    sent: dict[str, set[str]] = {name: set() for name in COLUMNS}
    for one in found:
        judged = [JudgedIntention(intention=each) for each in one.candidates]
        value = JudgedIntentions(featured=one.featured, generated_by=one.generated_by, judged=judged)
        for name, given in rows(Record("t", 0, 0, b"k", value.SerializeToString())).tables.items():
            sent[name].update(kept(dict(zip(COLUMNS[name], row, strict=True))) for row in given)
    for name, columns in COLUMNS.items():
        there = [{column: row[column] for column in columns} for row in table(database, name, "1, 2")]
        # Of a pair that has no text there is nothing to judge; no other pair here has its products.
        assert sent[name] == {
            kept(row) for row in there if not {"p103|p104", "p103", "p104"} & set(map(str, row.values()))
        }


@contextmanager
def processes(settings: Settings, checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes of an installation; those that are left are killed."""
    env = {
        **os.environ,
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "MINDSTREAM_TOPIC_PARTITIONS": str(settings.topic_partitions),
        "MINDSTREAM_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
        "MINDSTREAM_MEDIA_URL": settings.media_url,
        "MINDSTREAM_MODEL": str(checkpoint),
        "MINDSTREAM_MODEL_DEVICE": "cpu",
        "MINDSTREAM_MODEL_THREADS": "1",
        "MINDSTREAM_SERVER_BIND": settings.filter_target,
        "MINDSTREAM_FILTER_TARGET": settings.filter_target,
        "MINDSTREAM_HTTP_HOST": "127.0.0.1",
        "MINDSTREAM_HTTP_PORT": "0",
        "MINDSTREAM_SLOT": "0",
        "MINDSTREAM_SESSION_TIMEOUT_SECONDS": "6",
        "MINDSTREAM_BACKOFF_MAX_SECONDS": "0.5",
        "MINDSTREAM_CONCURRENCY": "2",
        "MINDSTREAM_COMMIT_INTERVAL_SECONDS": "0.02",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=None))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_a_kill_in_the_middle_and_a_second_run_leave_each_judgement_once(
    settings: Callable[..., Settings], database: str, checkpoint: Path, tmp_path: Path
) -> None:
    fill(database, shop(3))
    own = settings(postgres_dsn=database, topic_partitions=2, filter_target=f"127.0.0.1:{free_port()}")
    picture = MediaStore(own.media_url).put(png("red"))
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.products SET image_digest = %s", [picture])
    before = table(database, "intentions")
    service = (sys.executable, "-m")
    command = (str(Path(sys.executable).with_name("mindstream")), "kb", "rejudge", "--ahead", "5")
    position = tmp_path / "mindstream-rejudge.json"

    def drained() -> bool:
        return position.exists() and not any(one.records for one in lags(own))

    with processes(own, checkpoint, tmp_path) as start:
        model = start(*service, "services.lvlm")
        at_work = [start(*service, "services.filter"), start(*service, "services.kb_sink"), start(*command)]
        wait_for(lambda: len(table(database, "judgements", "1")) > 20, "some are judged again")
        for one in at_work:
            one.kill()
            one.wait()
        assert json.loads(position.read_text())["done"] is False
        assert len(table(database, "judgements", "1")) < len(before)

        at_work = [start(*service, "services.filter"), start(*service, "services.kb_sink")]
        assert start(*command, "--resume").wait() == 0
        wait_for(drained, "all is judged again")
        after = table(database, "intentions")
        # Whoever follows the KB is told of each.
        assert min(int(row["written_xact"]) for row in after) > max(int(row["written_xact"]) for row in before)
        assert [kept(row) for row in after] == [kept(row) for row in before]
        ((name, prompt),) = {(row["filter_model"], row["filter_prompt"]) for row in after}
        assert (name.partition("@")[0], prompt) == (checkpoint.name, "filter/v1")
        assert all(row["accepted"] == (row["score"] >= 0.5) and 0 < row["score"] < 1 for row in after)
        replaced = table(database, "judgements")
        # What was judged before stands there as it was, each once.
        columns = ("pair_id", "intention_id", *_JUDGEMENT)
        assert [[row[one] for one in columns] for row in replaced] == [[row[one] for one in columns] for row in before]

        # Once more: sent and judged, and nothing is written.
        assert start(*command).wait() == 0
        assert json.loads(position.read_text())["intentions"] == len(before)
        wait_for(drained, "all is judged once more")
        assert table(database, "intentions") == after
        assert table(database, "judgements") == replaced
        assert model.poll() is None
        for one in at_work:
            one.terminate()
        assert [one.wait(60) for one in at_work] == [0, 0]
    for queue in dead_letter_queue.queues(own):
        assert list(kafka.read_all(own, queue.name)) == []
    assert list(kafka.read_all(own, topics.JUDGED.name(own))) == []


@pytest.fixture
def commanded(installation: Settings, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", database)
    monkeypatch.setenv("MINDSTREAM_TOPIC_PARTITIONS", "1")
    return installation


def test_a_selection_is_counted_and_sent_and_gone_on_with(commanded: Settings, database: str) -> None:
    fill(database, _SAID)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.intentions SET filter_model = 'old@1' WHERE relation = 'UsedFor'")
    done = invoke("--dry-run")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "m@1 filter/v1: 2 pairs, 2 intentions, 0% kept",
        "old@1 filter/v1: 1 pairs, 1 intentions, 100% kept",
        "3 intentions would be sent",
    ]
    assert list(kafka.read_all(commanded, topics.AGAIN.name(commanded))) == []
    for _ in range(2):
        done = invoke("--model", "old@1", "--resume", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["intentions"] == 1
        (record,) = kafka.read_all(commanded, topics.AGAIN.name(commanded))
        assert (record.key, record.text_header("ce_source")) == (b"p001|p002", "mindstream/rejudge")
        assert [one.text for one in CandidateIntentions.FromString(record.value).candidates] == ["eating soup"]
    done = invoke("--resume")
    assert (done.exit_code, "another selection" in done.output) == (2, True)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.intentions SET filter_model = 'new@2'")
    # All of it is judged again: a run that was killed at its very end has nothing left to do.
    assert json.loads(invoke("--model", "old@1", "--resume", "--json").output)["intentions"] == 1
    Path("mindstream-rejudge.json").write_text("[]")
    done = invoke("--resume")
    assert (done.exit_code, "not a position" in done.output) == (2, True)


def test_a_mistake_is_one_line(commanded: Settings, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(code: int, *arguments: str) -> str:
        done = invoke(*arguments)
        assert done.exit_code == code, done.output
        assert len(done.output.splitlines()) == 1
        return done.output

    assert "holds no KB" in told(3)
    fill(database, _SAID)
    assert "nothing is judged by new@2: the KB has m@1 filter/v1" in told(2, "--model", "new@2")
    assert "none/place.json" in told(2, "--position", "none/place.json")
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", "nobody.")
    assert "no topic nobody.intentions.again" in told(3)
