"""What came of a run, counted on a real broker's topics: only what came after its begin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy

from services.cli import outcome
from services.common import kafka, topics
from services.common.dead_letters import dead_letter
from services.common.records import Output, Record, output
from services.common.settings import Settings

pytestmark = pytest.mark.integration


def one_run(made: Settings) -> list[Output]:
    """Three co-buys of which the extractor parks one twice, sets one aside and passes one on."""
    name = topics.COBUYS.name(made)
    cobuys = [CoBuy(pair_id=f"a|{n}", product_a="a", product_b=str(n)) for n in range(3)]
    fed = [output(topics.COBUYS, name, one.pair_id, one, stage="feed") for one in cobuys]
    record = Record(name, 0, 0, b"a|0", fed[0].value, fed[0].headers)
    parked = Output(topics.retry_name(name, "extractor"), fed[1].key, fed[1].value, fed[1].headers)
    reason, room = reasons.DEAD_LETTER_REASON_INVALID, topics.letter_max_bytes(made)
    letter = dead_letter(record, "extractor", reason, "why", error_class="EventFault", attempts=1, room=room)
    featured = output(
        topics.FEATURED, topics.FEATURED.name(made), "a|2", FeaturedCoBuy(), stage="extractor", cause=record
    )
    return [*fed, parked, parked, letter, featured]


def test_a_run_is_counted_from_its_begin(settings: Callable[..., Settings]) -> None:
    made = settings(topic_partitions=2)
    kafka.send(kafka.plain_producer(made), one_run(made))
    since = outcome.ends(made)
    assert outcome.dead_letters(made, since) == []
    assert not any(sum(counts.values()) for counts in outcome.stages(made, since, []).values())

    kafka.send(kafka.plain_producer(made), one_run(made))
    found = outcome.stages(made, since, [])
    assert found["extractor"] == {"in": 3, "out": 1, "parked": 2, "dead_letter": 1, "duplicate": 0}
    assert found["generator"] == {"in": 1, "out": 0, "parked": 0, "dead_letter": 0, "duplicate": 0}
    assert outcome.dead_letters(made, since) == [outcome.DeadLetters("cobuys", "extractor", "invalid", "why", 1)]
