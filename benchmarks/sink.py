"""The sink against a bare COPY of the same rows into tables with the same columns and indexes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from mindstream.events.v1.intention_pb2 import JudgedIntentions

from benchmarks.parts import Parts
from benchmarks.rows import Row
from services.common import kafka, topics
from services.common.ids import intention_id
from services.common.records import Record
from services.common.relations import RELATIONS
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.rows import COLUMNS, rows

_BATCH = 500


def _record(topic: str, offset: int, round_: int) -> Record:
    a, b = f"{round_}a{offset:06d}", f"{round_}b{offset:06d}"
    made = JudgedIntentions(threshold=0.5)
    featured = made.featured
    featured.cobuy.pair_id, featured.cobuy.product_a, featured.cobuy.product_b = f"{a}|{b}", a, b
    for product, features in ((a, featured.product_a), (b, featured.product_b)):
        features.product_id, features.title = (
            product,
            f"A product of some brand with a title of usual length, {product}",
        )
        features.content_digest = f"sha256:{product:0>64}"
        features.description = (
            "What the picture and the title say of it, in two or three sentences of usual length. " * 3
        )
        features.extracted_by.model_version, features.extracted_by.prompt_version = "model@1", "extractor/v1"
    for relation in RELATIONS:
        one = made.judged.add(score=0.5)
        one.intention.intention_id = intention_id(f"{a}|{b}", relation.name, "model@1", "generator/v1", 0)
        one.intention.relation, one.intention.text = relation.name, f"a reason of usual length for buying {a} with {b}"
    return Record(topic, 0, offset, b"k", made.SerializeToString())


def _sink(settings: Settings, records: Sequence[Record], start: int) -> float:
    """Intentions per second, from the records' bytes to committed rows.

    As in the worker, one thread decodes the next batch while another commits this one.
    """
    committer = PostgresCommitter(settings)
    committer.open()
    consumer = kafka.reader(settings, "bench")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as handlers:
        decoding = [handlers.submit(_decoded, records[at : at + _BATCH]) for at in range(0, len(records), _BATCH)]
        done = start
        for batch in (each.result() for each in decoding):
            done += len(batch)
            committer.commit(batch, {(records[0].topic, 0): done}, consumer)
    taken = time.monotonic() - began
    committer.close()
    consumer.close()
    return len(records) * len(RELATIONS) / taken


def _decoded(records: Sequence[Record]) -> list[Finished]:
    return [Finished(record, Result(rows=rows(record))) for record in records]


def _copy(settings: Settings, records: Sequence[Record]) -> float:
    """Intentions per second of COPY of the same rows, which are there already."""
    batches = [[rows(record) for record in records[at : at + _BATCH]] for at in range(0, len(records), _BATCH)]
    with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
        for table in COLUMNS:
            connection.execute(f"DROP TABLE IF EXISTS bare_{table}")
            connection.execute(f"CREATE TABLE bare_{table} (LIKE kb.{table} INCLUDING ALL)")
        connection.commit()
        began = time.monotonic()
        for batch in batches:
            for table, columns in COLUMNS.items():
                with connection.cursor().copy(f"COPY bare_{table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for made in batch:
                        for row in made.tables[table]:
                            copy.write_row(row)
            connection.commit()
        taken = time.monotonic() - began
    return len(records) * len(RELATIONS) / taken


def measure(parts: Parts) -> list[Row]:
    """Alternating rounds; the median of the rounds' ratios."""
    records, rounds = (4_000, 3) if parts.quick else (6_000, 5)
    settings, pairs = parts.settings(), []
    topic = topics.JUDGED.name(settings)
    for round_ in range(rounds):
        made = [_record(topic, round_ * records + number, round_) for number in range(records)]
        pairs.append((_sink(settings, made, round_ * records), _copy(settings, made)))
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    rates = [statistics.median(side) for side in zip(*pairs, strict=True)]
    measured = f"{ratio:.2f} ({rates[0]:,.0f} against {rates[1]:,.0f} rows/s)"
    return [Row("pipeline.sink", "at least 0.60 of a bare COPY's rows/s", measured, ratio >= 0.6)]
