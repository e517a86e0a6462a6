"""Which pairs an order completes. Pure: no Kafka, no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

#: Orders kept per customer at the most, so that one customer cannot grow without bound.
MAX_ORDERS = 100
#: JSON around a basket and its list, bytes at the most.
_PUNCTUATION = 8


@dataclass
class Basket:
    """One order of a customer: its distinct products, and when."""

    order_id: str
    #: Event time, seconds since the epoch.
    at: float
    products: list[str] = field(default_factory=list)


class Completed(NamedTuple):
    """A pair, and the order that completed it."""

    first: str
    second: str
    order_id: str
    #: Event time of the completing order, seconds since the epoch.
    at: float


def distinct(products: Iterable[str], cap: int) -> tuple[list[str], int]:
    """Distinct products in order, at most `cap`, and how many were left out."""
    kept = list(dict.fromkeys(products))
    return kept[:cap], max(0, len(kept) - cap)


def with_order(history: list[Basket], order: Basket, most_bytes: int) -> list[Basket]:
    """The customer's history with this order in it, once; of the newest `MAX_ORDERS` those that fit in `most_bytes`.

    Kept whatever their age: partitions of `purchases` run at their own speed, and a shop that loads its history sends
    orders in any order, so an order may come any time after its neighbours.
    """
    kept = [basket for basket in history if basket.order_id != order.order_id] + [order]
    newest = sorted(kept, key=_when)[-MAX_ORDERS:]
    sizes = accumulate(len(json.dumps(asdict(basket))) + _PUNCTUATION for basket in reversed(newest))
    fitting = sum(size <= most_bytes for size in sizes)
    return newest[len(newest) - fitting :]


def pairs(history: Iterable[Basket], order: Basket, window: float, cap: int) -> tuple[list[Completed], int]:
    """Pairs that an order completes: within itself, and with its customer's other orders at most `window` away.
    Also how many products of such orders are left out by the cap.

    A pair of two orders belongs to the later of them by event time, whichever came first: so the sum over all orders
    is the same in any order of arrival, and the same order sent again gives the same pairs again. Each pair once per
    order, in byte order; never a product with itself.

    An order is paired with the orders nearest before it, whole ones, up to `cap` products together: so an order costs
    `cap` plus a basket times its own products at the most, early or late. Only where that cap bites may a late order
    add pairs: those that its later neighbours had found with farther orders, before it stood between, are counted.
    """
    found: dict[Completed, None] = {}
    for index, product in enumerate(order.products):
        for other in order.products[index + 1 :]:
            _add(found, product, other, order)
    others = [basket for basket in history if basket.order_id != order.order_id] if window > 0 else []
    near = [basket for basket in others if abs(basket.at - order.at) <= window]
    before = sorted((b for b in near if _when(b) < _when(order)), key=_when, reverse=True)
    reach = list(accumulate(len(basket.products) for basket in before))
    for basket, products in zip(before, reach, strict=True):
        if products <= cap:
            _add_all(found, order, basket, order)
    passed = len(order.products)
    for later in sorted((b for b in near if _when(b) > _when(order)), key=_when):
        if passed > cap:
            break
        _add_all(found, order, later, later)
        passed += len(later.products)
    kept = max((products for products in reach if products <= cap), default=0)
    return list(found), (reach[-1] - kept if reach else 0)


def _add_all(found: dict[Completed, None], one: Basket, other: Basket, completing: Basket) -> None:
    for product in one.products:
        for partner in other.products:
            _add(found, product, partner, completing)


def _when(basket: Basket) -> tuple[float, str]:
    return basket.at, basket.order_id


def _add(found: dict[Completed, None], product: str, other: str, completing: Basket) -> None:
    if product != other:
        first, second = sorted((product, other), key=str.encode)
        found[Completed(first, second, completing.order_id, completing.at)] = None


def dump(history: list[Basket]) -> list[dict[str, Any]]:
    """As JSON for the table."""
    return [asdict(basket) for basket in history]


def load(stored: list[dict[str, Any]] | None) -> list[Basket]:
    """From JSON of the table."""
    return [Basket(**basket) for basket in stored or []]
