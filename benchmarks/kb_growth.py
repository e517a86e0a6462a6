"""What an event costs as the tables grow: `python -m benchmarks.kb_growth --rows 1000000 --out docs/figures`.

Writes kb-growth.png and kb-growth.json: the sink's time an event, `kb query`'s p99 by what is asked, and the
extractor's admission, each at a thousand rows, at a hundred thousand and at `--rows`. Every size has a database of its
own; rounds go through all sizes in turn, so that a machine that is busy for a while is busy for all.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psycopg
from confluent_kafka import Consumer
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, JudgedIntentions
from psycopg import sql

from benchmarks.parts import Parts, started
from benchmarks.rows import machine
from services.common import kafka, kb
from services.common.ids import intention_id
from services.common.pairs import pair_id
from services.common.postgres import migrate
from services.common.records import Record
from services.common.relations import RELATIONS
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.extractor.store import MIGRATIONS as EXTRACTOR_MIGRATIONS
from services.extractor.store import SCHEMA as EXTRACTOR_SCHEMA
from services.extractor.store import Store, StoredProduct
from services.kb_sink.committer import MIGRATIONS, PostgresCommitter
from services.kb_sink.rows import rows

_TOPIC, _BATCH, _COMMITS = "intentions.judged", 100, 3
#: Pairs per product that has any.
_PAIRS_A_PRODUCT = 5
_EXPORTED = 20
#: A kind of query that has taken so long in all is not asked again.
_QUERY_SECONDS = 5.0
#: A pair of the filled KB, by number: ids are hashes, as a shop's are to their index, and popular products have many.
_FILL_PAIRS = """
    INSERT INTO kb.pairs
    SELECT a || '|' || b, a, b, 2 + n %% 40, now(), now()
    FROM (
        SELECT n, least(x, y) AS a, greatest(x, y) AS b
        FROM generate_series(1, %(pairs)s) AS n,
             LATERAL (SELECT 'P' || left(md5('p' || (%(products)s * random() ^ 3 + n * 0)::int), 14) AS x,
                             'Q' || left(md5('q' || n / %(each)s), 14) AS y) AS ids
    ) AS drawn
    ON CONFLICT DO NOTHING
"""
#: Words as a language has them: few are common, most are rare. Drawn anew for each row of `{row}`.
_WORDS = """(
    SELECT string_agg(left(translate(md5('w' || rank), '0123456789', 'ghijklmnop'), 4 + rank %% 5), ' ')
    FROM (SELECT floor({known} ^ (random() + 0 * length({row})))::int AS rank FROM generate_series(1, {count})) AS drawn
)"""
_KNOWN_WORDS = 20_000
_FILL_PRODUCTS = f"""
    INSERT INTO kb.products
    SELECT product_id, 'sha256:' || encode(sha256(product_id::bytea), 'hex'), 'model@1', 'extractor/v1',
           {_WORDS.format(known=_KNOWN_WORDS, row="product_id", count=9)} || ' ' || product_id, '',
           {_WORDS.format(known=_KNOWN_WORDS, row="product_id", count=36)}, '{{}}', '{{}}', now()
    FROM (SELECT product_a AS product_id FROM kb.pairs UNION SELECT product_b FROM kb.pairs) AS ids
"""  # noqa: S608  (a constant of ours)
_FILL_INTENTIONS = f"""
    INSERT INTO kb.intentions
    SELECT left(encode(sha256((pair_id || relation)::bytea), 'hex'), 32), pair_id, relation,
           {_WORDS.format(known=_KNOWN_WORDS, row="pair_id || relation", count=9)}, 0, 12, s, s >= 0.5, 0.5,
           'cobuys', 0, 1, '', '1',
           'sha256:' || encode(sha256(product_a::bytea), 'hex'), 'sha256:' || encode(sha256(product_b::bytea), 'hex'),
           'model@1', 'extractor/v1', 'model@1', 'extractor/v1', 'model@1', 'generator/v1', 'model@1', 'filter/v1',
           now(), now()
    FROM kb.pairs, unnest(%(relations)s::text[]) AS relation, LATERAL (SELECT random() + 0 * length(relation) AS s) AS r
"""  # noqa: S608  (a constant of ours)
_FILL_ADMITTED = """
    INSERT INTO extractor.admitted
    SELECT 'P' || left(md5('p' || n), 14) || '|Q' || left(md5('q' || n), 14), '1', 'cobuys-0-' || n
    FROM generate_series(1, %(pairs)s) AS n
