"""Which pairs an order completes. Pure: no Kafka, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

#: Orders kept per customer at the most, so that one customer cannot grow without bound.
MAX_ORDERS = 200


@dataclass
class Basket:
    """One order of a customer: its distinct products, and when."""

    order_id: str
    #: Event time, seconds since the epoch.
    at: float
    products: list[str] = field(default_factory=list)


def distinct(products: Iterable[str], cap: int) -> tuple[list[str], int]:
    """Distinct products in order, at most `cap`, and how many were left out."""
    kept = list(dict.fromkeys(products))
    return kept[:cap], max(0, len(kept) - cap)


def with_order(history: list[Basket], order: Basket, window: float) -> list[Basket]:
    """The customer's history with this order in it, once; what is older than the window before the newest is gone."""
    kept = [basket for basket in history if basket.order_id != order.order_id] + [order]
    newest = max(basket.at for basket in kept)
    kept = [basket for basket in kept if newest - basket.at <= window or basket is order]
    return sorted(kept, key=lambda basket: (basket.at, basket.order_id))[-MAX_ORDERS:]


def pairs(history: Iterable[Basket], order: Basket, window: float) -> list[tuple[str, str]]:
    """Pairs that an order completes: within itself, and with its customer's other orders in the window up to it.

    Each pair once, in byte order; never a product with itself. The same order gives the same pairs again.
    """
    found: dict[tuple[str, str], None] = {}
    earlier: list[str] = []
    if window > 0:
        for basket in history:
            before = (basket.at, basket.order_id) < (order.at, order.order_id)
            if before and order.at - basket.at <= window:
                earlier += basket.products
    for index, product in enumerate(order.products):
        for other in (*order.products[index + 1 :], *earlier):
            if other != product:
                first, second = sorted((product, other), key=str.encode)
                found[first, second] = None
    return list(found)


def dump(history: list[Basket]) -> list[dict[str, Any]]:
    """As JSON for the table."""
    return [asdict(basket) for basket in history]


def load(stored: list[dict[str, Any]] | None) -> list[Basket]:
    """From JSON of the table."""
    return [Basket(**basket) for basket in stored or []]
