"""What a row becomes: records of the topics that a shop, or a stage, writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.cli.imports import amazon
from services.cli.imports.intentions import Maker, Parser
from services.cli.imports.reading import Row
from services.cli.imports.state import State
from services.common.pairs import cobuy_of, normalised
from services.common.records import Headers, ce_headers, invalid
from services.common.settings import Settings
from services.common.topics import CANDIDATES, COBUYS, JUDGED, PRODUCTS, Topic

_STAGE = "import"


class Message(NamedTuple):
    """One record to write. There are millions: it is a tuple because that is made soonest."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class Source(Protocol):
    """A collection's rows as messages."""

    #: Co-buys that rows have listed, with whomever.
    listed: int

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Those that are written."""

    def take(self, row: Row, path: Path) -> Sequence[Message]:
        """Messages that a row completes.

        Raises:
            EventFault: the row is refused.
        """

    def take_held(self) -> Sequence[Message]:
        """Messages of what is held back."""

    def pairs(self, after: str) -> Iterator[tuple[str, Sequence[Message]]]:
        """What follows when all files are read: products behind `after`, in order, each with all its messages."""


class Messages:
    """Records of one run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._max_bytes = settings.event_max_bytes
        began = datetime.now(UTC)
        # Made once: there are millions of records, and no two differ in more than their ids.
        self._fixed = {
            topic.base: (
                topic.name(settings),
                [one for one in ce_headers(topic, f"mindstream/{_STAGE}", "", began) if one[0] != "ce_id"],
            )
            for topic in (PRODUCTS, COBUYS, CANDIDATES, JUDGED)
        }

    def __call__(self, topic: Topic, key: str, message: Any, event_id: str) -> Message:
        """A record.

        Raises:
            EventFault: it is over the size limit.
        """
        value = message.SerializeToString()
        if len(value) > self._max_bytes:
            raise invalid(f"{len(value)} bytes; at most {self._max_bytes} (event_max_bytes)")
        name, headers = self._fixed[topic.base]
        return Message(name, key.encode(), value, [*headers, ("ce_id", f"{_STAGE}/{event_id}".encode())])


@dataclass
class Catalogue:
    """Amazon's metadata: products, and the co-buys that `pairs` allows: "both-known", "all" or "none"."""

    parse: amazon.Parse
    messages: Messages
    state: State
    which: str = "both-known"
    pictures: bool = True
    listed: int = 0
    topics: tuple[Topic, ...] = (PRODUCTS, COBUYS)

    def take(self, row: Row, path: Path) -> Sequence[Message]:
        """A product, and its co-buys where nobody is to be known."""
        product, also = self.parse(row.value, self.messages.settings.title_max_chars)
        if not self.pictures:
            product.ClearField("image")
        key = product.product_id
        made = [self.messages(PRODUCTS, key, product, key)]
        if self.which == "both-known":
            self.state.add(key, also=also)
        elif self.which == "all":
            pairs = (CoBuy(product_a=key, product_b=other) for other in also if other != key)
            made += [self._sent(normalised(cobuy)) for cobuy in pairs]
        self.listed += len(also)
        return made

    def take_held(self) -> Sequence[Message]:
        """Nothing is."""
        return ()

    def pairs(self, after: str) -> Iterator[tuple[str, Sequence[Message]]]:
        """Co-buys whose products are both among those that were read."""
        if self.which == "both-known":
            for product, others in self.state.pairs(after):
                yield product, [self._sent(cobuy_of(product, other)) for other in others]

    def _sent(self, cobuy: CoBuy) -> Message:
        return self.messages(COBUYS, cobuy.pair_id, cobuy, cobuy.pair_id)


@dataclass
class Intentions:
    """Ready-made intentions, for the filter or as they are."""

    parser: Parser
    maker: Maker
    messages: Messages
    listed: int = 0

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The one that is written."""
        return (JUDGED if self.maker.as_is else CANDIDATES,)

    def take(self, row: Row, path: Path) -> Sequence[Message]:
        """The message of the rows before, where this one is of another pair."""
        return self._outputs(self.maker.add(self.parser(row.value), f"{path.name}:{row.line}"))

    def take_held(self) -> Sequence[Message]:
        """The last rows' message."""
        return self._outputs(self.maker.take())

    def pairs(self, after: str) -> Iterator[tuple[str, Sequence[Message]]]:
        """None follows."""
        return iter(())

    def _outputs(self, made: Any) -> Sequence[Message]:
        if made is None:
            return ()
        featured = made.featured
        event_id = f"{self.maker.source}/{featured.source.event_id}"
        return [self.messages(self.topics[0], featured.cobuy.pair_id, made, event_id)]