"""
_FILL_CATALOGUE = """
    INSERT INTO extractor.products (product_id, title, image_digest, partition, "offset")
    SELECT 'P' || left(md5('p' || n), 14), 'A product of some brand with a title of usual length', '', 0, n
    FROM generate_series(1, %(pairs)s) AS n
"""


def word(rank: int) -> str:
    """A word that the filled KB has, the commonest first."""
    letters = hashlib.md5(f"w{rank}".encode(), usedforsecurity=False).hexdigest()
    return letters.translate(str.maketrans("0123456789", "ghijklmnop"))[: 4 + rank % 5]


class Size:
    """A database filled with so many intentions, and with as many admitted pairs and products."""

    def __init__(self, parts: Parts, count: int, extractor: bool) -> None:
        self.count = count
        name = f"kb_{count}"
        with psycopg.connect(parts.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self.dsn = parts.dsn.rsplit("/", 1)[0] + f"/{name}"
        self.settings = parts.settings(postgres_dsn=self.dsn)
        migrate(self.dsn, kb.SCHEMA, MIGRATIONS)
        migrate(self.dsn, EXTRACTOR_SCHEMA, EXTRACTOR_MIGRATIONS)
        pairs = max(1, count // len(RELATIONS))
        values = {
            "products": max(2, pairs // _PAIRS_A_PRODUCT),
            "each": _PAIRS_A_PRODUCT,
            "relations": [relation.name for relation in RELATIONS],
        }
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in (_FILL_PAIRS, _FILL_PRODUCTS, _FILL_INTENTIONS):
                connection.execute(statement, {**values, "pairs": pairs})
            for statement in (_FILL_ADMITTED, _FILL_CATALOGUE) if extractor else ():
                connection.execute(statement, {"pairs": count})
            connection.execute("VACUUM ANALYZE")
        self._next = 0

    def events(self, count: int) -> list[Record]:
        """New judged co-buys, no pair of which is there."""
        self._next += count
        return [_event(number) for number in range(self._next - count, self._next)]


def _event(number: int) -> Record:
    a, b = (f"{side}{intention_id(str(number), side, '', '', 0)[:14]}" for side in "PQ")
    made = JudgedIntentions(threshold=0.5)
    featured, pair = made.featured, pair_id(a, b)
    featured.cobuy.pair_id, featured.cobuy.product_a, featured.cobuy.product_b = pair, a, b
    for product, features in ((a, featured.product_a), (b, featured.product_b)):
        features.product_id, features.title = (
            product,
            f"A product of some brand with a title of usual length, {product}",
        )
        features.content_digest, features.description = f"sha256:{product:0>64}", "What is seen of it. " * 12
        features.extracted_by.model_version, features.extracted_by.prompt_version = "model@1", "extractor/v1"
    for relation in RELATIONS:
        score = int(intention_id(pair, relation.name, "score", "", 0)[:8], 16) / 2**32
        one = made.judged.add(score=score, verdict=VERDICT_ACCEPTED if score >= 0.5 else 2)
        one.intention.intention_id = intention_id(pair, relation.name, "model@1", "generator/v1", 0)
        one.intention.relation, one.intention.text = (
            relation.name,
            f"a reason of usual length for {a} with {b}",
        )
    made.judged_at.GetCurrentTime()
    return Record(_TOPIC, 0, number, b"k", made.SerializeToString())


@contextmanager
def sink(size: Size) -> Iterator[Callable[[], float]]:
    """Seconds an event of the sink, from rows to committed rows: the median commit."""
    committer = PostgresCommitter(size.settings)
    committer.open()
    consumer: Consumer = kafka.reader(size.settings, "bench")

    def commit() -> float:
        records = size.events(_BATCH)
        batch = [Finished(record, Result(rows=rows(record))) for record in records]
        began = time.perf_counter()
        committer.commit(batch, {(_TOPIC, 0): records[-1].offset + 1}, consumer)
        return (time.perf_counter() - began) / len(batch)

    commit()  # The first makes staging tables and plans.
    yield lambda: median(commit() for _ in range(_COMMITS))
    committer.close()
    consumer.close()


def queries(size: Size, times: int) -> dict[str, list[float]]:
    """Seconds of each query that `kb query` makes, as it makes it: by what is asked."""
    taken: dict[str, list[float]] = {}
    with psycopg.connect(size.dsn) as connection:
        found = connection.execute(
            "SELECT pair_id, product_a, product_b FROM kb.pairs ORDER BY random() LIMIT %s", [times]
        ).fetchall()
        for number in range(times):
            pair, a, b = found[number % len(found)]
            relation = RELATIONS[number % len(RELATIONS)].name
            for name, query in (
                ("product", kb.Query(product=a if number % 2 else b, limit=_EXPORTED)),
                ("pair", kb.Query(pair=pair, limit=_EXPORTED)),
                ("relation", kb.Query(relation=relation, limit=_EXPORTED)),
                ("relation, accepted", kb.Query(relation=relation, accepted_only=True, min_score=0.6, limit=_EXPORTED)),
                ("product, relation", kb.Query(product=a, relation=relation, limit=_EXPORTED)),
                ("best of all", kb.Query(limit=_EXPORTED)),
                ("best of all, accepted", kb.Query(accepted_only=True, limit=_EXPORTED)),
            ):
                seconds = taken.setdefault(name, [])
                if sum(seconds) > _QUERY_SECONDS:
                    continue
                if not seconds:  # A process's first plans, and the first pages read.
                    list(kb.intentions(connection, query, by_score=True))
                began = time.perf_counter()
                list(kb.intentions(connection, query, by_score=True))
                seconds.append(time.perf_counter() - began)
                connection.rollback()
    return taken


async def admission(settings: Settings, start: int, count: int) -> float:
    """Seconds of the extractor's statements for a co-buy: products looked up, its pair admitted, a product kept."""
    store = Store(settings.postgres_dsn.get_secret_value())
    await store.open()
    taken = []
    for number in range(start, start + count):
        a, b = (f"{side}{intention_id(str(number), side, '', '', 0)[:14]}" for side in "PQ")
        began = time.perf_counter()
        await store.products(a, b)
        await store.admit(pair_id(a, b), "1", f"cobuys-0-{number}")
        await store.upsert_product(StoredProduct(a, "A title of usual length", ""), 0, number)
        taken.append(time.perf_counter() - began)
    await store.close()
    return median(taken)


