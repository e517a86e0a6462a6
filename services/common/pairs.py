"""Pair ids: two product ids in byte order, joined so that no two pairs share an id."""

from __future__ import annotations

from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common.records import check_id, check_time, invalid


def _escape(product_id: str) -> str:
    return product_id.replace("%", "%25").replace("|", "%7C")


def _in_order(product_a: str, product_b: str) -> tuple[str, str]:
    # The order of code points is that of their bytes in UTF-8.
    return (product_a, product_b) if product_a <= product_b else (product_b, product_a)


def _joined(first: str, second: str) -> str:
    return f"{_escape(first)}|{_escape(second)}"


def pair_id(product_a: str, product_b: str) -> str:
    """The id of a pair, the same for both orders."""
    return _joined(*_in_order(product_a, product_b))


def cobuy_of(product_a: str, product_b: str) -> CoBuy:
    """The co-buy of two ids that differ and were checked."""
    first, second = _in_order(product_a, product_b)
    return CoBuy(pair_id=_joined(first, second), product_a=first, product_b=second)


def normalised(cobuy: CoBuy) -> CoBuy:
    """The co-buy with its ids in order and its pair id filled in.

    Raises:
        EventFault: a missing id, a product paired with itself, or a number out of range.
    """
    a, b = check_id("product_a", cobuy.product_a), check_id("product_b", cobuy.product_b)
    if a == b:
        raise invalid(f"product {a!r} is paired with itself")
    if cobuy.support >= 2**63:
        raise invalid(f"support {cobuy.support} is out of range")
    for name in ("first_seen", "last_seen"):
        check_time(name, getattr(cobuy, name))
    first, second = _in_order(a, b)
    out = CoBuy()
    out.CopyFrom(cobuy)
    out.DiscardUnknownFields()  # Nobody reads them, and they may be long.
    out.product_a, out.product_b, out.pair_id = first, second, _joined(first, second)
    return out
