"""A KB on the real PostgreSQL, and the explorer as a process of its own before it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import sql

from deploy.local.postgres import Postgres
from deploy.local.process import free_port
from services.common import kb
from services.common.media import MediaStore
from services.common.pairs import pair_id
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.rows import COLUMNS

TIMES = ("extracted_at", "generated_at", "judged_at")
NUMBERS = ("sample", "tokens", "source_partition", "source_offset", "support")
ENDS = ("first_seen", "last_seen")
#: What a shop may call its products: the model saw no more than this.
SHOP = {
    "tripod": "Sturdy Carbon Tripod for Cameras",
    "scope": "Spotting Scope 60 mm",
    "feeder": "Bird Feeder (Brown)",
    "tent": "Two-Person Tent",
    "odd/id?&|%": "A product with an odd id",
}
FEEDBACK_KEY = "a-key-that-nobody-guesses-0123456789"
HOSTILE = {
    "x-script": "<script>window.hacked = 1</script>",
    "x-attribute": '"><img src=x onerror="window.hacked = 1">',
    "x-template": "{{ 7 * 7 }}{% raw %}${7*7}",
    "x-entity": "&lt;script&gt;window.hacked = 1&lt;/script&gt;",
    "x-rtl": "\u202egnp.live\u2066 اختبار \u2067 עברית",
    "x-emoji": "👩‍🚀🏳️‍🌈" * 50,
    "x-long": "<b>x</b>" * 12_500,
    "x-style": "</style><style>*{display:none}</style><svg onload=window.hacked=1>",
    "x-url": "javascript:window.hacked=1",
    "x-zero": "\u200b\u200d\ufeff\u0008",
}


def form(**fields: str) -> bytes:
    """A form as a browser sends it."""
    return urlencode(fields).encode()


def insert(connection: psycopg.Connection[Any], table: str, row: Mapping[str, Any]) -> None:
    """A row; what is not said is empty."""
    kinds: list[tuple[Any, Any]] = [(TIMES, "2026-01-01"), (NUMBERS, 0), (ENDS, None), (COLUMNS[table], "")]
    # Not `source`: it has an empty default, and an older KB does not have it.
    names_said = [name for name in COLUMNS[table] if name != "source"]
    empty = {name: next(value for names, value in kinds if name in names) for name in names_said}
    full = {**empty, **({"features": [], "uses": []} if table == "products" else {}), **row}
    names = sql.SQL(", ").join(map(sql.Identifier, full))
    places = sql.SQL(", ").join(map(sql.Placeholder, full))
    connection.execute(sql.SQL("INSERT INTO kb.{} ({}) VALUES ({})").format(sql.Identifier(table), names, places), full)


def insert_product(connection: psycopg.Connection[Any], product: str, title: str, **more: Any) -> None:
    """A product as one model saw it."""
    row = {"product_id": product, "content_digest": "d", "model_version": "seer@1", "prompt_version": "extractor/v1"}
    insert(connection, "products", {**row, "title": title, **more})


def insert_pair(connection: psycopg.Connection[Any], a: str, b: str, support: int, texts: Mapping[str, str]) -> str:
    """A pair with a reason under every relation, half of them kept; its id."""
    a, b = sorted((a, b), key=str.encode)
    pair = pair_id(a, b)
    insert(connection, "pairs", {"pair_id": pair, "product_a": a, "product_b": b, "support": support})
    for number, relation in enumerate(RELATIONS):
        score = 1 - number / len(RELATIONS)
        insert(
            connection,
            "intentions",
            {
                "intention_id": f"{pair}-{relation.name}",
                "pair_id": pair,
                "relation": relation.name,
                "text": texts.get(relation.name, f"reason {number}"),
                "score": score,
                "accepted": score >= 0.5,
                "threshold": 0.5,
                "source_topic": "cobuys",
                "source_offset": number,
                "generator_model": "speaker@1",
                "generator_prompt": "generator/v1",
                "filter_model": "judge@1",
                "filter_prompt": "filter/v1",
                **{f"content_digest_{side}": "d" for side in "ab"},
                **{f"extractor_model_{side}": "seer@1" for side in "ab"},
                **{f"extractor_prompt_{side}": "extractor/v1" for side in "ab"},
            },
        )
    return pair


@dataclass
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class _Still(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Still)


@dataclass
class Explorer:
    """A running explorer."""

    port: int
    health: int
    grpc: int
    process: subprocess.Popen[bytes]
    log: Path
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Answer:
        """An answer, whatever its status; redirections are not followed."""
        address = f"{self.url}{path}" + (f"?{urlencode(values, doseq=True)}" if values else "")
        request = urllib.request.Request(address, body, {**self.headers, **(headers or {})})
        try:
            with _opener.open(request, timeout=30) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers)

    def answers(self, path: str) -> int:
        """The status of an answer; 0 while nobody listens."""
        try:
            return self.ask(path).status
        except OSError:
            return 0

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def wait_for(condition: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.05)


def environment(dsn: str, folder: Path, **settings: Any) -> dict[str, str]:
    """Settings in capitals, as the explorer's process gets them."""
    given = {
        "POSTGRES_DSN": dsn,
        "MEDIA_URL": f"file://{folder}/media",
        "DATASETS_URL": f"file://{folder}/datasets",
        "HTTP_HOST": "127.0.0.1",
        "EXPLORER_AUTH": "off",
        "EXPLORER_RATE": 0,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        **settings,
    }
    return {**os.environ, **{f"MINDSTREAM_{name}": str(value) for name, value in given.items()}}


