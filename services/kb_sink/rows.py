"""Judged intentions as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mindstream.events.v1.features_pb2 import ProductFeatures
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, JudgedIntentions

from services.common.records import Record, check_time, decode, invalid
from services.common.relations import BY_NAME

#: Columns in the order of the tuples below; the tables are in migrations/.
COLUMNS = {
    "products": (
        "product_id", "content_digest", "model_version", "prompt_version", "title", "image_digest", "description",
        "features", "uses", "extracted_at",
    ),
    "pairs": ("pair_id", "product_a", "product_b", "support", "first_seen", "last_seen"),
    "intentions": (
        "intention_id", "pair_id", "relation", "text", "sample", "tokens", "score", "accepted", "threshold",
        "source_topic", "source_partition", "source_offset", "source_event_id", "pipeline_version",
        "content_digest_a", "content_digest_b", "extractor_model_a", "extractor_prompt_a", "extractor_model_b",
        "extractor_prompt_b", "generator_model", "generator_prompt", "filter_model", "filter_prompt", "generated_at",
        "judged_at", "source",
    ),
}  # fmt: skip
#: Most bytes of a key's columns together: a row of a B-tree takes 2,704, its own headers included.
_KEY_BYTES = 2600


@dataclass(frozen=True)
class Rows:
    """Rows of one judged co-buy, by table, and its event time."""

    tables: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    event_time: datetime | None = None


def rows(record: Record) -> Rows:
    """The rows of a record of `intentions.judged`.

    Raises:
        EventFault: not decodable, or without the ids that rows need.
    """
    judged = decode(record, JudgedIntentions, json_allowed=False)
    featured = judged.featured
    cobuy, source = featured.cobuy, featured.source
    if not (cobuy.pair_id and featured.product_a.content_digest and featured.product_b.content_digest):
        raise invalid("pair id or product features are missing")
    if not 0 <= judged.threshold <= 1:
        raise invalid(f"threshold {judged.threshold} is not from 0 to 1")
    if cobuy.support >= 2**63:
        raise invalid(f"support {cobuy.support} is out of range")
    a, b = featured.product_a.extracted_by, featured.product_b.extracted_by
    provenance = (
        source.topic, source.partition, source.offset, source.event_id, featured.pipeline_version,
        featured.product_a.content_digest, featured.product_b.content_digest,
        a.model_version, a.prompt_version, b.model_version, b.prompt_version,
        judged.generated_by.model_version, judged.generated_by.prompt_version,
        judged.judged_by.model_version, judged.judged_by.prompt_version,
        _time("generated_by.at", judged.generated_by.at), _time("judged_at", judged.judged_at),
    )  # fmt: skip
    pair, threshold = cobuy.pair_id, judged.threshold
    for product_id in (cobuy.product_a, cobuy.product_b):
        check_key("pair's key", pair, product_id)
    intentions: list[tuple[Any, ...]] = []
    for one in judged.judged:
        i = one.intention
        key, relation, sample, tokens = i.intention_id, i.relation, i.sample, i.tokens
        if not key:
            raise invalid(f"an intention of {pair!r} has no id")
        check_key("intention's key", pair, key)
        if relation not in BY_NAME:
            raise invalid(f"intention {key}: unknown relation {relation!r}")
        if not 0 <= one.score <= 1:  # NaN is neither.
            raise invalid(f"intention {key}: score {one.score} is not from 0 to 1")
        if sample >= 2**31 or tokens >= 2**31:
            raise invalid(f"intention {key}: sample or tokens out of range")
        accepted = one.verdict == VERDICT_ACCEPTED
        own = (key, pair, relation, i.text, sample, tokens, one.score, accepted, threshold)
        intentions.append((*own, *provenance, i.source))
    first = _time("first_seen", cobuy.first_seen) if cobuy.HasField("first_seen") else None
    last = _time("last_seen", cobuy.last_seen) if cobuy.HasField("last_seen") else None
    made = Rows(
        {
            "products": [_product(featured.product_a), _product(featured.product_b)],
            "pairs": [(cobuy.pair_id, cobuy.product_a, cobuy.product_b, cobuy.support, first, last)],
            "intentions": intentions,
        },
        last or _time("featured_at", featured.featured_at),
    )
    for product in made.tables["products"]:
        check_key("product's key", *product[:4])
    # Of an intention only its id, text and source are its own and not checked yet.
    once = [*provenance, *made.tables["pairs"][0], *made.tables["products"][0], *made.tables["products"][1]]
    texts = [text for value in once for text in _texts(value)] + [row[at] for row in intentions for at in (0, 3, -1)]
    check_texts(*texts)
    return made


def check_texts(*texts: str) -> None:
    """Check that PostgreSQL takes texts.

    Raises:
        EventFault: it does not.
    """
    if "\0" in "".join(texts):
        raise invalid("a text holds a NUL character, which PostgreSQL does not take")


def check_key(name: str, *columns: str) -> None:
    """Check that columns fit in a key together.

    Raises:
        EventFault: they do not.
    """
    size = sum(len(column.encode()) for column in columns)
    if size > _KEY_BYTES:
        raise invalid(f"{name} is {size} bytes long; at most {_KEY_BYTES}")


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value if isinstance(value, list) else []


def _product(features: ProductFeatures) -> tuple[Any, ...]:
    return (
        features.product_id, features.content_digest, features.extracted_by.model_version,
        features.extracted_by.prompt_version, features.title, features.image_digest, features.description,
        list(features.features), list(features.uses),
        _time("extracted_by.at", features.extracted_by.at),
    )  # fmt: skip


def _time(name: str, stamp: Timestamp) -> datetime:
    return check_time(name, stamp).ToDatetime(UTC)
