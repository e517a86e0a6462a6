"""What `kb query` finds, against the same rows sorted here; whichever way PostgreSQL goes to them."""

from __future__ import annotations

import itertools
import random
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.common import kb
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.rows import COLUMNS

pytestmark = pytest.mark.integration

PRODUCTS = [f"p{number:02d}" for number in range(30)]


@pytest.fixture(scope="module")
def filled(postgres: str) -> str:
    """A KB in which p00 has a pair with every other product and the others few; scores repeat, as 16 bits' do."""
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    chance = random.Random(1)
    pairs = [("p00", other) for other in PRODUCTS[1:]] + list(itertools.pairwise(PRODUCTS[1:]))
    with psycopg.connect(postgres) as connection:
        for product in PRODUCTS:
            values = {"product_id": product, "content_digest": "d", "model_version": "m", "prompt_version": "e"}
            insert(connection, "products", {**values, "title": f"A {product}", "features": [], "uses": []})
        for number, (a, b) in enumerate(pairs):
            insert(connection, "pairs", {"pair_id": f"{a}|{b}", "product_a": a, "product_b": b, "support": number})
            for relation in RELATIONS:
                score = chance.randrange(16) / 16
                row: dict[str, Any] = {
                    "intention_id": f"{chance.randrange(10**9):09d}",
                    "pair_id": f"{a}|{b}",
                    "text": "x",
                }
                row |= {"relation": relation.name, "score": score, "accepted": score >= 0.5, "threshold": 0.5}
                row |= {"content_digest_a": "d", "extractor_model_a": "m", "extractor_prompt_a": "e"}
                row |= {"content_digest_b": "d", "extractor_model_b": "m", "extractor_prompt_b": "e"}
                insert(connection, "intentions", row)
        connection.commit()
        connection.autocommit = True
        connection.execute("ANALYZE")
    return postgres


def insert(connection: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> None:
    """A row; what is not said is empty."""
    times = ("extracted_at", "generated_at", "judged_at")
    numbers = ("sample", "tokens", "source_partition", "source_offset")
    ends = ("first_seen", "last_seen")
    kinds: list[tuple[tuple[str, ...], Any]] = [(times, "2026-01-01"), (numbers, 0), (ends, None), (COLUMNS[table], "")]
    empty = {name: next(value for names, value in kinds if name in names) for name in COLUMNS[table]}
    full = {**empty, **row}
    names, places = ", ".join(full), ", ".join(f"%({name})s" for name in full)
    connection.execute(f"INSERT INTO kb.{table} ({names}) VALUES ({places})", full)


def test_the_best_are_found_in_their_order(filled: str) -> None:
    with psycopg.connect(filled) as connection:
        everything = list(kb.intentions(connection, kb.Query()))
        assert len(everything) == 57 * len(RELATIONS)

        @hypothesis_settings(max_examples=60)
        @given(
            product=st.sampled_from(["", "p00", *PRODUCTS[:4], "nobody"]),
            relation=st.sampled_from(["", *(relation.name for relation in RELATIONS[:3])]),
            pair=st.sampled_from(["", "", "p00|p01", "p03|p04"]),
            score=st.sampled_from([0.0, 0.5, 0.9375]),
            accepted=st.booleans(),
            limit=st.none() | st.integers(1, 50),
        )
        def found(product: str, relation: str, pair: str, score: float, accepted: bool, limit: int | None) -> None:
            query = kb.Query(product, pair, relation, score, accepted, limit)
            expected = [
                row
                for row in everything
                if (not product or product in (row["product_a"], row["product_b"]))
                and relation in ("", row["relation"])
                and pair in ("", row["pair_id"])
                and row["score"] >= score
                and (row["accepted"] or not accepted)
            ]
            expected.sort(key=lambda row: (-row["score"], row["intention_id"]))
            assert list(kb.intentions(connection, query, by_score=True)) == expected[:limit]

        found()


@pytest.mark.parametrize("query", [kb.Query(limit=5), kb.Query(relation="UsedFor", limit=5)])
def test_the_best_are_read_in_order_and_not_sorted(filled: str, query: kb.Query) -> None:
    with psycopg.connect(filled) as connection:
        # Small as it is, a scan of this KB is cheap: the question is whether the order can be had without one.
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        statement, values = kb.statement(query, by_score=True)
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {statement}", values))
    assert "Sort" not in plan
    assert "score_intention_id_idx" in plan
