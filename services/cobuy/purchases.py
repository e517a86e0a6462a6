"""A purchase that can be counted, or the reason why not."""

from __future__ import annotations

from mindstream.events.v1.purchase_pb2 import Purchase

from services.common.records import Record, check_id, decode, invalid

#: Event times outside these are mistakes of a unit or a field: seconds since the epoch, 1990 to 2100.
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800
_MOST_ITEMS = 10_000


def purchase(record: Record) -> Purchase:
    """Decode and check.

    Raises:
        EventFault: not decodable, or a field is missing or out of range.
    """
    found = decode(record, Purchase, json_allowed=True)
    check_id("order_id", found.order_id)
    if found.customer_id:
        check_id("customer_id", found.customer_id)
    if not found.HasField("occurred_at"):
        raise invalid("occurred_at is missing")
    if not _EARLIEST <= found.occurred_at.seconds <= _LATEST:
        raise invalid(f"occurred_at is {found.occurred_at.seconds} s after 1970: outside 1990 to 2100")
    if not found.items:
        raise invalid("items is empty")
    if len(found.items) > _MOST_ITEMS:
        raise invalid(f"{len(found.items)} items; at most {_MOST_ITEMS}")
    for index, item in enumerate(found.items):
        check_id(f"items[{index}].product_id", item.product_id)
    return found
