"""Which pairs an order completes. Pure: no Kafka, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

#: Orders kept per customer at the most, so that one customer cannot grow without bound.
MAX_ORDERS = 100


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


def with_order(history: list[Basket], order: Basket) -> list[Basket]:
    """The customer's history with this order in it, once; the newest `MAX_ORDERS` are kept.

    Kept whatever their age: partitions of `purchases` run at their own speed, and a shop that loads its history sends
    orders in any order, so an order may come any time after its neighbours.
    """
    kept = [basket for basket in history if basket.order_id != order.order_id] + [order]
    return sorted(kept, key=_when)[-MAX_ORDERS:]


def pairs(history: Iterable[Basket], order: Basket, window: float) -> list[Completed]:
    """Pairs that an order completes: within itself, and with its customer's other orders at most `window` away.

    A pair of two orders belongs to the later of them by event time, whichever came first: so the sum over all orders
    is the same in any order of arrival, and the same order sent again gives the same pairs again. Each pair once per
    order, in byte order; never a product with itself.
    """
    found: dict[Completed, None] = {}
    for index, product in enumerate(order.products):
        for other in order.products[index + 1 :]:
            _add(found, product, other, order)
    for basket in history if window > 0 else ():
        if basket.order_id == order.order_id or abs(basket.at - order.at) > window:
            continue
        later = max(basket, order, key=_when)
        for product in order.products:
            for other in basket.products:
                _add(found, product, other, later)
    return list(found)


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
