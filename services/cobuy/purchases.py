"""A purchase that can be counted, or the reason why not; and that purchase without its customer's id."""

from __future__ import annotations

import hmac

from mindstream.events.v1.purchase_pb2 import Purchase

from services.common.records import Record, check_id, check_time, decode, invalid
from services.common.settings import Settings, SettingsError

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
    check_time("occurred_at", found.occurred_at)
    if not _EARLIEST <= found.occurred_at.seconds <= _LATEST:
        raise invalid(f"occurred_at is {found.occurred_at.seconds} s after 1970: outside 1990 to 2100")
    if not found.items:
        raise invalid("items is empty")
    if len(found.items) > _MOST_ITEMS:
        raise invalid(f"{len(found.items)} items; at most {_MOST_ITEMS}")
    for index, item in enumerate(found.items):
        check_id(f"items[{index}].product_id", item.product_id)
    return found


def customer_key(settings: Settings) -> bytes:
    """The key that customers' ids are hashed with.

    Raises:
        SettingsError: there is none.
    """
    key = settings.customer_key.get_secret_value()
    if not key:
        raise SettingsError(
            "MINDSTREAM_CUSTOMER_KEY: not set; customers' ids are hashed with it (make one: openssl rand -hex 32)"
        )
    return key.encode()


def pseudonymous(found: Purchase, key: bytes) -> Purchase:
    """The purchase as it may leave `purchases`: the customer's id hashed, and no field that we do not know of.

    A hash without a key would be no secret: whoever has a list of ids could hash them all.
    """
    made = Purchase()
    made.CopyFrom(found)
    made.DiscardUnknownFields()
    if made.customer_id:
        made.customer_id = hmac.digest(key, made.customer_id.encode(), "sha256").hex()
    return made
