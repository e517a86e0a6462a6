"""Intentions of the KB as the generator's messages had them: nothing is generated again.

A message holds what one co-buy's call had made: intentions of one pair with the same provenance. All that the sink
makes rows of is in the KB, so that a row that comes back is what it was but for its judgement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from mindstream.events.v1.features_pb2 import ProductFeatures
from mindstream.events.v1.intention_pb2 import CandidateIntentions, Intention
from psycopg.rows import dict_row

from services.common.kb import JOIN_PRODUCTS
from services.common.relations import PLACES

#: Provenance that the intentions of one call share, beside their pair.
_SHARED = (
    "source_topic", "source_partition", "source_offset", "source_event_id", "pipeline_version", "content_digest_a",
    "content_digest_b", "extractor_model_a", "extractor_prompt_a", "extractor_model_b", "extractor_prompt_b",
    "generator_model", "generator_prompt", "generated_at",
)  # fmt: skip
_PRODUCT = ", ".join(
    f"{side}.{column} AS {column}_{side}"
    for side in "ab"
    for column in ("title", "image_digest", "description", "features", "uses", "extracted_at")
)
_INTENTIONS = f"""
    SELECT i.pair_id, i.intention_id, i.relation, i.text, i.sample, i.tokens, i.source, {", ".join(_SHARED)},
           p.product_a, p.product_b, p.support, p.first_seen, p.last_seen, {_PRODUCT}
    FROM kb.intentions i JOIN kb.pairs p USING (pair_id)
    {JOIN_PRODUCTS.format(pair="p")}
    WHERE i.pair_id = ANY(%(pairs)s) AND {{which}}
"""  # noqa: S608  (names of ours)
_PAIRS = "SELECT pair_id FROM kb.pairs WHERE pair_id > %(after)s ORDER BY pair_id LIMIT %(limit)s"
_FILTERS = """
    SELECT filter_model, filter_prompt, count(DISTINCT pair_id) AS pairs, count(*) AS intentions,
           count(*) FILTER (WHERE accepted) AS accepted
    FROM kb.intentions i WHERE {which} GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Which:
    """Whose judgements are to be made anew; empty fields do not narrow."""

    model: str = ""
    prompt: str = ""

    def where(self) -> tuple[str, dict[str, Any]]:
        """SQL condition on an intention `i`, and its parameters."""
        conditions = ["true"]
        conditions += ["i.filter_model = %(model)s"] if self.model else []
        conditions += ["i.filter_prompt = %(prompt)s"] if self.prompt else []
        return " AND ".join(conditions), {"model": self.model, "prompt": self.prompt}


def filters(connection: psycopg.Connection[Any], which: Which) -> list[dict[str, Any]]:
    """By filter model and prompt version: pairs, intentions, and how many of these it keeps."""
    where, values = which.where()
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_FILTERS.format(which=where), values).fetchall()


def pairs(connection: psycopg.Connection[Any], after: str, limit: int) -> list[str]:
    """The next pair ids behind one, in the database's order."""
    return [pair for (pair,) in connection.execute(_PAIRS, {"after": after, "limit": limit})]


def messages(
    connection: psycopg.Connection[Any], which: Which, of: Sequence[str], max_bytes: int
) -> Iterator[CandidateIntentions]:
    """What some pairs have, a message for each call that made it; calls that made no text have none."""
    where, values = which.where()
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_INTENTIONS.format(which=where), {**values, "pairs": list(of)}).fetchall()
    rows.sort(key=lambda row: (_call(row), PLACES.get(row["relation"], -1), row["sample"], row["intention_id"]))
    for _, group in groupby(rows, key=_call):
        of_call = list(group)
        if any(row["text"] for row in of_call):
            yield from _within(of_call, max_bytes)


_call = itemgetter("pair_id", *_SHARED)


def _within(rows: Sequence[dict[str, Any]], max_bytes: int) -> Iterator[CandidateIntentions]:
    """One message, or several where it would be over the limit."""
    made = _message(rows)
    if made.ByteSize() <= max_bytes or len(rows) == 1:
        yield made
    else:
        yield from _within(rows[: len(rows) // 2], max_bytes)
        yield from _within(rows[len(rows) // 2 :], max_bytes)


def _message(rows: Sequence[dict[str, Any]]) -> CandidateIntentions:
    first, made = rows[0], CandidateIntentions()
    made.featured.pipeline_version = first["pipeline_version"]
    cobuy, source = made.featured.cobuy, made.featured.source
    cobuy.pair_id, cobuy.product_a, cobuy.product_b = first["pair_id"], first["product_a"], first["product_b"]
    cobuy.support = first["support"]
    for name in ("first_seen", "last_seen"):
        if first[name] is not None:
            getattr(cobuy, name).FromDatetime(first[name])
    source.topic, source.partition = first["source_topic"], first["source_partition"]
    source.offset, source.event_id = first["source_offset"], first["source_event_id"]
    for side, features in (("a", made.featured.product_a), ("b", made.featured.product_b)):
        _features(features, first, side)
    made.generated_by.model_version = first["generator_model"]
    made.generated_by.prompt_version = first["generator_prompt"]
    made.generated_by.at.FromDatetime(first["generated_at"])
    names = ("intention_id", "relation", "text", "sample", "tokens", "source")
    made.candidates.extend(Intention(**{name: row[name] for name in names}) for row in rows)
    return made


def _features(features: ProductFeatures, row: dict[str, Any], side: str) -> None:
    features.product_id = row[f"product_{side}"]
    for name in ("title", "image_digest", "content_digest", "description"):
        setattr(features, name, row[f"{name}_{side}"])
    features.features.extend(row[f"features_{side}"])
    features.uses.extend(row[f"uses_{side}"])
    features.extracted_by.model_version = row[f"extractor_model_{side}"]
    features.extracted_by.prompt_version = row[f"extractor_prompt_{side}"]
    features.extracted_by.at.FromDatetime(row[f"extracted_at_{side}"])
