"""The KB as it was at one moment, streamed: nothing here holds more than a few pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg.rows import dict_row, tuple_row

from services.common.kb import JOIN_PRODUCTS
from services.common.postgres import world_faults
from services.common.relations import sentence

Row = dict[str, Any]

#: Rows fetched at a time.
_FETCHED = 5000
_PRODUCTS_OF = JOIN_PRODUCTS.format(pair="p")
_INTENTIONS = """
    SELECT i.intention_id, i.pair_id, p.product_a, p.product_b, a.title AS title_a, b.title AS title_b,
           a.image_digest AS image_a, b.image_digest AS image_b, i.relation, i.text, i.score, i.accepted, i.threshold,
           i.extractor_model_a, i.extractor_prompt_a, i.extractor_model_b, i.extractor_prompt_b,
           i.generator_model, i.generator_prompt, i.filter_model, i.filter_prompt, i.judged_at,
           f.people_up, f.people_down
    FROM kb.intentions i JOIN kb.pairs p USING (pair_id)
    {products}
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE up) AS people_up, count(*) FILTER (WHERE NOT up) AS people_down
        FROM kb.feedback WHERE pair_id = i.pair_id AND intention_id = i.intention_id
    ) f
    {where}
    ORDER BY i.pair_id, i.intention_id
"""
#: What splits and pools are decided by; order is of no use to them.
_OUTLINE = """
    SELECT i.intention_id, i.pair_id, p.product_a, p.product_b, i.relation, i.text, i.score, i.accepted
    FROM kb.intentions i JOIN kb.pairs p USING (pair_id)
    {where}
"""
_PRODUCTS = """
    SELECT product_id, content_digest, model_version, prompt_version, title, image_digest, description, features, uses
    FROM kb.products ORDER BY product_id, content_digest, model_version, prompt_version
"""


class Snapshot:
    """Reads that all see the same KB."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def outline(self, relation: str = "") -> Iterator[tuple[str, str, str, str, str, str, float, bool]]:
        """Of all intentions, or a relation's, id, pair, products, relation, text, score and verdict, in no order."""
        where = "WHERE i.relation = %(relation)s" if relation else ""
        yield from self._rows(_OUTLINE.format(where=where), tuple_row, {"relation": relation})

    def pairs(self) -> Iterator[list[Row]]:
        """All intentions of each pair, in an order that follows from their ids."""
        for _, rows in groupby(
            self._intentions(_INTENTIONS.format(products=_PRODUCTS_OF, where="")), key=itemgetter("pair_id")
        ):
            yield list(rows)

    def pairs_of(self, pairs: Sequence[str], at_once: int) -> Iterator[list[Row]]:
        """All intentions of each of these pairs, which are in order."""
        for begin in range(0, len(pairs), at_once):
            for _, rows in groupby(self.intentions(pairs[begin : begin + at_once]), key=itemgetter("pair_id")):
                yield list(rows)

    def intentions(self, pairs: Sequence[str]) -> list[Row]:
        """All intentions of these pairs."""
        return list(
            self._intentions(
                _INTENTIONS.format(products=_PRODUCTS_OF, where="WHERE i.pair_id = ANY(%(pairs)s)"), pairs=list(pairs)
            )
        )

    def products(self) -> Iterator[Row]:
        """What was extracted of each product, once for each content, model and prompt version."""
        yield from self._rows(_PRODUCTS, dict_row)

    def offsets(self) -> list[tuple[str, int, int]]:
        """How far the sink had read: topic, partition, next offset."""
        return list(self._rows("SELECT topic, partition, next_offset FROM kb.offsets ORDER BY 1, 2", tuple_row))

    def _intentions(self, sql: str, **values: Any) -> Iterator[Row]:
        for row in self._rows(sql, dict_row, values):
            row["sentence"] = sentence(row["relation"], row["text"])
            yield row

    def _rows(self, sql: str, factory: Any, values: dict[str, Any] | None = None) -> Iterator[Any]:
        with world_faults(), self._connection.cursor("release", row_factory=factory) as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(sql, values)
            yield from cursor


@contextmanager
def snapshot(dsn: str) -> Iterator[Snapshot]:
    """Open one.

    Raises:
        WorldFault: the database is away.
    """
    with world_faults(), psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield Snapshot(connection)
