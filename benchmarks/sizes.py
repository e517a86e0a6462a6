"""What a co-buy takes in Kafka, in PostgreSQL and in a release: `python -m benchmarks.sizes [--cobuys 5000]`.

Records are made by the null model's answers, of usual length, and written by the services' own code; tables are filled
by the sink's and the extractor's own. A record is counted as key, headers and value; Kafka stores some 15 bytes more.
What `mindstream plan` reckons with (services/cli/planning/measured.py) is from here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from mindstream.events.v1.cobuy_pb2 import CoBuy, PairOccurrence
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    CandidateIntentions,
    JudgedIntentions,
)
from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase
from rich.console import Console
from rich.table import Table

from benchmarks.parts import Parts, started
from services.common import kafka, kb, topics
from services.common.ids import intention_id
from services.common.pairs import pair_id
from services.common.postgres import migrate
from services.common.records import Record, output
from services.common.relations import RELATIONS
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.common.topics import Topic
from services.extractor.store import MIGRATIONS as EXTRACTOR_MIGRATIONS
from services.extractor.store import SCHEMA as EXTRACTOR_SCHEMA
from services.extractor.store import Store, StoredProduct
from services.kb_sink.committer import MIGRATIONS, PostgresCommitter
from services.kb_sink.rows import rows

_MODEL, _BATCH = "llava-hf/llava-1.5-13b-hf@sha256:000000000000", 500
#: Products of a purchase, and so its pairs.
_ITEMS = 3
#: Pairs a product is in: the paper's knowledge base has 126,142 of 107,215 products (arXiv 2406.10701, section 4).
_PAIRS_A_PRODUCT = 2 * 126_142 / 107_215
_TABLES = (
    "kb.intentions", "kb.pairs", "kb.products", "kb.grams", "extractor.admitted", "extractor.products",
    "extractor.features",
)  # fmt: skip


class Sizes:
    """Bytes of key, headers and value by topic, and how many records."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.records: Counter[str] = Counter()

    def made(self, topic: Topic, key: str, message: Any, stage: str, cause: Record | None) -> Record:
        """The record that a stage writes, as the next one reads it; counted."""
        out = output(topic, topic.base, key, message, stage=stage, cause=cause)
        record = Record(topic.base, 3, self.records[topic.base], out.key, out.value, out.headers)
        self.bytes[topic.base] += record.envelope_bytes + len(record.value)
        self.records[topic.base] += 1
        return record


def _title(product: str) -> str:
    return f"A product of some brand with a title of usual length, in blue, pack of two, {product}"


def _features(product: str) -> ProductFeatures:
    tag = intention_id(product, "", "", "", 0)
    made = ProductFeatures(product_id=product, title=_title(product), content_digest=f"sha256:{tag:0>64}")
    made.image_digest = f"sha256:{tag[::-1]:0>64}"
    made.description = f"A thing of {tag[:8]} for use outdoors, with a handle and a lid, as large as a hand, of steel."
    made.features.extend(f"made of {tag[at : at + 6]}" for at in range(0, 24, 3))
    made.uses.extend(f"used for {tag[at : at + 6]} on the way" for at in range(2))
    made.extracted_by.model_version, made.extracted_by.prompt_version = _MODEL, "extractor/v1"
    made.extracted_by.at.GetCurrentTime()
    return made


