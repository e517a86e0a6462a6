"""What was judged once more: in whatever order and batches two topics come, the last judgement stands, once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import hypothesis
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, VERDICT_REJECTED, JudgedIntentions

from services.common import datasets, kafka, topics
from services.common.errors import EventFault
from services.common.records import Record
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.rejudged import COLUMNS, rejudged_rows
from services.kb_sink.releases import new_intentions, release
from services.kb_sink.rows import rows
from tests.kb_sink.test_decoding import nearly_good
from tests.kb_sink.test_release import Said, database, fill, made, new_database
from tests.kb_sink.test_sink import judged
from tests.messages import messages

__all__ = ["database", "made", "new_database"]

#: A pair's number, the filter that judges it, and the threshold in force.
Event = tuple[int, str, float]
_JUDGEMENT = "score, accepted, threshold, filter_model, filter_prompt"


def again(number: int, model: str, threshold: float) -> JudgedIntentions:
    """A pair judged by a model, whose scores follow from its name."""
    made = judged(number)
    del made.judged[3:]
    made.judged_by.model_version, made.judged_by.prompt_version, made.threshold = model, "filter/v1", threshold
    for place, one in enumerate(made.judged):
        one.score = random.Random(f"{model}{number}{place}").random()
        one.verdict = VERDICT_ACCEPTED if one.score >= threshold else VERDICT_REJECTED
    return made


@pytest.mark.integration
def test_the_last_judgement_stands_whatever_comes_with_it(settings: Callable[..., Settings], postgres: str) -> None:
    own = settings(postgres_dsn=postgres)
    committer, consumer = PostgresCommitter(own), kafka.reader(own, "test")
    committer.open()
    first, second = topics.JUDGED.name(own), topics.REJUDGED.name(own)
    offsets = {first: 0, second: 0}

    def finished(topic: str, event: JudgedIntentions) -> Finished:
        record = Record(topic, 0, offsets[topic], b"k", event.SerializeToString())
        offsets[topic] += 1
        return Finished(record, Result(rows=rows(record) if topic == first else rejudged_rows(record)))

    def filled(events: Sequence[Event], together: int, order: random.Random) -> tuple[list[Any], list[Any]]:
        """Each pair's first judgement and then `events`, in their order, but in any with the first ones between."""
        with psycopg.connect(postgres) as connection:
            connection.execute("TRUNCATE kb.intentions, kb.judgements, kb.pairs, kb.products")
        left = {first: [judged(number) for number in {one[0] for one in events}], second: [again(*e) for e in events]}
        for queue in left.values():
            queue.reverse()
            for one in queue:
                del one.judged[3:]
        while any(left.values()):
            batch = []
            for _ in range(together):
                if waiting := [topic for topic, queue in left.items() if queue]:
                    topic = order.choice(waiting)
                    batch.append(finished(topic, left[topic].pop()))
            committer.commit(
                batch, {(topic, 0): offsets[topic] for topic in {one.record.topic for one in batch}}, consumer
            )
        with psycopg.connect(postgres) as connection:
            now = connection.execute(
                f"SELECT pair_id, intention_id, text, {_JUDGEMENT} FROM kb.intentions ORDER BY 1, 2"
            ).fetchall()
            before = connection.execute(
                f"SELECT pair_id, intention_id, {_JUDGEMENT} FROM kb.judgements ORDER BY judgement"
            ).fetchall()
        return now, before

    events = st.tuples(st.integers(0, 2), st.sampled_from(["m@1", "m@2"]), st.sampled_from([0.25, 0.5]))

    @hypothesis.settings(max_examples=40)
    @given(st.lists(events, min_size=1, max_size=6), st.integers(1, 4), st.randoms(use_true_random=False))
    def holds(given_events: list[Event], together: int, order: random.Random) -> None:
        last = {number: again(number, model, threshold) for number, model, threshold in given_events}
        expected = sorted(
            (one.featured.cobuy.pair_id, each.intention.intention_id, each.intention.text, each.score,
             each.verdict == VERDICT_ACCEPTED, one.threshold, one.judged_by.model_version, "filter/v1")
            for one in last.values() for each in one.judged
        )  # fmt: skip
        now, before = filled(given_events, together, order)
        assert now == expected
        chains = defaultdict(list)
        for pair, key, *judgement in before:
            chains[pair, key].append(judgement)
        for pair, key, _, *judgement in now:
            chain = [*chains[pair, key], judgement]
            # Of the same filter at the same threshold, nothing took another's place.
            assert all(one[2:] != other[2:] for one, other in pairwise(chain))
        assert chains.keys() <= {(pair, key) for pair, key, *_ in now}
        assert filled(given_events, 5 - together, order)[0] == now

    holds()
    consumer.close()
    committer.close()


@given(st.binary() | (messages(JudgedIntentions) | nearly_good()).map(JudgedIntentions.SerializeToString))
def test_any_bytes_are_rows_or_the_events_fault(value: bytes) -> None:
    try:
        found = rejudged_rows(Record("intentions.rejudged", 0, 0, b"k", value))
    except EventFault:
        return
    assert set(found.tables) == {"products", "pairs", "rejudged"}
    assert all(len(row) == len(COLUMNS["rejudged"]) for row in found.tables["rejudged"])
    assert found.event_time is None  # It is no news: how old the KB is says nothing of it.


@pytest.mark.integration
def test_a_release_is_due_when_judgements_were_replaced(settings: Callable[..., Settings], database: str) -> None:
    fill(database, [Said(1, 2, "UsedFor", "eating soup", 0.9), Said(1, 2, "MadeOf", "steel", 0.2)])
    own = settings(postgres_dsn=database)
    assert new_intentions(own) == 2
    first = release(own)
    assert first is not None
    assert new_intentions(own) == 0
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.intentions SET score = 0.1, accepted = false, filter_model = 'm@2'")
    assert new_intentions(own) == 2
    second = release(own)
    assert second is not None
    assert (second.manifest["accepted"], second.manifest["models"]) == (0, ["m@1", "m@2"])
    assert second.release_id != first.release_id
    assert new_intentions(own) == 0
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE kb.intentions SET score = s.score, accepted = s.accepted, filter_model = 'm@1' FROM "
            "kb.judgements s WHERE s.intention_id = kb.intentions.intention_id"
        )
    # The KB is what it was: so is the release, and it is not due for ever.
    third = release(own)
    assert third is not None
    assert third.release_id == first.release_id
    assert new_intentions(own) == 0
    assert datasets.verify(third.url) == []
