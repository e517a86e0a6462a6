"""Which intentions of the KB raters are shown, and what the filter said of those that were rated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from services.common.kb import JOIN_PRODUCTS
from services.common.postgres import world_faults
from services.common.relations import sentence

#: By what a sample is stratified: each value gets as many, as far as it has them.
STRATA = {"relation": "relation", "verdict": "accepted", "nothing": "true"}
#: Drawn in turns, one of each stratum in every turn; the order within a stratum, and on the sheet, is a hash's of the
#: seed, the same for ever.
_SAMPLE = """
    SELECT i.pair_id, i.intention_id, i.relation, i.text, i.score, i.accepted, a.title AS title_a, b.title AS title_b
    FROM (
        SELECT pair_id, intention_id, place FROM (
            SELECT pair_id, intention_id, place, row_number() OVER (PARTITION BY stratum ORDER BY place) AS turn
            FROM (
                SELECT pair_id, intention_id, {stratum} AS stratum, md5(%(seed)s || '/' || intention_id) AS place
                FROM kb.intentions WHERE text <> '' AND (accepted OR NOT %(accepted)s)
            ) hashed
        ) drawn WHERE turn <= %(count)s ORDER BY turn, place LIMIT %(count)s
    ) chosen
    JOIN kb.intentions i USING (pair_id, intention_id)
    JOIN kb.pairs p USING (pair_id)
    {products}
    ORDER BY place
"""


def sample(
    connection: psycopg.Connection[Any], count: int, seed: int, by: str, *, accepted: bool
) -> list[dict[str, Any]]:
    """Intentions that have a text, in an order that tells nothing; `by` names one of STRATA."""
    query = sql.SQL(_SAMPLE).format(stratum=sql.SQL(STRATA[by]), products=sql.SQL(JOIN_PRODUCTS.format(pair="p")))
    with world_faults(), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, {"seed": str(seed), "count": count, "accepted": accepted}).fetchall()
    return [{**row, "sentence": sentence(row["relation"], row["text"])} for row in rows]


def kept(connection: psycopg.Connection[Any], keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Whether the filter kept each intention, by pair and intention; of one that the KB has not, nothing."""
    pairs, intentions = zip(*keys, strict=True)
    with world_faults():
        found = connection.execute(
            "SELECT pair_id, intention_id, accepted FROM kb.intentions "
            "JOIN unnest(%s::text[], %s::text[]) AS asked (pair_id, intention_id) USING (pair_id, intention_id)",
            (list(pairs), list(intentions)),
        ).fetchall()
    return {(pair, intention): accepted for pair, intention, accepted in found}
