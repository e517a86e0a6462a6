"""Rows of ready-made intentions into candidates for the filter, or into judged ones as they are.

FolkScope (arXiv 2211.08316), IntentionQA (arXiv 2406.10173) and MIND (arXiv 2406.10701). A row has a pair, both titles,
a relation and a text, perhaps a score; which column holds what is told by `Columns`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    CandidateIntentions,
    Intention,
    JudgedIntention,
    JudgedIntentions,
)
from mindstream.events.v1.provenance_pb2 import EventSource, ModelCall

from services.cli.common import InputError
from services.cli.imports.relations import ours
from services.common import titles
from services.common.ids import content_digest, imported_id
from services.common.pairs import normalised
from services.common.records import has_control_characters, invalid

#: What stands in the place of a prompt's version: how this program reads a collection.
PROMPT = "import/v1"
#: Longest text of an intention taken, characters.
_TEXT_CHARS = 2000
#: Intentions of a message: they are judged in one call.
_TOGETHER = 50
_VERDICT = re.compile(r"\W*(yes|no|true|false)\b", re.IGNORECASE)
#: Bytes around an intention within a message, and of what else stands there once, at the most.
_FRAME_BYTES, _CALL_BYTES = 16, 1024


@dataclass(frozen=True)
class Columns:
    """Names of a file's columns, or of its objects' fields."""

    product_a: str
    product_b: str
    title_a: str
    title_b: str
    relation: str
    text: str
    score: str
    verdict: str

    def renamed(self, given: Iterable[str]) -> Columns:
        """With `OURS=THEIRS` in place of some.

        Raises:
            InputError: another form, or no column of ours.
        """
        names = [one.name for one in fields(self)]
        theirs = dict(one.partition("=")[::2] for one in given)
        for name, column in theirs.items():
            if name not in names or not column:
                raise InputError(f"--column {name}={column}: OURS=THEIRS, where OURS is one of {', '.join(names)}")
        return replace(self, **theirs)


#: Each as its own programs write and read it: FolkScope's and IntentionQA's, and MIND's role-aware filter, whose words
#: "Yes, …" or "No, …" are the verdict. MIND has no score.
_FOLKSCOPE = Columns(
    "item_a_id", "item_b_id", "item_a_name", "item_b_name", "relation", "assertion", "typicality", "verdict"
)
_MIND = Columns("id_a", "id_b", "Product_a", "Product_b", "Relation", "Intention", "score", "Agreement")
SOURCES = {"folkscope": _FOLKSCOPE, "intentionqa": _FOLKSCOPE, "mind": _MIND}


class Ready(NamedTuple):
    """One row."""

    cobuy: CoBuy
    title_a: str
    title_b: str
    intention: Intention
    #: None: not said.
    score: float | None
    accepted: bool | None


@dataclass
class Parser:
    """Rows of one collection. `title_of` finds titles that rows do not have."""

    source: str
    columns: Columns
    title_max_chars: int
    title_of: Callable[[str], str | None] = field(default=lambda product: None)

    def __call__(self, row: dict[str, Any]) -> Ready:
        """A row's pair and intention.

        Raises:
            EventFault: a field is missing or of another type, a product's title or the relation is unknown.
        """
        names = self.columns
        a, b = self._text(row, names.product_a), self._text(row, names.product_b)
        cobuy = normalised(CoBuy(product_a=a, product_b=b))
        title_a, title_b = self._title(row, names.title_a, a), self._title(row, names.title_b, b)
        if cobuy.product_a != a:
            title_a, title_b = title_b, title_a
        said = row.get(names.relation) or ""
        if type(said) is not str:
            raise invalid(f"{names.relation} is not a text")
        relation, text = ours(said, _cleaned(self._text(row, names.text)))
        if not text:
            raise invalid(f"{names.text} says nothing behind its phrase")
        if len(text) > _TEXT_CHARS:
            raise invalid(f"{names.text} is {len(text)} characters long; at most {_TEXT_CHARS}")
        if has_control_characters(text):
            raise invalid(f"{names.text} holds control characters")
        key = imported_id(cobuy.pair_id, relation, self.source, text)
        intention = Intention(intention_id=key, relation=relation, text=text, source=self.source)
        return Ready(cobuy, title_a, title_b, intention, _score(row, names.score), _verdict(row, names.verdict))

    def _text(self, row: dict[str, Any], name: str) -> str:
        value = row.get(name)
        if type(value) is not str or not value.strip():
            raise invalid(f"{name} is missing or not a text")
        return value

    def _title(self, row: dict[str, Any], name: str, product: str) -> str:
        title = row.get(name) or self.title_of(product)
        if title is None:
            raise invalid(f"no title of product {product!r}: neither {name} nor --products has one")
        if type(title) is not str:
            raise invalid(f"{name} is not a text")
        return titles.checked(title, self.title_max_chars)


def _cleaned(text: str) -> str:
    return " ".join(titles.readable(text).split()).removesuffix(".")


def _score(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        score = float(value) if type(value) in (str, int, float) else -1.0
    except (ValueError, OverflowError):
        score = -1.0
    if not 0 <= score <= 1:
        raise invalid(f"{name} {str(value)[:40]!r} is not a number from 0 to 1")
    return score


def _verdict(row: dict[str, Any], name: str) -> bool | None:
    """Yes or no, as a boolean or as a text that begins so."""
    value = row.get(name)
    if value is None or type(value) is bool or value == "":
        return value if type(value) is bool else None
    said = _VERDICT.match(value) if type(value) is str else None
    if said is None:
        raise invalid(f"{name} {str(value)[:40]!r} is neither yes nor no")
    return said[1].lower() in ("yes", "true")


@dataclass
class Maker:
    """Rows of one pair that stand together into one message."""

    source: str
    as_is: bool
    threshold: float
    pipeline_version: str
    #: Score of rows without one or a verdict, as they are.
    score: float | None
    #: Most bytes of a message.
    max_bytes: int
    _held: list[JudgedIntention] = field(default_factory=list)
    _featured: FeaturedCoBuy = field(default_factory=FeaturedCoBuy)
    _bytes: int = 0

    def add(self, ready: Ready, place: str) -> CandidateIntentions | JudgedIntentions | None:
        """Hold a row; the message of the rows before it, where it does not belong to them.

        Raises:
            EventFault: it is too large, or, as it is, has neither a score nor a verdict.
        """
        one = JudgedIntention(intention=ready.intention)
        if self.as_is:
            self._judge(one, ready)
        size = one.ByteSize() + _FRAME_BYTES
        if self._has_pair_of(ready):
            if any(held.intention.intention_id == ready.intention.intention_id for held in self._held):
                return None
            if len(self._held) < _TOGETHER and self._bytes + size <= self.max_bytes:
                self._held.append(one)
                self._bytes += size
                return None
        featured = self._pair(ready, place)
        if (whole := featured.ByteSize() + _CALL_BYTES + size) > self.max_bytes:
            raise invalid(f"{whole} bytes; at most {self.max_bytes} (event_max_bytes)")
        made = self.take()
        self._featured, self._held, self._bytes = featured, [one], whole
        return made

    def take(self) -> CandidateIntentions | JudgedIntentions | None:
        """The message of what is held; None where nothing is."""
        held, self._held = self._held, []
        if not held:
            return None
        call = ModelCall(model_version=self.source, prompt_version=PROMPT, at=self._featured.featured_at)
        if not self.as_is:
            return CandidateIntentions(
                featured=self._featured, candidates=[one.intention for one in held], generated_by=call
            )
        return JudgedIntentions(
            featured=self._featured,
            judged=held,
            generated_by=call,
            judged_by=call,
            threshold=self.threshold,
            judged_at=self._featured.featured_at,
        )

    def _judge(self, one: JudgedIntention, ready: Ready) -> None:
        said = None if ready.accepted is None else float(ready.accepted)
        score = next((score for score in (ready.score, said, self.score) if score is not None), None)
        if score is None:
            raise invalid("neither a score nor a verdict (name their columns, or a --score for all; or --judge)")
        one.score = score
        accepted = one.score >= self.threshold if ready.accepted is None else ready.accepted
        one.verdict = VERDICT_ACCEPTED if accepted else VERDICT_REJECTED

    def _has_pair_of(self, ready: Ready) -> bool:
        held = self._featured
        return (
            bool(self._held)
            and ready.cobuy.pair_id == held.cobuy.pair_id
            and (ready.title_a, ready.title_b) == (held.product_a.title, held.product_b.title)
        )

    def _pair(self, ready: Ready, place: str) -> FeaturedCoBuy:
        at = Timestamp()
        at.GetCurrentTime()
        made = FeaturedCoBuy(
            cobuy=ready.cobuy,
            source=EventSource(event_id=place),
            pipeline_version=self.pipeline_version,
            featured_at=at,
        )
        for features, product, title in (
            (made.product_a, ready.cobuy.product_a, ready.title_a),
            (made.product_b, ready.cobuy.product_b, ready.title_b),
        ):
            features.product_id, features.title, features.content_digest = product, title, content_digest(title, "")
            # Without a time: nobody has looked at it, and whoever does is later.
            features.extracted_by.CopyFrom(ModelCall(model_version=self.source, prompt_version=PROMPT))
        return made
