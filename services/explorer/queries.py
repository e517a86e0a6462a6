"""What the pages, the REST API and the gRPC service ask of the KB: one function a question.

Each costs about the same however large the KB is: by index, and of a bounded number of rows. Only the counts of the
whole KB do not, and they are kept for a while.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.common import kb
from services.common.errors import WorldFault
from services.common.pairs import pair_id
from services.common.relations import RELATIONS, sentence
from services.explorer.cursors import list_name, seal, unseal
from services.explorer.database import Database, Row
from services.explorer.kept import Kept

#: Most intentions of one pair that are shown: twenty relations, several models and samples.
_PAIR_ROWS = 1000
#: Products that a search looks at before it chooses the best.
_PRODUCTS_LOOKED_AT = 100
#: Pairs of a product, best supported first, whose reasons its page shows; pairs of each item of a basket.
_PAGE_PAIRS, _BASKET_PAIRS = 24, 100
#: A mistyped word must share this much of its letters with a known one: twice the common groups by all groups.
_NEAR = 0.4
#: Counts are as old as this, and longest that they may take: all rows are read.
_COUNTS_SECONDS, _COUNTING_SECONDS = 15.0, 300.0

_PRODUCT = """
    SELECT product_id, title, image_digest, description, features, uses, content_digest, model_version, prompt_version,
           extracted_at
    FROM kb.products WHERE product_id = %(product)s ORDER BY extracted_at DESC, content_digest LIMIT 1
"""
#: The best supported pairs of `{product}` with the other product: so many of each side by their index, then of both.
_BEST_SUPPORTED = """
    SELECT * FROM (
        (SELECT pair_id, product_b AS product_id, support, last_seen FROM kb.pairs WHERE product_a = {product} {behind}
         ORDER BY support DESC, pair_id LIMIT {limit})
        UNION ALL
        (SELECT pair_id, product_a, support, last_seen FROM kb.pairs WHERE product_b = {product} {behind}
         ORDER BY support DESC, pair_id LIMIT {limit})
    ) AS both_sides
    ORDER BY support DESC, pair_id LIMIT {limit}
"""
_BEHIND = "AND support <= %(support)s::bigint AND (support < %(support)s::bigint OR pair_id > %(pair)s)"
#: Behind it stand all.
_START = 2**63 - 1, ""
#: A pair seen from one of its products; a cursor begins behind its last row.
_COBOUGHT = f"""
    SELECT p.pair_id, p.product_id, p.support, p.last_seen, t.title, t.image_digest, best.*
    FROM ({_BEST_SUPPORTED.format(product="%(product)s", behind=_BEHIND, limit="%(limit)s")}) p
    LEFT JOIN LATERAL (
        SELECT title, image_digest FROM kb.products WHERE product_id = p.product_id
        ORDER BY extracted_at DESC, content_digest LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        SELECT relation, text, score, generator_model FROM kb.intentions i
        WHERE i.pair_id = p.pair_id AND i.accepted AND i.text <> '' ORDER BY score DESC, intention_id LIMIT 1
    ) best ON true
    ORDER BY p.support DESC, p.pair_id
"""  # noqa: S608  (parts of ours)
#: Who asks for reasons knows the pairs: of their table, joined to a list of ids, PostgreSQL may read all.
_REASONS = """
    SELECT pair_id, relation, text, score FROM kb.intentions
    WHERE pair_id = ANY(%(pairs)s) AND accepted AND text <> '' ORDER BY score DESC, intention_id
"""
#: The first of these by relation, and how many there are.
_REASONS_BY_RELATION = """
    SELECT * FROM (
        SELECT pair_id, relation, text, score,
               row_number() OVER (PARTITION BY relation ORDER BY score DESC, intention_id) AS place,
               count(*) OVER (PARTITION BY relation) AS count
        FROM kb.intentions WHERE pair_id = ANY(%(pairs)s) AND accepted AND text <> ''
    ) AS ranked WHERE place <= %(each)s ORDER BY relation, place
"""
_PAIR = "SELECT pair_id, product_a, product_b, support, first_seen, last_seen FROM kb.pairs WHERE pair_id = %(pair)s"
_PRODUCTS_OF = """
    SELECT p.product_a, p.product_b FROM kb.intentions i JOIN kb.pairs p USING (pair_id)
    WHERE i.pair_id = %(pair)s AND i.intention_id = %(intention)s
