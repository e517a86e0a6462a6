"""`mindstream kb agreement`: the filter against people, counted as the literature does."""

from __future__ import annotations

import json

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.people import Judged, compared
from services.cli.rating.agreement import Verdicts
from services.common import kb
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.kb_sink.committer import MIGRATIONS
from tests.explorer.conftest import insert_pair, insert_product


def test_kappa_by_hand() -> None:
    """Of 50 both say yes to 20 and no to 15: 0.7 agree; one says yes to half, the other to 0.6: 0.5 by chance."""
    found = Verdicts(kept_right=20, kept_wrong=5, rejected_wrong=10, rejected_right=15)
    assert (found.decided, found.agreeing) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)


COUNTS = st.integers(0, 50)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_kappa_takes_no_side(a: int, b: int, c: int, d: int) -> None:
    kappa = Verdicts(a, b, d, c).kappa
    assert Verdicts(a, c, d, b).kappa == kappa  # Whoever is asked first.
    assert Verdicts(d, c, a, b).kappa == kappa  # Whatever is called yes.
    if kappa is not None:
        assert -1 <= kappa <= 1
        assert (kappa == 1) == (b == c == 0)


def test_the_threshold_moves_and_each_relation_is_by_itself() -> None:
    rows: list[Judged] = [
        ("UsedFor", 0.9, True, 2, 1),
        ("UsedFor", 0.55, True, 0, 1),
        ("IsA", 0.4, False, 1, 0),
        ("IsA", 0.3, False, 1, 1),
    ]
    judged = compared(rows, None)
    assert list(judged["relations"]) == ["IsA", "UsedFor"]
    assert (judged["verdicts"], judged["filter"]["n"], judged["filter"]["undecided"]) == (7, 3, 1)
    assert (judged["filter"]["precision"], judged["filter"]["recall"]) == (0.5, 0.5)
    assert (judged["relations"]["IsA"]["precision"], judged["relations"]["IsA"]["recall"]) == (None, 0.0)
    lower, higher = compared(rows, 0.35)["filter"], compared(rows, 0.6)["filter"]
    assert (lower["precision"], lower["recall"]) == (2 / 3, 1.0)
    assert (higher["precision"], higher["recall"]) == (1.0, 0.5)


@pytest.mark.integration
def test_it_counts_what_is_in_the_kb(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    with psycopg.connect(postgres) as connection:
        for product in "ab":
            insert_product(connection, product, product)
        pair = insert_pair(connection, "a", "b", 1, {})  # Of these the first half is kept.
        said = [(f"{pair}-{one.name}", number < 8 or number >= 18) for number, one in enumerate(RELATIONS)]
        connection.cursor().executemany(
            "INSERT INTO kb.feedback VALUES (%s, %s, 'someone', %s, '', now(), 'f')",
            [(pair, intention, up) for intention, up in [*said, ("of no relation yet", True)]],
        )
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", postgres)
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "nowhere:1")
    found = json.loads(CliRunner().invoke(app, ["kb", "agreement", "--json"]).stdout)
    assert (found["people"], found["verdicts"], found["filter"]["n"]) == (1, 20, 20)
    assert found["filter"]["agreement"] == pytest.approx(15 / 20)
    assert found["filter"]["precision"] == pytest.approx(8 / 11)
    shown = CliRunner().invoke(app, ["kb", "agreement", "--threshold", "0.6"])
    assert shown.exit_code == 0
    assert "verdicts: 20; people: 1; intentions on which these are even: 0; the filter at 0.6" in shown.stdout
    assert "RelatedTo" in shown.stdout
    assert CliRunner().invoke(app, ["kb", "agreement", "--threshold", "7"]).exit_code == 2
