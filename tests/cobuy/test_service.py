"""The service as a process on the real broker."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from mindstream.events.v1.cobuy_pb2 import CoBuy, PairOccurrence
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common import kafka, topics
from services.common.dead_letters import value_bytes
from services.common.lag import lag, lags
from services.common.pairs import pair_id
from services.common.settings import Settings
from tests.conftest import delete, grow

pytestmark = pytest.mark.integration


@contextmanager
def service(settings: Settings, folder: Path, **overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "MINDSTREAM_TOPIC_PARTITIONS": str(settings.topic_partitions),
        "MINDSTREAM_STATE_DIR": str(folder),
        "MINDSTREAM_SESSION_TIMEOUT_SECONDS": "6",
        "MINDSTREAM_CUSTOMER_KEY": "k" * 32,
        "MINDSTREAM_HTTP_HOST": "127.0.0.1",
        "MINDSTREAM_HTTP_PORT": "0",
        **overrides,
    }
    with (folder / "cobuy.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "services.cobuy"], env=env, stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def send(settings: Settings, events: list[tuple[bytes, list[tuple[str, bytes]]]]) -> None:
    producer = kafka.plain_producer(settings)
    for number, (value, headers) in enumerate(events):
        producer.produce(topics.PURCHASES.name(settings), value, str(number), headers=headers)  # type: ignore[arg-type]
    assert producer.flush(30) == 0


def drained(settings: Settings) -> bool:
    return not any(one.records for one in lags(settings) if one.group == "cobuy")


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not drained"
        threading.Event().wait(0.3)


def order(number: int, *items: str, customer: str = "") -> bytes:
    made = Purchase(order_id=f"o{number}", customer_id=customer)
    made.occurred_at.FromSeconds(1_700_000_000 + number)
    for item in items:
        made.items.add(product_id=item)
    return made.SerializeToString()


def pairs(settings: Settings) -> list[str]:
    return [CoBuy.FromString(r.value).pair_id for r in kafka.read_all(settings, topics.COBUYS.name(settings))]


def test_cobuys_of_good_orders_and_dead_letters_of_bad_ones(settings: Callable[..., Settings], tmp_path: Path) -> None:
    made = settings(topic_partitions=2)
    in_json = json.dumps(
        {"order_id": "j1", "customer_id": "c1", "occurred_at": "2023-11-14T22:13:30Z", "items": [{"product_id": "c"}]}
    ).encode()
    send(
        made,
        [
            (order(1, "a", "b", "a"), []),
            (order(2, "b", "a"), []),
            (order(2, "b", "a"), []),  # resent
            (order(3, "a", "z"), []),  # once only: below the minimum support
            (order(4, "d", customer="c1"), []),
            (in_json, [("content-type", b"application/json")]),
            (order(5, "c", "d", customer="c9"), []),
            (b"\xff\xff\xff", []),
            (order(6), []),
            (b"<xml/>", [("content-type", b"text/xml")]),
            (order(7, "bad\x00id"), []),
        ],
    )
    with service(made, tmp_path):
        wait_for(lambda: drained(made))
    assert sorted(pairs(made)) == ["a|b", "c|d"]
    letters = kafka.read_all(made, topics.dlq_name(topics.PURCHASES.name(made), "cobuy"))
    labels = sorted(letter.text_header("mindstream-dlq-reason") for letter in letters)
    assert labels == ["content_type", "invalid", "invalid", "undecodable"]


def test_hostile_events_are_dead_letters_and_stop_nobody(settings: Callable[..., Settings], tmp_path: Path) -> None:
    made = settings(topic_partitions=2)
    origins = (
        b"x/0/99999999999999999999",
        b"stg.purchases/0/5",
        made.topic_prefix.encode() + b"purchases/0/" + b"9" * 99,
    )
    send(
        made,
        [
            (order(1, "a", "b"), []),
            (b"x" * 500_000, []),  # more than a dead letter carries at this limit
            (order(2, "c"), [("traceparent", b"0" * 40_000)]),
            *((order(number, "a", "b"), [("mindstream-origin", origin)]) for number, origin in enumerate(origins, 3)),
            *((b"\xff", [("mindstream-origin", origin)]) for origin in origins),
        ],
    )
    with service(made, tmp_path, MINDSTREAM_EVENT_MAX_BYTES="8192") as process:
        wait_for(lambda: process.poll() is not None or drained(made))
        assert process.poll() is None
    assert pairs(made) == ["a|b"]
    letters = list(kafka.read_all(made, topics.dlq_name(topics.PURCHASES.name(made), "cobuy")))
    labels = sorted(letter.text_header("mindstream-dlq-reason") for letter in letters)
    assert labels == ["too_large"] * 2 + ["undecodable"] * 3
    assert [value_bytes(letter) for letter in letters if letter.key == b"1"] == [500_000]


def test_the_lag_of_a_replayed_purchase_becomes_zero(settings: Callable[..., Settings], tmp_path: Path) -> None:
    made = settings(topic_partitions=1)
    producer = Producer(kafka.producer_config(made, **{"transactional.id": made.topic_prefix + "replay"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topics.PURCHASES.name(made), order(1, "a", "b"), b"k")
    assert producer.flush(30) == 0
    # Before it is committed as well: its markers stand there only after its writer was told.
    assert lag(made, topics.PURCHASES, "cobuy")
    producer.commit_transaction(30)
    assert lag(made, topics.PURCHASES, "cobuy")
    with service(made, tmp_path):
        wait_for(lambda: drained(made))


@pytest.mark.parametrize("away", ["kafka", "topics"])
def test_without_kafka_or_topics_it_ends_with_one_line(kafka: str, tmp_path: Path, away: str) -> None:
    nobody = Settings(kafka_bootstrap_servers="127.0.0.1:1" if away == "kafka" else kafka, topic_prefix="nobody.")
    with service(nobody, tmp_path) as process:
        assert process.wait(120) == (3 if away == "kafka" else 2)
    lines = (tmp_path / "cobuy.log").read_text().strip().splitlines()
    assert len([line for line in lines if line.startswith("cobuy: ")]) == 1
    assert "Traceback" not in "".join(lines)


def test_an_order_that_is_cut_short_by_sigterm_is_done_anew(settings: Callable[..., Settings], tmp_path: Path) -> None:
    made = settings(topic_partitions=1)
    items = [f"p{number:03d}" for number in range(150)]
    expected = {pair_id(*pair) for pair in itertools.combinations(items, 2)}

    def occurred() -> set[str]:
        records = kafka.read_all(made, topics.OCCURRENCES.name(made))
        return {PairOccurrence.FromString(record.value).pair_id for record in records}

    send(made, [(order(1, *items), [])])
    with service(made, tmp_path, MINDSTREAM_COBUY_MAX_BASKET="150") as process:
        wait_for(lambda: bool(occurred()))
        process.terminate()
        assert process.wait(60) == 0
    assert len(occurred()) < len(expected), "it was over too soon for this to say anything"
    with service(made, tmp_path, MINDSTREAM_COBUY_MAX_BASKET="150"):
        wait_for(lambda: occurred() == expected)


@pytest.mark.parametrize("change", ["grown", "deleted"])
def test_topics_that_change_end_it_with_one_line(
    settings: Callable[..., Settings], tmp_path: Path, change: str
) -> None:
    made = settings(topic_partitions=2)
    send(made, [(order(1, "a", "b"), []), (order(2, "a", "b"), [])])
    topic = topics.PURCHASES_BY_CUSTOMER.name(made)
    with service(made, tmp_path, MINDSTREAM_TOPIC_PARTITIONS="2") as process:
        wait_for(lambda: pairs(made) == ["a|b"])
        if change == "grown":
            grow(made, topic, 4)
        else:
            delete(made, topic)
        assert process.wait(90) == 2
    said = (tmp_path / "cobuy.log").read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"cobuy: {'' if change == 'grown' else 'no '}topic {topic}")


def test_kill_9_loses_no_pair(settings: Callable[..., Settings], tmp_path: Path) -> None:
    made = settings(topic_partitions=2)
    names = [f"p{i}" for i in range(20)]
    expected = {"|".join(sorted((names[i], names[(i * 7 + 3) % 20]))) for i in range(20) if i != (i * 7 + 3) % 20}
    events = [
        (order(100 * round_ + i, names[i], names[(i * 7 + 3) % 20]), list[tuple[str, bytes]]())
        for round_ in range(1, 4)
        for i in range(20)
    ]
    done_before = -1
    for part in range(3):
        send(made, events[part * 20 : part * 20 + 20])
        with service(made, tmp_path):
            # Killed as soon as anything of this part came out, wherever the rest is.
            wait_for(lambda: len(list(kafka.read_all(made, topics.OCCURRENCES.name(made)))) > done_before)  # noqa: B023
            done_before = len(list(kafka.read_all(made, topics.OCCURRENCES.name(made))))
    done = False
    for _ in range(3):  # As its supervisor does: a worker that ended is started again.
        with service(made, tmp_path) as process:
            wait_for(lambda: process.poll() is not None or drained(made))
            done = process.poll() is None
        if done:
            break
    assert set(pairs(made)) == expected
