"""From which topic records are taken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from services.cobuy.app import build
from services.cobuy.fetching import BATCH_RECORDS, DownstreamFirstConsumer
from services.common import topics
from services.common.runtime.stage import Health
from services.common.settings import Settings

_ORDER = ["occurrences", "by-customer", "purchases"]
_held = st.dictionaries(
    st.builds(TP, st.sampled_from([*_ORDER, "changelog"]), st.integers(0, 3)), st.integers(1, 2000), min_size=1
)


class Held:
    """Records that the client has fetched, handed out as aiokafka does: of these partitions, so many at the most."""

    def __init__(self, counts: dict[TP, int]) -> None:
        self.counts = dict(counts)

    async def getmany(self, partitions: set[TP], timeout: float) -> dict[TP, int]:
        found, left = {}, BATCH_RECORDS
        for tp in [tp for tp in self.counts if tp in partitions]:
            if taken := min(left, self.counts[tp]):
                found[tp] = taken
                self.counts[tp] -= taken
                left -= taken
        return found


def consumer(held: Held) -> Any:
    made: Any = DownstreamFirstConsumer.__new__(DownstreamFirstConsumer)
    made._thread, made.transport = held, SimpleNamespace(downstream_first=_ORDER)
    return made


@given(_held)
def test_a_batch_is_of_the_topic_furthest_downstream(counts: dict[TP, int]) -> None:
    held, places = Held(counts), []
    one, active = consumer(held), set(counts)
    while any(held.counts.values()):
        batch = asyncio.run(one._getmany(active, 1.0))
        names = {tp.topic for tp in batch}
        assert sum(batch.values()) <= BATCH_RECORDS
        if "changelog" not in names:
            assert len(names) == 1
            places.append(_ORDER.index(names.pop()))
    assert places == sorted(places)


@given(_held)
def test_of_partitions_that_rest_nothing_is_taken(counts: dict[TP, int]) -> None:
    held = Held(counts)
    active = {tp for tp in counts if tp.partition % 2}
    batch = asyncio.run(consumer(held)._getmany(active, 1.0)) if active else {}
    assert set(batch) <= active


def test_the_service_fetches_so(tmp_path: Any) -> None:
    settings = Settings(state_dir=tmp_path, customer_key="k" * 32)
    app = build(settings, Health())
    read = (topics.OCCURRENCES, topics.PURCHASES_BY_CUSTOMER, topics.PURCHASES)
    assert app.transport.downstream_first == [topic.name(settings) for topic in read]
    assert app.transport.Consumer is DownstreamFirstConsumer
    assert app.conf.broker_max_poll_records == BATCH_RECORDS
