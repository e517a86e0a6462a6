"""What people say of intentions: the last verdict counts, in whatever order they come, and releases carry them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

import hypothesis
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.feedback_pb2 import THUMB_DOWN, THUMB_UP, IntentionFeedback

from services.common import datasets, kafka, topics
from services.common.errors import EventFault
from services.common.records import Record
from services.common.runtime.stage import Finished, Result
from services.common.settings import Settings
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.feedback import COLUMNS, feedback_rows
from tests.kb_sink.test_release import Said, database, fill, made, new_database, released, rows
from tests.messages import messages

__all__ = ["database", "made", "new_database"]
PEOPLE = [f"{number:064x}" for number in range(3)]


@st.composite
def verdicts(draw: st.DrawFn) -> IntentionFeedback:
    """A verdict of one of few people on one of few intentions, often as old as another."""
    said = IntentionFeedback(
        feedback_id=draw(st.sampled_from("abZÄ")),
        pair_id=draw(st.sampled_from(["a|b", "c|d"])),
        intention_id=draw(st.sampled_from(["i", "j"])),
        who=draw(st.sampled_from(PEOPLE)),
        verdict=draw(st.sampled_from([THUMB_UP, THUMB_DOWN])),
        reason=draw(st.sampled_from(["", "a reason", "\u202e🛒\n\t\\N"])),
    )
    said.given_at.seconds, said.given_at.nanos = draw(st.integers(-1, 2)), draw(st.sampled_from([0, 999, 1000]))
    return said


def last(events: Sequence[IntentionFeedback]) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """Of each person on each intention the last verdict; PostgreSQL keeps microseconds."""
    found: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for one in events:
        key = (one.pair_id, one.intention_id, one.who)
        row = (one.given_at.ToDatetime(UTC), one.feedback_id, one.verdict == THUMB_UP, one.reason)
        found[key] = max(found.get(key, row), row)
    return found


@pytest.mark.integration
def test_any_order_of_the_same_verdicts_gives_the_same_table(settings: Callable[..., Settings], postgres: str) -> None:
    given_settings = settings(postgres_dsn=postgres)
    committer, consumer = PostgresCommitter(given_settings), kafka.reader(given_settings, "test")
    committer.open()
    topic, offset = topics.FEEDBACK.name(given_settings), 0

    @hypothesis.settings(max_examples=30)
    @given(st.lists(verdicts(), max_size=12), st.integers(1, 5), st.randoms(use_true_random=False))
    def holds(events: list[IntentionFeedback], together: int, order: random.Random) -> None:
        nonlocal offset
        for _ in range(2):
            order.shuffle(events)
            with psycopg.connect(postgres) as connection:
                connection.execute("DELETE FROM kb.feedback")
            for at in range(0, len(events), together):
                batch = []
                for event in events[at : at + together]:
                    record = Record(topic, 0, offset, b"k", event.SerializeToString())
                    batch.append(Finished(record, Result(rows=feedback_rows(record))))
                    offset += 1
                committer.commit(batch, {(topic, 0): offset}, consumer)
            with psycopg.connect(postgres) as connection:
                found = connection.execute(
                    "SELECT pair_id, intention_id, who, given_at, feedback_id, up, reason FROM kb.feedback"
                ).fetchall()
            assert {row[:3]: row[3:] for row in found} == last(events)

    holds()
    consumer.close()
    committer.close()


@given(st.binary() | (messages(IntentionFeedback) | verdicts()).map(IntentionFeedback.SerializeToString))
def test_any_bytes_are_a_row_or_the_events_fault(value: bytes) -> None:
    try:
        found = feedback_rows(Record("intentions.feedback", 0, 0, b"k", value))
    except EventFault:
        return
    ((name, [row]),) = found.tables.items()
    assert len(row) == len(COLUMNS[name])


def test_a_name_in_the_place_of_its_hash_is_not_repeated() -> None:
    event = IntentionFeedback(feedback_id="f", pair_id="a|b", intention_id="i", who="anna", verdict=THUMB_UP)
    with pytest.raises(EventFault, match="who is no hash") as refused:
        feedback_rows(Record("intentions.feedback", 0, 0, b"k", event.SerializeToString()))
    assert "anna" not in str(refused.value)


@pytest.mark.integration
def test_a_release_carries_what_people_say_and_is_reproducible(made: Callable[..., Settings], database: str) -> None:
    fill(database, [Said(1, 2, "UsedFor", "eating soup", 0.9), Said(1, 2, "MadeOf", "steel", 0.2)])
    settings = made(release_split="pair")
    before = released(settings)
    assert {(row["people_up"], row["people_down"]) for row in rows(before, "judgement")} == {(0, 0)}
    with psycopg.connect(database) as connection:
        said = [("p001|p002/UsedFor/0", who, up) for who, up in zip(PEOPLE, (True, False, True), strict=True)]
        connection.cursor().executemany(
            "INSERT INTO kb.feedback VALUES ('p001|p002', %s, %s, %s, 'said', now(), 'f')",
            [*said, ("not generated yet", PEOPLE[0], True)],
        )
    after, again = (
        released(made(release_split="pair", datasets_url=settings.datasets_url + more)) for more in ("", "-again")
    )
    assert after.manifest == again.manifest
    assert after.release_id != before.release_id
    assert after.manifest["people_verdicts"] == 3
    found = {row["relation"]: (row["people_up"], row["people_down"]) for row in rows(after, "judgement")}
    assert found == {"UsedFor": (2, 1), "MadeOf": (0, 0)}
    assert datasets.verify(after.url) == []
    assert not any("said" in str(row) for row in rows(after, "judgement"))