def judged(sizes: Sizes, count: int) -> Iterator[tuple[Record, JudgedIntentions]]:
    """Co-buys as they come before the sink; every topic they pass on the way is counted."""
    products = max(2, round(2 * count / _PAIRS_A_PRODUCT))
    ids = [f"B{intention_id(str(number), 'p', '', '', 0)[:9].upper()}" for number in range(products)]
    for product in ids:
        sizes.made(topics.PRODUCTS, product, Product(product_id=product, title=_title(product)), "feed", None)
        sizes.made(topics.FEATURES, product, _features(product), "extractor", None)
    for number in range(count):
        a, b = ids[number % products], ids[(number * 7919 + 1) % products]
        pair = pair_id(a, b)
        order = f"order-{number:012d}"
        bought = Purchase(order_id=order, customer_id=intention_id(str(number), "c", "", "", 0))
        bought.occurred_at.GetCurrentTime()
        for product in (a, b, ids[number * 31 % products])[:_ITEMS]:
            bought.items.add(product_id=product, quantity=1)
        purchase = sizes.made(topics.PURCHASES, order, bought, "feed", None)
        sizes.made(topics.PURCHASES_BY_CUSTOMER, bought.customer_id, bought, "cobuy", purchase)
        occurrence = PairOccurrence(pair_id=pair, order_id=order, product_a=a, product_b=b)
        occurrence.occurred_at.GetCurrentTime()
        sizes.made(topics.OCCURRENCES, pair, occurrence, "cobuy", purchase)
        cobuy = CoBuy(pair_id=pair, product_a=a, product_b=b, support=2)
        for stamp in (cobuy.first_seen, cobuy.last_seen):
            stamp.GetCurrentTime()
        asked = sizes.made(topics.COBUYS, pair, cobuy, "cobuy", purchase)
        featured = FeaturedCoBuy(cobuy=cobuy, product_a=_features(a), product_b=_features(b), source=asked.source)
        featured.pipeline_version = "1"
        featured.featured_at.GetCurrentTime()
        seen = sizes.made(topics.FEATURED, pair, featured, "extractor", asked)
        candidates, done = CandidateIntentions(featured=featured), JudgedIntentions(featured=featured, threshold=0.5)
        for call in (candidates.generated_by, done.generated_by, done.judged_by):
            call.model_version, call.prompt_version = _MODEL, "generator/v1"
            call.at.GetCurrentTime()
        for relation in RELATIONS:
            key = intention_id(pair, relation.name, _MODEL, "generator/v1", 0)
            one = candidates.candidates.add(intention_id=key, relation=relation.name, tokens=16)
            one.text = f"the customer is fond of doing what {key[:12]} and {key[12:24]} are both good for"
            score = int(key[:8], 16) / 2**32
            verdict = VERDICT_ACCEPTED if score >= 0.5 else VERDICT_REJECTED
            done.judged.add(intention=one, score=score, verdict=verdict)
        done.judged_at.GetCurrentTime()
        written = sizes.made(topics.CANDIDATES, pair, candidates, "generator", seen)
        yield sizes.made(topics.JUDGED, pair, done, "filter", written), done


async def _extractor_tables(settings: Settings, found: list[JudgedIntentions]) -> None:
    store = Store(settings.postgres_dsn.get_secret_value())
    await store.open()
    for number, one in enumerate(found):
        origin = f"cobuys-3-{number}"
        await store.admit(one.featured.cobuy.pair_id, "1", origin)
        for product in (one.featured.product_a, one.featured.product_b):
            kept = StoredProduct(product.product_id, product.title, product.image_digest)
            await store.upsert_product(kept, 3, number)
            await store.keep_features(product, "1", origin)
    await store.close()


def measure(parts: Parts, count: int) -> dict[str, float]:
    """Bytes by what they are of."""
    settings, sizes = parts.settings(), Sizes()
    kafka.create_topics(settings, topics.specs(settings))  # A release is announced.
    dsn = settings.postgres_dsn.get_secret_value()
    migrate(dsn, kb.SCHEMA, MIGRATIONS)
    migrate(dsn, EXTRACTOR_SCHEMA, EXTRACTOR_MIGRATIONS)
    made = list(judged(sizes, count))
    committer, consumer = PostgresCommitter(settings), kafka.reader(settings, "bench")
    committer.open()
    for at in range(0, count, _BATCH):
        batch = [Finished(record, Result(rows=rows(record))) for record, _ in made[at : at + _BATCH]]
        committer.commit(batch, {(topics.JUDGED.base, 3): at + len(batch)}, consumer)
    committer.close()
    consumer.close()
    asyncio.run(_extractor_tables(settings, [one for _, one in made]))
    found = {f"{name}, a record": sizes.bytes[name] / sizes.records[name] for name in sizes.bytes}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        for table in _TABLES:
            size, number = connection.execute(
                f"SELECT pg_total_relation_size(%s::regclass), (SELECT count(*) FROM {table})",  # noqa: S608
                (table,),
            ).fetchone() or (0, 0)
            found[f"{table}, a row with its indexes"] = size / number
    found["release, an intention"] = _release(parts, settings) / (count * len(RELATIONS))
    return found


def _release(parts: Parts, settings: Settings) -> int:
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as folder:
        environment = {
            **os.environ,
            "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": parts.bootstrap_servers,
            "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "MINDSTREAM_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
            "MINDSTREAM_DATASETS_URL": f"file://{folder}",
            "MINDSTREAM_RELEASE_SPLIT": "pair",
        }
        subprocess.run([sys.executable, "-m", "services.kb_sink.releases", "--once"], env=environment, check=True)
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def main() -> None:
    """Print the table, and the same as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__.partition(":")[0])
    parser.add_argument("--cobuys", type=int, default=5000)
    asked = parser.parse_args()
    with started(True) as parts:
        found = measure(parts, asked.cobuys)
    table = Table("what", "bytes")
    for name, size in found.items():
        table.add_row(name, f"{size:,.0f}")
    Console().print(table)
    print(json.dumps({name: round(size) for name, size in found.items()}))


if __name__ == "__main__":
    main()
