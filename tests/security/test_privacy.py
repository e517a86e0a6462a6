"""The whole platform, as talkative as it can be: no customer's id leaves `purchases`, no secret is logged."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient
from mindstream.events.v1.purchase_pb2 import Purchase
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.local.errors import PlatformError
from deploy.local.kept_key import kept_key
from deploy.local.platform import Platform, PlatformOptions
from services.common import datasets, kafka, topics
from services.common.settings import Settings
from tests.cobuy.test_service import order
from tests.lvlm.fixtures import checkpoint
from tests.security.conftest import Run, wait_for

pytestmark = pytest.mark.integration
__all__ = ["checkpoint"]
MARK = "customer-5d41402a-of-the-shop"
API_KEY = "api-key-9c56cc51b374"
#: Topics that hold what the shop sent, to be read by those who may read `purchases`.
RAW = ("purchases", "purchases.cobuy.dlq")


@dataclass(frozen=True)
class Aftermath:
    """A platform that has stopped, and what was in its servers before."""

    folder: Path
    key: str
    password: str
    records: dict[str, bytes]
    rows: dict[str, str]


def hostile() -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    """Purchases with a customer's id where it belongs, and wherever else it may get to."""
    extended = order(3, "a", "b", customer=MARK) + b"\xa2\x06" + bytes([len(MARK)]) + MARK.encode()  # Field 100.
    quoted = [{"items": MARK}, {MARK: 1}, {"customer_id": [MARK]}, {"order_id": "o", "customer_id": MARK}]
    return [
        (order(1, "a", "b", customer=MARK), []),
        (order(2, "b", "a", customer=f"{MARK}-2"), []),
        (extended, []),
        *((json.dumps(row).encode(), [("content-type", b"application/json")]) for row in quoted),
        (order(4, "a", "b", customer=MARK), [("content-type", MARK.encode())]),
        (order(5, "a\x00", "b", customer=MARK), []),
    ]


@pytest.fixture(scope="module")
def aftermath(platform_folder: Path, checkpoint: Path) -> Iterator[Aftermath]:
    folder = platform_folder / "privacy"
    options = {
        "LOG_LEVEL": "DEBUG",
        "RELEASE_INTERVAL_SECONDS": "1",
        "FILTER_THRESHOLD": "0",
        "MAX_NEW_TOKENS": "4",
        "FEATURES_MAX_NEW_TOKENS": "8",
        "MODEL_DEVICE": "cpu",
        "OPENAI_API_KEY": API_KEY,
    }
    made = Platform(
        PlatformOptions(folder, str(checkpoint), settings={f"MINDSTREAM_{k}": v for k, v in options.items()})
    )
    try:
        made.start()
        env = {name.removeprefix("MINDSTREAM_").lower(): value for name, value in made.env.items()}
        settings = Settings.model_validate(env)
        dsn = settings.postgres_dsn.get_secret_value()
        producer = kafka.plain_producer(settings)
        for product in ("a", "b"):
            value = json.dumps({"product_id": product, "title": f"product {product}"})
            producer.produce(topics.PRODUCTS.name(settings), value, product)
        for number, (event, headers) in enumerate(hostile()):
            producer.produce(topics.PURCHASES.name(settings), event, str(number), headers=headers)  # type: ignore[arg-type]
        assert producer.flush(30) == 0
        letters = topics.dlq_name(topics.PURCHASES.name(settings), "cobuy")
        wait_for(lambda: len(list(kafka.read_all(settings, letters))) == len(hostile()) - 3, "dead letters")
        wait_for(lambda: datasets.latest(settings.datasets_url) is not None, "a release")
        known = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers}).list_topics(timeout=10).topics
        records = {
            topic: b"".join(
                b"\n".join((r.key or b"", r.value, *(name.encode() + value for name, value in r.headers)))
                for r in kafka.read_all(settings, topic)
            )
            for topic in known
            if not topic.startswith("__")
        }
        key = kept_key(folder, "customer")
        yield Aftermath(folder, key, str(conninfo_to_dict(dsn)["password"]), records, _rows(dsn))
    finally:
        made.stop()


def _rows(dsn: str) -> dict[str, str]:
    """Every row of every table of ours, as text."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        return {
            ".".join(name): "\n".join(
                row[0] for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*name)))
            )
            for name in tables
        }


def test_no_customers_id_leaves_purchases(aftermath: Aftermath) -> None:
    mark = MARK.encode()
    assert {topic for topic, content in aftermath.records.items() if mark in content} == set(RAW)
    pseudonym = hmac.digest(aftermath.key.encode(), mark, "sha256").hex()
    hashed = {topic for topic, content in aftermath.records.items() if pseudonym.encode() in content}
    assert hashed == {"purchases.by-customer", "mindstream.cobuy-customers-changelog"}
    assert aftermath.rows["kb.intentions"], "nothing reached the KB"
    assert not [table for table, rows in aftermath.rows.items() if MARK in rows or pseudonym in rows]


def test_no_file_but_kafkas_of_purchases_holds_it(aftermath: Aftermath) -> None:
    files = [path for path in aftermath.folder.rglob("*") if path.is_file()]
    with_mark = {path for path in files if MARK.encode() in path.read_bytes()}
    assert {path.parent.name.rpartition("-")[0] or path.name for path in with_mark} == set(RAW)
    releases = [path for path in files if path.suffix == ".parquet"]
    assert releases
    assert not [path for path in releases if MARK in str(pq.read_table(path).to_pylist())]
    assert [path for path in files if path.is_relative_to(aftermath.folder / "logs") and "cobuy" in path.name]


def test_the_key_is_its_owners_alone(aftermath: Aftermath, tmp_path: Path) -> None:
    path = aftermath.folder / "customer.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == aftermath.key
    assert kept_key(tmp_path, "customer") == kept_key(tmp_path, "customer") != aftermath.key
    with pytest.raises(PlatformError, match=r"cannot use .*customer\.key"):
        kept_key(tmp_path / "none", "customer")


def test_no_secret_is_in_the_log_of_any_process(aftermath: Aftermath) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in (aftermath.folder / "logs").iterdir()}
    assert len(logs) >= 9
    assert "DEBUG" in logs["kb_sink.log"]
    for secret in (aftermath.key, kept_key(aftermath.folder, "feedback"), aftermath.password, API_KEY):
        assert not [name for name, text in logs.items() if secret in text]


def test_without_a_key_the_service_does_not_start(run: Run) -> None:
    cases = {"": "cobuy: MINDSTREAM_CUSTOMER_KEY: not set", "too short": "MINDSTREAM_CUSTOMER_KEY: shorter than 32"}
    started = [(run("services.cobuy", CUSTOMER_KEY=key), key, says) for key, says in cases.items()]
    for process, key, says in started:
        code, line = process.ended()
        assert code == 2
        assert line.startswith(says)
        assert not key or key not in line


def test_the_same_customer_is_the_same_under_a_key_and_another_under_another() -> None:
    from services.cobuy.purchases import pseudonymous

    found = Purchase.FromString(order(1, "a", customer=MARK))
    one, again, other = (pseudonymous(found, key).customer_id for key in (b"1" * 32, b"1" * 32, b"2" * 32))
    assert one == again != other
    assert len(one) == 64
    assert found.customer_id == MARK
    guest = Purchase.FromString(order(1, "a"))
    assert pseudonymous(guest, b"1" * 32) == guest
