"""Files that are not what they should be: one line that names the place, exit code 2, nothing sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase
from typer.testing import CliRunner

from services.cli.main import app
from services.common import kafka, topics
from services.common.settings import Settings

pytestmark = pytest.mark.integration


def write(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_products_and_purchases_arrive_as_they_were_written(installation: Settings, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"bytes of a picture")
    products = write(
        tmp_path,
        {"product_id": "p1", "title": "Tripod", "image": "p.png"},
        {"product_id": "p2", "title": "Lens", "image": "https://shop.example/l.jpg"},
    )
    assert CliRunner().invoke(app, ["feed", "products", str(products)]).exit_code == 0
    found = {
        one.product_id: one
        for one in (
            Product.FromString(r.value) for r in kafka.read_all(installation, topics.PRODUCTS.name(installation))
        )
    }
    assert (found["p1"].image.content, found["p2"].image.url) == (b"bytes of a picture", "https://shop.example/l.jpg")

    purchases = write(
        tmp_path,
        {
            "order_id": "o1",
            "customer_id": "c",
            "occurred_at": "2024-05-01T10:00:00+02:00",
            "items": ["p1", {"product_id": "p2"}],
        },
        {"order_id": "o2", "occurred_at": "2024-05-01T10:00:00Z", "items": ["p1"]},
    )
    assert CliRunner().invoke(app, ["feed", "purchases", str(purchases), "--limit", "1"]).exit_code == 0
    (record,) = kafka.read_all(installation, topics.PURCHASES.name(installation))
    order = Purchase.FromString(record.value)
    assert (order.order_id, [item.product_id for item in order.items]) == ("o1", ["p1", "p2"])
    assert order.occurred_at.ToJsonString() == "2024-05-01T08:00:00Z"


@pytest.mark.parametrize(
    ("kind", "row", "line"),
    [
        ("products", "{nonsense", ":2: not JSON"),
        ("products", [1], ":2: not an object"),
        ("products", {"product_id": "p"}, ":2: title is missing"),
        ("products", {"product_id": "p", "title": "t", "image": "no-such.png"}, ":2: image 'no-such.png'"),
        ("products", {"product_id": "p", "title": "x" * 2_000_000}, "at most 1048576"),
        ("products", {"product_id": "p", "title": "\ud800"}, ":2: title holds half of a surrogate pair"),
        ("products", {"product_id": "p", "title": "t", "image": "a\0b"}, ":2: image 'a\\x00b'"),
        ("products", "[" * 100_000, ":2: not JSON"),
        ("cobuys", {"product_a": "a", "product_b": "a"}, ":2: "),
        ("cobuys", {"product_a": "a", "product_b": "b", "support": 2**64}, ":2: support"),
        ("cobuys", {"product_a": "a", "product_b": "b", "support": "many"}, ":2: support"),
        ("purchases", {"order_id": "o", "items": ["a"]}, ":2: occurred_at is missing"),
        ("purchases", {"order_id": "o", "occurred_at": "yesterday", "items": ["a"]}, ":2: occurred_at is not a time"),
        ("purchases", {"order_id": "o", "occurred_at": "0001-01-01T00:00:00+10:00", "items": ["a"]}, "is not a time"),
        ("purchases", {"order_id": "o", "occurred_at": "2024-01-01", "items": []}, ":2: items"),
        ("purchases", {"order_id": "o", "occurred_at": "2024-01-01", "items": ["\udfff"]}, ":2: product_id holds half"),
        ("purchases", {"order_id": "o", "occurred_at": "2024-01-01", "items": [7]}, ":2: an item"),
    ],
)
def test_a_mistake_names_its_line_and_nothing_is_sent(
    installation: Settings, tmp_path: Path, kind: str, row: object, line: str
) -> None:
    good = {
        "products": {"product_id": "p", "title": "t"},
        "cobuys": {"product_a": "a", "product_b": "b"},
        "purchases": {"order_id": "o", "occurred_at": "2024-01-01", "items": ["a"]},
    }[kind]
    done = CliRunner().invoke(app, ["feed", kind, str(write(tmp_path, good, row))])
    assert done.exit_code == 2
    assert line in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert list(kafka.read_all(installation, f"{installation.topic_prefix}{kind}")) == []


def test_a_file_that_is_not_there_or_not_text(installation: Settings, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["feed", "products", str(tmp_path / "none.jsonl")])
    assert (done.exit_code, "No such file" in done.output) == (2, True)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    done = CliRunner().invoke(app, ["feed", "products", str(tmp_path / "bytes.jsonl")])
    assert (done.exit_code, len(done.output.strip().splitlines())) == (2, 1)


def test_kafka_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["topics"])
    assert done.exit_code == 3
    assert done.output.strip().splitlines()[-1].startswith("mindstream: Kafka")
