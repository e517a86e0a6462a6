"""Any bytes are a purchase that can be counted, or the event's fault."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.purchase_pb2 import Purchase

from services.cobuy import baskets
from services.cobuy.baskets import Basket
from services.cobuy.purchases import purchase
from services.common.errors import EventFault
from services.common.pairs import pair_id
from services.common.records import Record, check_id
from tests.messages import messages


@given(st.binary() | messages(Purchase).map(Purchase.SerializeToString))
def test_any_bytes_are_a_purchase_or_the_events_fault(value: bytes) -> None:
    try:
        found = purchase(Record("purchases", 0, 0, b"k", value))
    except EventFault:
        return
    # What the next steps take for granted.
    assert 0 < found.occurred_at.seconds + found.occurred_at.nanos / 1e9 < 2**33
    order = Basket(found.order_id, 1.0, [item.product_id for item in found.items])
    for pair in baskets.pairs([], order, 0.0, 100)[0]:
        assert check_id("pair", pair_id(pair.first, pair.second))
