"""Reading the knowledge base: what the command line and the explorer ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from services.common.postgres import world_faults
from services.common.relations import sentence

SCHEMA = "kb"
#: Longest reason that a person gives with a verdict.
REASON_CHARACTERS = 500
#: Both products of an intention `i`, as they were when it was generated; `{pair}` has the pair's product ids.
JOIN_PRODUCTS = """
    JOIN kb.products a ON a.product_id = {pair}.product_a AND a.content_digest = i.content_digest_a
         AND a.model_version = i.extractor_model_a AND a.prompt_version = i.extractor_prompt_a
    JOIN kb.products b ON b.product_id = {pair}.product_b AND b.content_digest = i.content_digest_b
         AND b.model_version = i.extractor_model_b AND b.prompt_version = i.extractor_prompt_b
"""

#: The rows that are asked for are found first, by indexes in their order, and then get their products: of the joins'
#: four columns the planner cannot know that each row has one product, and it would sort all rows before the first.
_SELECT = """
    SELECT i.intention_id, i.pair_id, i.product_a, i.product_b, a.title AS title_a, b.title AS title_b,
           a.image_digest AS image_a, b.image_digest AS image_b,
           i.relation, i.text, i.sample, i.score, i.accepted, i.threshold, i.support,
           i.extractor_model_a, i.extractor_prompt_a, i.extractor_model_b, i.extractor_prompt_b,
           i.generator_model, i.generator_prompt,
           i.filter_model, i.filter_prompt, i.pipeline_version,
           i.source, i.source_topic, i.source_partition, i.source_offset, i.source_event_id,
           i.generated_at, i.judged_at, i.written_at {more}
    FROM ({rows}) i
    {products}
    ORDER BY {order}
"""
_ROWS = """
    SELECT i.*, p.product_a, p.product_b, p.support FROM kb.intentions i JOIN kb.pairs p USING (pair_id)
    WHERE {where} {first}
"""
#: Of a product: down the scores, past the rows of others; its pairs are asked for once, and kept as a hash table.
_ROWS_OF_PRODUCT = """
    SELECT i.*, p.product_a, p.product_b, p.support
    FROM (
        SELECT i.* FROM kb.intentions i
        WHERE (i.pair_id IN (SELECT pair_id FROM kb.pairs WHERE %(product)s IN (product_a, product_b))) IS TRUE
        AND {where} {first}
    ) i
    JOIN kb.pairs p USING (pair_id)
"""
#: The same from its pairs on: the primary key's index alone tells which rows they are. The planner does not look across
#: OFFSET 0: it would not see that a pair's rows stand together, and read all of a relation.
_ROWS_BY_PAIRS = """
    SELECT i.*, best.product_a, best.product_b, best.support
    FROM (
        SELECT p.*, i.intention_id FROM kb.pairs p CROSS JOIN LATERAL (
            SELECT i.* FROM kb.intentions i WHERE i.pair_id = p.pair_id AND {where} OFFSET 0
        ) i
        WHERE %(product)s IN (p.product_a, p.product_b) {first}
    ) best
    JOIN kb.intentions i USING (pair_id, intention_id)
"""

#: The best of a product with n of N intentions: by its pairs all n are read, of an index; by score N / n for each that
#: is found, of the table. The factor is where both take as long (`python -m benchmarks.kb_growth`).
FEW_PAIRS = """
    SELECT count(*) ^ 2 < (SELECT reltuples / 4 FROM pg_class WHERE oid = 'kb.intentions'::regclass)
    FROM kb.pairs WHERE %s IN (product_a, product_b)
