"""What the REST API answers, field by field, for its OpenAPI document.

Answers are written from the KB's rows as they are; the tests compare them with this.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="One line for people.")


class Product(BaseModel):
    """The newest that the KB knows of a product."""

    product_id: str
    title: str
    image_digest: str = Field(description='"sha256:…", to be had at /media/{image_digest}; empty: no picture.')
    description: str = Field(description="What the model saw.")
    features: list[str]
    uses: list[str]
    content_digest: str = Field(description="Hash of title and picture.")
    model_version: str = Field(description="The model that described it.")
    prompt_version: str
    extracted_at: datetime = Field(description="1970: nobody has looked at it; it came with an imported intention.")


class Reason(BaseModel):
    """A reason, in short."""

    pair_id: str
    relation: str
    sentence: str
    score: float


class CoBought(BaseModel):
    """A product bought together with the one asked for, and its best accepted reason, where it has one."""

    pair_id: str
    product_id: str
    title: str | None
    image_digest: str | None
    support: int = Field(description="Orders that completed the pair; 0: not said.")
    last_seen: datetime | None
    relation: str | None
    text: str | None
    sentence: str
    score: float | None
    generator_model: str | None


class Intention(BaseModel):
    """One reason for one pair under one relation, with all that it came from."""

    intention_id: str
    pair_id: str
    product_a: str
    product_b: str
    title_a: str
    title_b: str
    image_a: str
    image_b: str
    relation: str
    text: str = Field(description="What completes the relation's phrase; may be empty.")
    sentence: str
    sample: int = Field(description="0: the likeliest text; others are sampled.")
    score: float = Field(description="P(yes) of the filter, 0 to 1.", ge=0, le=1)
    accepted: bool = Field(description="Whether the score reached the threshold.")
    threshold: float
    support: int
    extractor_model_a: str
    extractor_prompt_a: str
    extractor_model_b: str
    extractor_prompt_b: str
    generator_model: str
    generator_prompt: str
    filter_model: str
    filter_prompt: str
    pipeline_version: str
    source: str = Field(description="The collection that it came from ready-made; empty: generated here.")
    source_topic: str = Field(description="The event that it came from: topic, partition, offset and id.")
    source_partition: int
    source_offset: int
    source_event_id: str
    generated_at: datetime
    judged_at: datetime
    written_at: datetime


class Pair(BaseModel):
    """Two products bought together; intentions best first."""

    pair_id: str
    product_a: str
    product_b: str
    support: int
    first_seen: datetime | None
    last_seen: datetime | None
    a: Product | None
    b: Product | None
    intentions: list[Intention]


class Taken(BaseModel):
    """A verdict that Kafka has."""

    feedback_id: str


class Judged(BaseModel):
    """What people say of an intention."""

    intention_id: str
    up: int = Field(description="People who take it for a reason.")
    down: int = Field(description="People who do not.")
    reasons: list[str] = Field(description="Why, in their own words: the newest few.")


class Feedback(BaseModel):
    """What people say of a pair's intentions."""

    items: list[Judged]


class CoBoughtPage(BaseModel):
    """Some of a list."""

    items: list[CoBought]
    next: str = Field(description="Cursor of what follows; empty at the end.")


class IntentionPage(BaseModel):
    """Some of a list."""

    items: list[Intention]
    next: str = Field(description="Cursor of what follows; empty at the end.")


class Newest(BaseModel):
    """The newest intentions."""

    items: list[Intention]


class Changes(BaseModel):
    """What was written behind a position, in order."""

    items: list[Intention]
    position: str = Field(description="Ask with it as `after` for what comes next.")


class ProductFound(BaseModel):
    """A product that a search has found."""

    product_id: str
    title: str
    image_digest: str
    description: str


class SearchResult(BaseModel):
    """What a search has found."""

    products: list[ProductFound]
    intentions: list[Intention]
    corrected: str = Field(description="What was searched for instead; empty: what was asked.")
    empty: bool = Field(description="Nothing was left to search for: the words are in nearly every text.")


class RelationCount(BaseModel):
    """How many reasons a relation has, and how many are kept."""

    relation: str
    phrase: str
    intentions: int
    accepted: int
    mean_score: float


class Counts(BaseModel):
    """Counts of the whole KB, at most some seconds old."""

    pairs: int
    products: int
    intentions: int
    accepted: int
    empty: int
    newest: datetime | None
    relations: list[RelationCount]


class Because(BaseModel):
    """Why a product goes with an item of the basket."""

    item: str
    pair_id: str
    relation: str
    sentence: str
    score: float


class Suggestion(BaseModel):
    """A product that goes with a basket."""

    product_id: str
    title: str
    image_digest: str
    support: int
    items: list[str] = Field(description="The items that it goes with, best supported first.")
    because: list[Because] = Field(description="A reason for each of the first items, where there is an accepted one.")


class Suggestions(BaseModel):
    """What goes with a basket, and why."""

    items: list[Suggestion]
    unknown: list[str] = Field(description="Items that the KB does not know.")


class ReleaseSplit(BaseModel):
    """Rows of one split."""

    config: str
    split: str
    rows: int
    bytes: int


class ReleaseFile(BaseModel):
    """A file of a release."""

    name: str
    bytes: int
    sha256: str


class Release(BaseModel):
    """A dataset release."""

    release_id: str
    published_at: datetime | None
    intentions: int
    accepted: int
    splits: list[ReleaseSplit]
    files: list[ReleaseFile] = Field(description="Each to be had at /releases/{release_id}/{name}.")


class Releases(BaseModel):
    """Dataset releases, newest first."""

    items: list[Release]
