"""Any bytes are rows that PostgreSQL takes, or the event's fault."""

from __future__ import annotations

from datetime import datetime

import hypothesis
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.intention_pb2 import JudgedIntentions

from services.common.errors import EventFault
from services.common.kb import SCHEMA
from services.common.postgres import migrate
from services.common.records import Record
from services.common.relations import RELATIONS
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.rows import COLUMNS, Rows, rows
from tests.messages import messages


@st.composite
def nearly_good(draw: st.DrawFn) -> JudgedIntentions:
    """Any message with the ids that rows need, so that the rest of it is looked at."""
    made = draw(messages(JudgedIntentions))
    featured = made.featured
    featured.cobuy.pair_id = featured.cobuy.pair_id or "a|b"
    for features in (featured.product_a, featured.product_b):
        features.content_digest = features.content_digest or "sha256:1"
    made.threshold = draw(st.floats(0, 1))
    for number, one in enumerate(made.judged):
        one.score = draw(st.floats(0, 1))
        one.intention.intention_id = one.intention.intention_id or f"i{number}"
        one.intention.relation = draw(st.sampled_from(RELATIONS)).name
    return made


@given(st.binary() | (messages(JudgedIntentions) | nearly_good()).map(JudgedIntentions.SerializeToString))
def test_any_bytes_are_rows_or_the_events_fault(value: bytes) -> None:
    try:
        made = rows(Record("intentions.judged", 0, 0, b"k", value))
    except EventFault:
        return
    assert set(made.tables) == set(COLUMNS)
    assert all(len(row) == len(COLUMNS[table]) for table, given in made.tables.items() for row in given)
    assert made.event_time is None or isinstance(made.event_time, datetime)


@pytest.mark.integration
def test_postgresql_takes_all_rows(postgres: str) -> None:
    migrate(postgres, SCHEMA, MIGRATIONS)
    with psycopg.connect(postgres) as connection:

        @hypothesis.settings(max_examples=200)
        @given(nearly_good())
        def copied(judged: JudgedIntentions) -> None:
            try:
                made = rows(Record("intentions.judged", 0, 0, b"k", judged.SerializeToString()))
            except EventFault:
                return
            copy(connection, made)

        copied()


def copy(connection: psycopg.Connection[object], made: Rows) -> None:
    """Into tables without keys, as the merge does: the same id twice is its business."""
    for table, columns in COLUMNS.items():
        names = ", ".join(columns)
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS t_{table} AS SELECT {names} FROM kb.{table} LIMIT 0")
        with connection.cursor().copy(f"COPY t_{table} ({names}) FROM STDIN") as into:
            for row in made.tables[table]:
                into.write_row(row)
    connection.rollback()