def _p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98]


def measure(parts: Parts, counts: list[int], rounds: int, sink_only: bool) -> dict[str, Any]:
    """All figures, in milliseconds, by size."""
    sizes = []
    for count in counts:
        print(f"filling {count:,} intentions ...", flush=True)
        sizes.append(Size(parts, count, not sink_only))
    sunk: dict[int, list[float]] = {size.count: [] for size in sizes}
    admitted: dict[int, list[float]] = {size.count: [] for size in sizes}
    for round_ in range(rounds):
        for size in sizes if round_ % 2 else reversed(sizes):
            with sink(size) as commit:
                sunk[size.count].append(commit())
            if not sink_only:
                admitted[size.count].append(asyncio.run(admission(size.settings, round_ * 200, 200)))
    found: dict[str, Any] = {"machine": machine(), "sink, ms an event": _ms(sunk)}
    if not sink_only:
        found["admission, ms a co-buy"] = _ms(admitted)
        found["query p99, ms"] = {}
        for size in sizes:
            for name, seconds in queries(size, 100).items():
                found["query p99, ms"].setdefault(name, {})[size.count] = round(1000 * _p99(seconds), 2)
    return found


def _ms(taken: dict[int, list[float]]) -> dict[int, float]:
    return {count: round(1000 * median(seconds), 3) for count, seconds in taken.items()}


def main() -> None:
    """Measure and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kb_growth", description=__doc__.partition(":")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="intentions in the largest KB")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sink-only", action="store_true", help="only the sink's writes (10 million rows and more)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the plot and its numbers")
    asked = parser.parse_args()
    with started(quick=False) as parts:
        counts = sorted({count for count in (1000, 100_000, asked.rows) if count <= asked.rows})
        found = measure(parts, counts, asked.rounds, asked.sink_only)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "kb-growth.json").write_text(json.dumps(found, indent=1) + "\n")
    _plot(found, asked.out / "kb-growth.png")
    print(json.dumps(found, indent=1))


def _plot(found: dict[str, Any], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (written, asked) = plt.subplots(1, 2, figsize=(11, 4))
    for name in ("sink, ms an event", "admission, ms a co-buy"):
        if name in found:
            written.plot(list(found[name]), list(found[name].values()), marker="o", label=name)
    written.set(xscale="log", ylim=(0, None), xlabel="intentions (and admitted pairs) there already", ylabel="ms")
    written.legend()
    for name, by_size in found.get("query p99, ms", {}).items():
        asked.plot(list(by_size), list(by_size.values()), marker="o", label=name)
    asked.set(xscale="log", yscale="log", xlabel="intentions there", ylabel="p99 of `kb query`'s statement (ms)")
    asked.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
