"""A shop's day from a seed: products, orders and co-buys, some sent again, some that nobody can read."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from google.protobuf.message import Message
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase

from models.demo import shop
from services.common.pairs import pair_id
from services.common.topics import COBUYS, PRODUCTS, PURCHASES, Topic

_PRODUCTS = 80
_START = 1_767_225_600  # 2026-01-01, the shop's first order.
_PICTURE_SIDE = 64

#: What must become of an event: its pairs are judged, its product is in the catalogue, or it is a dead letter.
Fate = Literal["judged", "catalogue", "dead_letter"]


@dataclass(frozen=True)
class Event:
    """One record of a shop."""

    topic: Topic
    key: str
    value: bytes
    fate: Fate
    #: Of a judged one: its pairs. Of one in the catalogue: the product.
    ids: tuple[str, ...] = ()
    content_type: str = "application/protobuf"


class Load:
    """Events without end, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._ids = [f"P{number:03d}" for number in range(_PRODUCTS)]
        self._pairs = list(combinations(self._ids, 2))
        self._rng.shuffle(self._pairs)
        self._orders = 0
        self._sent: list[Event] = []

    def catalogue(self) -> list[Event]:
        """All products; the shop has them before it sells them."""
        kinds = list(shop.kinds().values())
        return [self._product(product_id, self._rng.choice(kinds)) for product_id in self._ids]

    def steps(self) -> Iterator[list[Event]]:
        """What happens, one thing after the other; at most one new pair a step."""
        while self._pairs:
            chance = self._rng.random()
            if chance < 0.04:
                yield [self._poison()]
            elif chance < 0.10 and self._sent:
                yield [self._rng.choice(self._sent)]  # Sent again.
            else:
                events = self._sale(*self._pairs.pop())
                self._sent += events
                yield events

    def _sale(self, a: str, b: str) -> list[Event]:
        """Events that make the pair a co-buy."""
        kind, pair = self._rng.random(), (pair_id(a, b),)
        if kind < 0.5:
            return [_event(COBUYS, pair[0], CoBuy(product_a=a, product_b=b), "judged", pair)]
        if kind < 0.85:  # Two orders without a customer.
            return [self._order([a, b], pair) for _ in range(2)]
        # Two customers, who each come back for the second product.
        names = [f"C{self._orders + number}" for number in range(2)]
        return [self._order([product], pair, name) for name in names for product in (a, b)]

    def _order(self, products: list[str], pair: tuple[str, ...], customer: str = "") -> Event:
        self._orders += 1
        order = Purchase(order_id=f"O{self._orders}", customer_id=customer)
        order.occurred_at.seconds = _START + self._orders
        for product in products:
            order.items.add(product_id=product, quantity=1)
        return _event(PURCHASES, order.order_id, order, "judged", pair)

    def _product(self, product_id: str, kind: shop.Kind) -> Event:
        made = shop.product(self._rng, "held-out", kind)
        product = Product(product_id=product_id, title=made.title)
        if made.pictured:
            file = io.BytesIO()
            made.picture(_PICTURE_SIDE).save(file, "PNG")
            product.image.content = file.getvalue()
        return _event(PRODUCTS, product_id, product, "catalogue", (product_id,))

    def _poison(self) -> Event:
        """What every stage that decodes must set aside."""
        self._orders += 1
        key, noise = f"X{self._orders}", self._rng.randbytes(20)
        empty = Purchase(order_id=key)
        empty.occurred_at.seconds = _START
        picture = Product(product_id=key, title="A product with a broken picture")
        picture.image.content = noise
        choices = [
            Event(PURCHASES, key, b"\xff" + noise, "dead_letter"),
            _event(PURCHASES, key, empty, "dead_letter"),
            Event(PURCHASES, key, b"<order/>", "dead_letter", content_type="application/xml"),
            Event(PRODUCTS, key, b'{"product_id": ""}', "dead_letter", content_type="application/json"),
            _event(PRODUCTS, key, picture, "dead_letter"),
            _event(COBUYS, key, CoBuy(product_a=self._ids[0], product_b=self._ids[0]), "dead_letter"),
            _event(COBUYS, key, CoBuy(product_a=self._ids[0], product_b=f"unknown-{key}"), "dead_letter"),
        ]
        return self._rng.choice(choices)


def _event(topic: Topic, key: str, message: Message, fate: Fate, ids: tuple[str, ...] = ()) -> Event:
    return Event(topic, key, message.SerializeToString(deterministic=True), fate, ids)
