"""`mindstream migrate`: both schemas, twice, on a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.platform import _SERVICES, SCHEMAS
from services.common import kb
from services.extractor import store
from services.kb_sink import committer


def test_the_folders_are_those_of_the_rooms() -> None:
    folders = {schema: _SERVICES / room / "migrations" for schema, room in SCHEMAS.items()}
    assert folders == {store.SCHEMA: store.MIGRATIONS, kb.SCHEMA: committer.MIGRATIONS}


@pytest.mark.integration
def test_migrating_again_changes_nothing(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", postgres)
    found = []
    for _ in range(2):
        done = CliRunner().invoke(app, ["migrate"])
        assert (done.exit_code, done.output) == (0, "extractor: newest\nkb: newest\n")
        with psycopg.connect(postgres) as connection:
            found.append(
                connection.execute(
                    "SELECT table_schema, table_name FROM information_schema.tables "
                    "WHERE table_schema IN ('extractor', 'kb') ORDER BY 1, 2"
                ).fetchall()
            )
    assert found[0] == found[1]
    assert {("extractor", "products"), ("kb", "intentions")} <= set(found[0])


def test_a_database_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", "postgresql://127.0.0.1:1/x")
    done = CliRunner().invoke(app, ["migrate"])
    assert done.exit_code == 3
    assert done.output.startswith("mindstream: PostgreSQL: ")
    assert len(done.output.splitlines()) == 1