"""
#: What people say of a pair's intentions, with the newest of their reasons, and what `who` says.
_PEOPLE = """
    SELECT intention_id, count(*) FILTER (WHERE up) AS up, count(*) FILTER (WHERE NOT up) AS down,
           bool_or(up) FILTER (WHERE who = %(who)s) AS yours,
           coalesce((array_agg(reason ORDER BY given_at DESC, feedback_id) FILTER (WHERE reason <> ''))[1:5], '{}')
               AS reasons
    FROM kb.feedback WHERE pair_id = %(pair)s GROUP BY intention_id ORDER BY intention_id
"""
_WORDS = "SELECT words::text AS words, numnode(words) AS nodes FROM websearch_to_tsquery('english', %(text)s) AS words"
_PRODUCTS_FOUND = """
    SELECT product_id, title, image_digest, description FROM (
        SELECT DISTINCT ON (product_id) * FROM (
            SELECT product_id, title, image_digest, description, extracted_at,
                   ts_rank(words, %(words)s::tsquery) AS rank
            FROM kb.products WHERE words @@ %(words)s::tsquery LIMIT %(looked_at)s
        ) AS found ORDER BY product_id, extracted_at DESC
    ) AS newest ORDER BY rank DESC, product_id LIMIT %(limit)s
"""
#: The nearest known word of each, by the groups of three letters that both have.
_NEAREST = """
    SELECT asked.word, near.word AS near FROM unnest(%(words)s::text[]) AS asked (word)
    CROSS JOIN LATERAL (
        SELECT g.word, 2.0 * count(*) / (length(asked.word) + length(g.word)) AS likeness
        FROM (
            SELECT DISTINCT substr(' ' || asked.word || ' ', n, 3) AS gram FROM generate_series(1, length(asked.word)) n
        ) AS grams JOIN kb.grams g USING (gram)
        GROUP BY g.word ORDER BY likeness DESC, abs(length(g.word) - length(asked.word)), g.word LIMIT 1
    ) AS near WHERE likeness >= %(near)s
"""
#: Words of a search as `kb.grams` has them, without the search's own signs.
_ASKED_WORDS = """
    SELECT word FROM unnest(tsvector_to_array(to_tsvector('simple', %(text)s))) AS word
    WHERE length(word) BETWEEN 3 AND 32
"""
_TITLES = """
    SELECT DISTINCT ON (product_id) product_id, title, image_digest FROM kb.products
    WHERE product_id = ANY(%(products)s) ORDER BY product_id, extracted_at DESC
"""
#: What goes with a basket: for each item its best supported pairs, whose other products are then counted together.
_BASKET = f"""
    SELECT p.product_id, array_agg(p.item ORDER BY p.support DESC, p.item) AS items,
           array_agg(p.pair_id ORDER BY p.support DESC, p.item) AS pairs, sum(p.support)::bigint AS support
    FROM unnest(%(items)s::text[]) AS asked (item)
    CROSS JOIN LATERAL (
        SELECT asked.item, best.*
        FROM ({_BEST_SUPPORTED.format(product="asked.item", behind="", limit="%(each)s")}) best
    ) p
    WHERE p.product_id <> ALL(%(items)s::text[])
    GROUP BY p.product_id ORDER BY count(*) DESC, sum(p.support) DESC, p.product_id LIMIT %(limit)s