@contextmanager
def explorer(dsn: str, folder: Path, *, wait: bool = True, **settings: Any) -> Iterator[Explorer]:
    """The explorer's process, ended as an operator ends it."""
    port, health, grpc = free_port(), free_port(), free_port()
    ports = {"EXPLORER_PORT": port, "HTTP_PORT": health, "EXPLORER_GRPC_BIND": f"127.0.0.1:{grpc}"}
    log = folder / f"explorer-{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.explorer"],
            env=environment(dsn, folder, **{**ports, **settings}),
            stdout=file,
            stderr=file,
        )
    running = Explorer(port, health, grpc, process, log)
    try:
        if wait:
            wait_for(lambda: process.poll() is not None or running.ready(), "the explorer is ready")
            assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()


@dataclass(frozen=True)
class Filled:
    """A KB, and who may read it."""

    owner: str
    reader: str
    picture: str
    folder: Path


@pytest.fixture(scope="session")
def filled(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A small shop, and one that means ill."""
    from tests.extractor.pictures import encoded

    folder = tmp_path_factory.mktemp("explorer")
    postgres_server.create_database("explored")
    dsn = postgres_server.dsn("explored")
    reader = postgres_server.create_reader(kb.SCHEMA, "explored", "reads_explored")
    migrate(dsn, kb.SCHEMA, MIGRATIONS)
    picture = MediaStore(f"file://{folder}/media").put(encoded())
    with psycopg.connect(dsn) as connection:
        for product, title in SHOP.items():
            insert_product(connection, product, title, image_digest=picture, description="Seen to be of use outdoors.")
        for product, text in HOSTILE.items():
            insert_product(connection, product, text, description=text, features=[text], uses=[text, text])
        texts = {"UsedFor": "photographing birds from far away", "MadeOf": ""}
        insert_pair(connection, "tripod", "scope", 12, texts)
        insert_pair(connection, "tripod", "feeder", 7, {"UsedFor": "watching birds in the garden"})
        insert_pair(connection, "tripod", "odd/id?&|%", 3, {})
        insert_pair(connection, "tent", "scope", 2, {"UsedFor": "camping"})
        for product, text in HOSTILE.items():
            insert_pair(connection, "tripod", product, 1, dict.fromkeys((one.name for one in RELATIONS), text))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return Filled(dsn, reader, picture, folder)


@pytest.fixture(scope="session")
def site(filled: Filled) -> Iterator[Explorer]:
    """An explorer for everybody on this machine, who may judge; Kafka is away."""
    with explorer(filled.reader, filled.folder, EXPLORER_FEEDBACK_KEY=FEEDBACK_KEY) as running:
        yield running
