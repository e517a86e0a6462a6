"""PostgreSQL for the rooms that own a schema: migrations, and losses of connection as the world's fault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from services.common.errors import WorldFault

#: Only one process migrates at a time; the number is arbitrary and ours.
_LOCK = 5_217_010_406


def migrate(dsn: str, schema: str, folder: Path) -> None:
    """Bring `schema` to the newest migration in `folder`; harmless when it is there already.

    Raises:
        WorldFault: the database is away.
    """
    # psycopg reads the DSN itself: whatever libpq takes is taken.
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn, connect_timeout=10))
    with world_faults(), engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("version_locations", str(folder))
        config.set_main_option("path_separator", "newline")
        config.attributes.update(connection=connection, schema=schema)
        command.upgrade(config, "head")
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
        connection.commit()
    engine.dispose()


@contextlib.contextmanager
def world_faults() -> Iterator[None]:
    """Turn a lost connection, or a server that is starting or full, into the world's fault."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError) as error:
        line = " ".join(str(error).split())[:200]
        raise WorldFault("database", f"PostgreSQL: {line}") from None
