"""The explorer's lookups against the same statement through the same driver, and its p99s at a steady rate.

`python -m benchmarks.explorer --rows 1000000` is the size that the goals speak of; `python -m benchmarks --only
explorer` has a hundredth of it where it is quick.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any, BinaryIO
from urllib.parse import quote_plus, urlencode

import orjson
import psycopg
from psycopg.rows import dict_row

from benchmarks.kb_growth import Size, word
from benchmarks.parts import Parts, started
from benchmarks.rows import Row, record, table
from deploy.local.process import free_port
from services.common import kb

_RATE, _CLIENTS, _WARM_SECONDS = 100, 16, 2
#: The commonest word, two common ones, a usual, a rare and a very rare one, and two mistyped.
_SEARCHES = (
    word(1), f"{word(2)} {word(5)}", word(50), word(1500), word(12_000), f"{word(300)}x", f"{word(1502)[:-1]}q"
)  # fmt: skip


@contextmanager
def _serving(dsn: str) -> Iterator[int]:
    """The explorer as a process of its own; its port."""
    port, health = free_port(), free_port()
    settings = {"POSTGRES_DSN": dsn, "EXPLORER_AUTH": "off", "EXPLORER_RATE": "0", "EXPLORER_PORT": str(port)}
    settings |= {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(health)}
    settings |= {"MEDIA_URL": "memory://media", "DATASETS_URL": "memory://datasets"}
    env = {**os.environ, **{f"MINDSTREAM_{name}": value for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "services.explorer"], env=env, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                _get(http.client.HTTPConnection("127.0.0.1", port), "/api/v1/newest?limit=1")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the explorer does not start") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status not in (200, 404):
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
    return body


def _bare_get(connection: socket.socket, answers: BinaryIO, path: str) -> bytes:
    """The body of an answer, by a client that does no more than the other side's: `http.client` takes nearly half as
    long for the headers as the driver for a whole lookup.
    """
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    status, length = answers.readline(), 0
    while line := answers.readline().strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    if status.split()[1:2] != [b"200"]:
        raise RuntimeError(f"{path}: {status!r}")
    return answers.read(length)


def _ratio(dsn: str, port: int, pairs: list[str], rounds: int) -> tuple[float, float, float]:
    """A pair looked up by HTTP and by the bare statement: median of the rounds' ratios, and both, in seconds."""
    web = socket.create_connection(("127.0.0.1", port))
    web.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = web.makefile("rb")
    found: list[tuple[float, float]] = []
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:

        def bare(pair: str) -> int:
            statement, values = kb.statement(kb.Query(pair=pair, limit=50), by_score=True)
            return len(connection.execute(statement.encode(), values).fetchall())

        def ours(pair: str) -> int:
            return len(
                orjson.loads(_bare_get(web, answers, f"/api/v1/intentions?pair={quote_plus(pair)}&limit=50"))["items"]
            )

        for round_ in range(rounds):
            taken = {}
            for way in (bare, ours) if round_ % 2 else (ours, bare):
                began = time.perf_counter()
                for pair in pairs:
                    if way(pair) != 20:
                        raise RuntimeError(f"{pair} has not its twenty intentions")
                taken[way] = (time.perf_counter() - began) / len(pairs)
            found.append((taken[ours], taken[bare]))
    return median(a / b for a, b in found), *(median(side) for side in zip(*found, strict=True))


def _steady(port: int, seconds: float, paths: Callable[[int], str]) -> float:
    """p99 of requests that come at a steady rate, whether or not those before are answered: from when each was due.

    Those of the first seconds do not count: connections are made in them, and each plans its statements.
    """
    local = threading.local()

    def ask(path: str, due: float) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port)
        _get(local.connection, path)
        return time.perf_counter() - due

    with ThreadPoolExecutor(_CLIENTS) as clients:
        began, waiting = time.perf_counter() + 0.1, []
        for number in range(int((_WARM_SECONDS + seconds) * _RATE)):
            due = began + number / _RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(clients.submit(ask, paths(number), due))
        taken = [one.result() for one in waiting][_WARM_SECONDS * _RATE :]
        return quantiles(taken, n=100, method="inclusive")[98]


def measure_at(parts: Parts, count: int, seconds: float) -> list[Row]:
    """All rows for a KB of so many intentions."""
    size = Size(parts, count, extractor=False)
    with psycopg.connect(size.dsn) as connection:
        rows: list[Any] = connection.execute(
            "SELECT pair_id, product_a, product_b FROM kb.pairs TABLESAMPLE BERNOULLI (%s) REPEATABLE (1) LIMIT 2000",
            [min(100.0, 100 * 40_000 / count)],
        ).fetchall()
    chance = random.Random(1)
    chance.shuffle(rows)

    def of(path: str, name: str, side: int) -> Callable[[int], str]:
        return lambda number: f"{path}?" + urlencode({name: rows[number % len(rows)][side]})

    kinds: dict[str, tuple[Callable[[int], str], float]] = {
        "product page": (of("/product", "id", 1), 0.05),
        "lookup by API": (of("/api/v1/intentions", "product", 2), 0.05),
        "search": (lambda number: "/api/v1/search?" + urlencode({"q": _SEARCHES[number % len(_SEARCHES)]}), 0.15),
    }
    with _serving(size.dsn) as port:
        ratio, ours, bare = _ratio(size.dsn, port, [row[0] for row in rows[:200]], 5 if parts.quick else 9)
        p99 = {name: _steady(port, seconds, paths) for name, (paths, _) in kinds.items()}
    measured = f"{ratio:.2f} ({1000 * ours:.2f} against {1000 * bare:.2f} ms)"
    said = ", ".join(f"{name} {1000 * p99[name]:.0f} ms (goal {1000 * goal:.0f})" for name, (_, goal) in kinds.items())
    fast = all(p99[name] <= goal for name, (_, goal) in kinds.items())
    return [
        Row("explorer.lookup", "at most 3 times the bare statement, same driver", measured, ratio <= 3),
        Row("explorer.p99", f"p99 at {_RATE} requests/s on two cores, {count:,} intentions", said, fast),
    ]


def measure(parts: Parts) -> list[Row]:
    """As `python -m benchmarks` asks."""
    return measure_at(parts, 100_000 if parts.quick else 1_000_000, 5 if parts.quick else 20)


def main() -> int:
    """Measure at a size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explorer", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="intentions in the KB")
    parser.add_argument("--seconds", type=float, default=20, help="of each steady rate")
    asked = parser.parse_args()
    with started(quick=False) as parts:
        rows = measure_at(parts, asked.rows, asked.seconds)
    command = f"python -m benchmarks.explorer --rows {asked.rows} --seconds {asked.seconds:g}"
    table(rows)
    record((row, command) for row in rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
