"""`mindstream kb query`, as people read it."""

from __future__ import annotations

import psycopg
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common import kb
from services.common.postgres import migrate
from services.kb_sink.committer import MIGRATIONS
from tests.explorer.conftest import insert_pair, insert_product

pytestmark = pytest.mark.integration


def test_brackets_in_titles_are_no_markup(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    with psycopg.connect(postgres) as connection:
        insert_product(connection, "a", "Lamp [/b]")
        insert_product(connection, "b", "Bulb [red]")
        insert_pair(connection, "a", "b", 1, {})
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", postgres)
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["kb", "query", "--limit", "1"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Lamp [/b]" in done.output
    assert "Bulb [red]" in done.output
