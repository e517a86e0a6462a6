"""PostgreSQL's errors, made by a real server, sorted into the two kinds of fault."""

from __future__ import annotations

import random

import psycopg
import pytest
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common.errors import EventFault, WorldFault
from services.common.postgres import world_faults

pytestmark = pytest.mark.integration


def run(dsn: str, *statements: str, options: str = "") -> None:
    with world_faults(), psycopg.connect(dsn, options=options) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_server_that_is_read_only_after_a_failover_is_the_worlds_fault(postgres: str) -> None:
    with pytest.raises(WorldFault, match="read-only"):
        run(postgres, "CREATE TABLE t (id int)", options="-c default_transaction_read_only=on")


def test_a_missing_right_is_the_worlds_fault(postgres: str) -> None:
    with pytest.raises(WorldFault, match="permission denied"):
        run(postgres, "CREATE ROLE nobody_here", "SET ROLE nobody_here", "CREATE TABLE public.t (id int)")


def test_what_an_index_cannot_hold_is_the_events_fault(postgres: str) -> None:
    long = random.Random(1).randbytes(3000).hex()  # Not to be compressed below the limit.
    with pytest.raises(EventFault, match="index row") as fault:
        run(postgres, "CREATE TABLE keys (id text PRIMARY KEY)", f"INSERT INTO keys VALUES ('{long}')")
    assert fault.value.reason == reasons.DEAD_LETTER_REASON_INVALID


@pytest.mark.parametrize("statement", ["SELEC 1", "SELECT 1/0", "SELECT * FROM no_such_table"])
def test_a_bug_passes_as_it_is(postgres: str, statement: str) -> None:
    with pytest.raises((psycopg.ProgrammingError, psycopg.DataError)):
        run(postgres, statement)
