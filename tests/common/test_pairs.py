"""Co-buys as the stages may rely on them."""

from __future__ import annotations

import pytest
from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common.errors import EventFault
from services.common.pairs import normalised, pair_id


def test_ids_come_in_order_whatever_the_shop_wrote() -> None:
    made = normalised(CoBuy(pair_id="wrong", product_a="b|", product_b="a", support=2**63 - 1))
    assert (made.pair_id, made.product_a, made.product_b) == ("a|b%7C", "a", "b|")
    assert pair_id("b|", "a") == pair_id("a", "b|") == made.pair_id


@pytest.mark.parametrize(
    "wrong",
    [
        {"product_b": "a"},
        {"support": 2**63},
        {"first_seen": {"seconds": 10**15}},
        {"last_seen": {"seconds": -(10**12)}},
        {"last_seen": {"nanos": -1}},
    ],
)
def test_what_no_database_takes_is_refused_before_the_gpu_works_on_it(wrong: dict[str, object]) -> None:
    with pytest.raises(EventFault):
        normalised(CoBuy(**{"product_a": "a", "product_b": "b", **wrong}))  # type: ignore[arg-type]
