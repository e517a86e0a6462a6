"""The role for readers of the KB, by the statements of docs/security.md: it reads the KB, and nothing more."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from services.common import kb
from services.common.postgres import migrate
from services.extractor.store import MIGRATIONS as EXTRACTORS
from services.kb_sink.committer import MIGRATIONS

pytestmark = pytest.mark.integration
DOCS = Path(__file__).parents[2] / "docs" / "security.md"
REFUSED = (
    "INSERT INTO kb.releases VALUES ('r', 1, now())",
    "UPDATE kb.intentions SET score = 1",
    "DELETE FROM kb.pairs",
    "TRUNCATE kb.products",
    "CREATE TABLE kb.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "DROP TABLE kb.offsets",
    "SELECT * FROM extractor.products",
)


def test_a_reader_reads_the_kb_and_writes_nothing(postgres: str) -> None:
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    migrate(postgres, "extractor", EXTRACTORS)
    login = f"analyst_{uuid.uuid4().hex[:8]}"
    (statements,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.S)
    with psycopg.connect(postgres, autocommit=True) as owner:
        for statement in statements.replace("analyst", login).split(";"):
            if statement.strip():
                owner.execute(statement.encode())
        # A later migration's table is the reader's too.
        owner.execute("CREATE TABLE kb.later (a int)")
        owner.execute("INSERT INTO kb.releases VALUES ('r1', 0, now())")
        owner.execute(sql.SQL("ALTER ROLE {} PASSWORD 'reads'").format(sql.Identifier(login)))
    with psycopg.connect(psycopg.conninfo.make_conninfo(postgres, user=login, password="reads")) as reader:
        assert kb.stats(reader)["intentions"] == 0
        assert list(kb.intentions(reader, kb.Query(product="a"))) == []
        assert reader.execute("SELECT release_id FROM kb.releases").fetchall() == [("r1",)]
        assert reader.execute("SELECT * FROM kb.later").fetchall() == []
        reader.commit()
        reader.execute("SET default_transaction_read_only = off")  # The rights hold, whatever a session says.
        reader.commit()
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
            reader.rollback()
    with psycopg.connect(postgres, autocommit=True) as owner:
        names = [sql.Identifier(login), sql.Identifier("mindstream_reader")]
        for name in names:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
            owner.execute(sql.SQL("DROP ROLE {}").format(name))