"""  # noqa: S608  (parts of ours)


@dataclass(frozen=True)
class Page:
    """Some rows of a list, and the cursor of the next ones; empty at its end."""

    items: list[Row]
    next: str = ""


@dataclass(frozen=True)
class Found:
    """What a search has found. `corrected` is what was searched for instead, `empty` says that no word was left."""

    products: list[Row] = field(default_factory=list)
    intentions: list[Row] = field(default_factory=list)
    corrected: str = ""
    empty: bool = False


class Queries:
    """Questions to one KB."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts = Kept(self._counted, _COUNTS_SECONDS, "the KB is being counted: look again in some seconds")

    async def product(self, product: str) -> Row | None:
        """The newest snapshot of a product; None where the KB does not know it."""
        return await self._database.row(_PRODUCT, {"product": product})

    async def cobought(self, product: str, limit: int, cursor: str = "") -> Page:
        """Products bought together with one, best supported first, each with its best accepted reason.

        Raises:
            BadCursor: the cursor is of another list.
        """
        name = list_name("cobought", product)
        support, pair = unseal(cursor, name, int, str) if cursor else _START
        values = {"product": product, "support": support, "pair": pair, "limit": limit + 1}
        rows = [_reasoned(row) for row in await self._database.rows(_COBOUGHT, values)]
        return _page(rows, limit, lambda last: seal(name, last["support"], last["pair_id"]))

    async def reasons(self, cobought: Sequence[Row], each: int) -> dict[str, list[Row]]:
        """Accepted reasons of these pairs by relation, in the relations' order: the best of each, and its `count`; with
        the co-bought product (`other`) that each is of.
        """
        others = {row["pair_id"]: row for row in cobought[:_PAGE_PAIRS]}
        found: dict[str, list[Row]] = {relation.name: [] for relation in RELATIONS}
        for row in await self._database.rows(_REASONS_BY_RELATION, {"pairs": list(others), "each": each}):
            found[row["relation"]].append({**row, "other": others[row["pair_id"]]})
        return {relation: rows for relation, rows in found.items() if rows}

    async def pair(self, a: str, b: str) -> Row | None:
        """A pair with both products and all its intentions, best first; None where the two were never seen together."""
        return await self.pair_by_id(pair_id(a, b))

    async def pair_by_id(self, pair: str) -> Row | None:
        """The same, by the pair's id."""
        row = await self._database.row(_PAIR, {"pair": pair})
        if row is None:
            return None
        asked = kb.statement(kb.Query(pair=pair, limit=_PAIR_ROWS), by_score=True)
        a, b, rows = await asyncio.gather(
            self.product(row["product_a"]), self.product(row["product_b"]), self._database.rows(*asked)
        )
        return {**row, "a": a, "b": b, "intentions": [_reasoned(one) for one in rows]}

    async def why(self, a: str, b: str) -> Row | None:
        """Why two products are bought together: the best accepted reason of each relation, best first."""
        pair = await self.pair(a, b)
        if pair is None:
            return None
        best: dict[str, Row] = {}
        for row in pair["intentions"]:
            if row["accepted"] and row["text"]:
                best.setdefault(row["relation"], row)
        return {**pair, "intentions": list(best.values())}

    async def products_of(self, pair: str, intention: str) -> Row | None:
        """Both products of an intention; None where the KB does not know it."""
        return await self._database.row(_PRODUCTS_OF, {"pair": pair, "intention": intention})

    async def people(self, pair: str, who: str = "") -> list[Row]:
        """What people say of a pair's intentions, of those that somebody has judged; `yours` is what `who` says."""
        return await self._database.rows(_PEOPLE, {"pair": pair, "who": who})

    async def intentions(self, query: kb.Query, limit: int, cursor: str = "") -> Page:
        """Intentions, best first.

        Raises:
            BadCursor: the cursor is of another list.
        """
        asked = (query.product, query.pair, query.relation, query.min_score, query.accepted_only)
        name = list_name("intentions", *asked)
        if cursor:
            score, last = unseal(cursor, name, float, str)
            query = replace(query, after=(score, last))
        by_pairs = False
        if query.product:
            row = await self._database.row(kb.FEW_PAIRS, [query.product])
            by_pairs = bool(row and next(iter(row.values())))
        more = replace(query, limit=limit + 1)
        rows = await self._database.rows(*kb.statement(more, by_score=True, by_pairs=by_pairs))
        return _page(
            [_reasoned(row) for row in rows],
            limit,
            lambda last: seal(name, float(last["score"]), last["intention_id"]),
        )

    async def changes(self, position: str, limit: int) -> tuple[list[Row], str]:
        """Intentions in the order in which they were written, behind a position (empty: from the first on), and the
        position behind them: the same again where there are none.

        Raises:
            BadCursor: no position.
        """
        after = kb.Position(*unseal(position, "changes", int, str, str)) if position else kb.Position()
        rows = await self._database.rows(*kb.changes(after, limit))
        for row in rows:
            after = kb.Position(int(row.pop("written_xact")), row["pair_id"], row["intention_id"])
        return [_reasoned(row) for row in rows], seal("changes", after.xact, after.pair_id, after.intention_id)

    async def now(self) -> str:
        """The position behind all that is written and could be read now."""
        row = await self._database.row("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xact")
        return seal("changes", int(row["xact"]) if row else 0, "", "")

    async def newest(self, limit: int) -> list[Row]:
        """The newest intentions that have a text, newest first."""
        return [_reasoned(row) for row in await self._database.rows(kb.newest(limit))]

    async def search(self, text: str, limit: int) -> Found:
        """Products and accepted intentions with these words; with near words where none has them.

        A text as a person types it: quotes and a minus sign mean what they do elsewhere.
        """
        named, found = await asyncio.gather(self.product(text.strip()), self._found(text, limit))
        if not found.products and not found.intentions and not named and not found.empty:
            corrected = await self._corrected(text)
            near = await self._found(corrected, limit) if corrected else found
            if near.products or near.intentions:
                found = replace(near, corrected=corrected)
        if named:
            others = [row for row in found.products if row["product_id"] != named["product_id"]]
            found = replace(found, products=[named, *others][:limit], empty=False)
        return found

    async def basket(self, items: Sequence[str], limit: int) -> Row:
        """What goes with these products, and why: products by how many of the items they go with, each with reasons."""
        items = list(dict.fromkeys(items))
        values = {"items": items, "each": _BASKET_PAIRS, "limit": limit}
        rows = await self._database.rows(_BASKET, values)
        shown = [pair for row in rows for pair in row["pairs"][:3]]
        titles, reasons = await asyncio.gather(
            self.titles([*items, *(row["product_id"] for row in rows)]),
            self._database.rows(_REASONS, {"pairs": shown}),
        )
        best: dict[str, Row] = {}
        for reason in reasons:
            best.setdefault(reason["pair_id"], _reasoned(reason))
        for row in rows:
            row.update(titles.get(row["product_id"], {"title": "", "image_digest": ""}))
            row["because"] = [
                {"item": item, **{key: best[pair][key] for key in ("pair_id", "relation", "sentence", "score")}}
                for item, pair in zip(row["items"], row.pop("pairs"), strict=True)
                if pair in best
            ]
        return {"items": rows, "unknown": [item for item in items if item not in titles]}

    async def titles(self, products: Sequence[str]) -> dict[str, Row]:
        """Titles and pictures of products, by their id; those that the KB does not know are left out."""
        rows = await self._database.rows(_TITLES, {"products": list(products)})
        return {row["product_id"]: row for row in rows}

    async def counts(self, wait: float) -> dict[str, Any]:
        """Counts of the whole KB and of each relation, as they were lately.

        Raises:
            WorldFault: they were never counted, and are not within `wait` seconds.
        """
        answer = await self._counts.get(wait)
        if answer.found is None:
            raise WorldFault("database", answer.trouble)
        return answer.found

    async def releases(self) -> dict[str, Any]:
        """When releases were published, by their id."""
        rows = await self._database.rows("SELECT release_id, published_at FROM kb.releases ORDER BY 2 DESC LIMIT 1000")
        return {row["release_id"]: row["published_at"] for row in rows}

    async def _counted(self) -> dict[str, Any]:
        all_, by_relation = await asyncio.gather(
            self._database.rows(kb.COUNTS, seconds=_COUNTING_SECONDS),
            self._database.rows(kb.RELATION_COUNTS, seconds=_COUNTING_SECONDS),
        )
        known = {row["relation"]: row for row in by_relation}
        none = {"intentions": 0, "accepted": 0, "mean_score": 0.0}
        relations = [
            {**none, **known.get(one.name, {}), "relation": one.name, "phrase": one.phrase} for one in RELATIONS
        ]
        return {**all_[0], "relations": relations}

    async def _found(self, text: str, limit: int) -> Found:
        row = await self._database.row(_WORDS, {"text": text})
        if row is None or not row["nodes"]:
            return Found(empty=True)
        words = {"words": row["words"]}
        products, intentions = await asyncio.gather(
            self._database.rows(
                _PRODUCTS_FOUND, {**words, "looked_at": _PRODUCTS_LOOKED_AT, "limit": limit}, prepare=False
            ),
            self._database.rows(kb.matching(limit), words, prepare=False),
        )
        return Found(products, [_reasoned(one) for one in intentions])

    async def _corrected(self, text: str) -> str:
        """The text with words that titles have in place of those they do not; empty where nothing is nearer."""
        words = [row["word"] for row in await self._database.rows(_ASKED_WORDS, {"text": text})]
        rows = await self._database.rows(_NEAREST, {"words": words[:10], "near": _NEAR})
        near = {row["word"]: row["near"] for row in rows if row["near"] != row["word"]}
        if not near:
            return ""
        return re.sub(r"\w+", lambda word: near.get(word[0], word[0]), text.casefold().replace('"', " "))


def _reasoned(row: Row) -> Row:
    """A row with its reason as a sentence; empty where there is none."""
    row["sentence"] = sentence(row["relation"], row["text"]) if row["relation"] else ""
    return row


def _page(rows: list[Row], limit: int, cursor: Any) -> Page:
    return Page(rows[:limit], cursor(rows[limit - 1]) if len(rows) > limit else "")
