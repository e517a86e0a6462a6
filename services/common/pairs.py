"""Pair ids: two product ids in byte order, joined so that no two pairs share an id."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common.records import check_id, invalid

#: What a protobuf timestamp may hold, years 1 to 9999: seconds since the epoch.
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799


def _escape(product_id: str) -> str:
    return product_id.replace("%", "%25").replace("|", "%7C")


def pair_id(product_a: str, product_b: str) -> str:
    """The id of a pair, the same for both orders."""
    first, second = sorted((product_a, product_b), key=str.encode)
    return f"{_escape(first)}|{_escape(second)}"


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
        stamp: Timestamp = getattr(cobuy, name)
        if not (_EARLIEST <= stamp.seconds <= _LATEST and 0 <= stamp.nanos < 10**9):
            raise invalid(f"{name} is {stamp.seconds} s and {stamp.nanos} ns after 1970: outside the years 1 to 9999")
    first, second = sorted((a, b), key=str.encode)
    out = CoBuy()
    out.CopyFrom(cobuy)
    out.product_a, out.product_b, out.pair_id = first, second, pair_id(first, second)
    return out