"""
_BY_SCORE = "i.score DESC, i.intention_id"
#: All counts; and by relation.
COUNTS = (
    "SELECT (SELECT count(*) FROM kb.pairs) AS pairs, "
    "(SELECT count(DISTINCT product_id) FROM kb.products) AS products, count(*) AS intentions, "
    "count(*) FILTER (WHERE accepted) AS accepted, count(*) FILTER (WHERE text = '') AS empty, "
    "max(written_at) AS newest FROM kb.intentions"
)
RELATION_COUNTS = (
    "SELECT relation, count(*) AS intentions, count(*) FILTER (WHERE accepted) AS accepted, "
    "avg(score) AS mean_score FROM kb.intentions GROUP BY relation ORDER BY relation"
)


@dataclass(frozen=True)
class Query:
    """Which intentions; empty fields do not narrow."""

    product: str = ""
    pair: str = ""
    relation: str = ""
    min_score: float = 0.0
    accepted_only: bool = False
    limit: int | None = None
    #: Score and id of the last row that was given already, by score.
    after: tuple[float, str] | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        """SQL conditions on intentions `i`, and all parameters: of which product they are, `statement` says."""
        conditions = ["i.score >= %(min_score)s"]
        values: dict[str, Any] = {"min_score": self.min_score}
        if self.product:
            values["product"] = self.product
        if self.pair:
            conditions.append("i.pair_id = %(pair)s")
            values["pair"] = self.pair
        if self.relation:
            conditions.append("i.relation = %(relation)s")
            values["relation"] = self.relation
        if self.accepted_only:
            conditions.append("i.accepted")
        if self.after:
            # The first condition says no more than the second, but it is one that an index can begin at.
            conditions.append("i.score <= %(score)s AND (i.score < %(score)s OR i.intention_id > %(id)s)")
            values["score"], values["id"] = self.after
        return " AND ".join(conditions), values


def statement(query: Query, *, by_score: bool, by_pairs: bool = True) -> tuple[str, dict[str, Any]]:
    """SQL of the rows that are asked for, and its parameters.

    A product's are found by its pairs; or else by score, which takes long where it has few pairs (`FEW_PAIRS`).
    """
    where, values = query.where()
    order = _BY_SCORE if by_score else "i.pair_id, i.relation, i.sample, i.intention_id"
    of_product = _ROWS_BY_PAIRS if by_pairs else _ROWS_OF_PRODUCT
    return _selected(where, order, query.limit, rows=of_product if query.product else _ROWS), values


@dataclass(frozen=True)
class Position:
    """A place in the order in which intentions were written: behind this row. The default is before the first."""

    xact: int = 0
    pair_id: str = ""
    intention_id: str = ""


def changes(after: Position, limit: int) -> tuple[str, dict[str, Any]]:
    """SQL of the next rows behind a position, with their `written_xact`, and its parameters.

    Rows of transactions that began before one still under way wait for it: whoever follows the positions misses none.
    """
    where = (
        "(i.written_xact, i.pair_id, i.intention_id) > (%(xact)s::text::xid8, %(pair)s, %(id)s) "
        "AND i.written_xact < pg_snapshot_xmin(pg_current_snapshot())"
    )
    values = {"xact": str(after.xact), "pair": after.pair_id, "id": after.intention_id}
    order = "i.written_xact, i.pair_id, i.intention_id"
    return _selected(where, order, limit, more=", i.written_xact::text AS written_xact"), values


def newest(limit: int) -> str:
    """SQL of the newest rows that have a text, newest first."""
    return _selected("i.text <> ''", "i.written_xact DESC, i.pair_id DESC, i.intention_id DESC", limit)


def matching(limit: int) -> str:
    """SQL of the best accepted rows whose text has the words of the tsquery `%(words)s`.

    To be planned with its words, never prepared: rare ones are found by their index and then sorted, rows that have
    common ones are met soon on the way down the scores.
    """
    return _selected("i.accepted AND i.words @@ %(words)s::tsquery", _BY_SCORE, limit)


def _selected(where: str, order: str, limit: int | None, *, rows: str = _ROWS, more: str = "") -> str:
    first = f"ORDER BY {order} LIMIT {int(limit)}" if limit is not None else ""
    products = JOIN_PRODUCTS.format(pair="i")
    return _SELECT.format(rows=rows.format(where=where, first=first), order=order, more=more, products=products)


def intentions(
    connection: psycopg.Connection[Any], query: Query, *, by_score: bool = False
) -> Iterator[dict[str, Any]]:
    """Intentions with their products' titles and full provenance, streamed; by id unless `by_score`."""
    with world_faults(), connection.cursor("kb_export", row_factory=dict_row) as cursor:
        few = connection.execute(FEW_PAIRS, [query.product]).fetchone() if query.product else None
        cursor.itersize = 2000
        cursor.execute(*statement(query, by_score=by_score, by_pairs=few is not None and few[0]))
        for row in cursor:
            row["sentence"] = sentence(row["relation"], row["text"])
            yield row


def stats(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Counts, and per relation how many are kept."""
    with world_faults(), connection.cursor(row_factory=dict_row) as cursor:
        counts = cursor.execute(COUNTS).fetchone()
        relations = cursor.execute(RELATION_COUNTS).fetchall()
    return {**(counts or {}), "relations": relations}
