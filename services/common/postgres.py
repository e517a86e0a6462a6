"""PostgreSQL for the rooms that own a schema: migrations, and its errors sorted into the two kinds of fault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from mindstream.events.v1 import dead_letter_pb2 as reasons
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from services.common.errors import EventFault, WorldFault

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


#: What a statement or its data did wrong: trying again gives the same. A missing right is the administrator's to give.
_OURS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError)
_NOT_OURS = (psycopg.errors.InsufficientPrivilege,)
#: SQLSTATE class 54: a value is larger than PostgreSQL can hold. psycopg counts it among the operational errors.
_PROGRAM_LIMIT = "54"


@contextlib.contextmanager
def world_faults() -> Iterator[None]:
    """Sort PostgreSQL's errors; those that only a bug can cause pass as they are.

    Raises:
        EventFault: a value that PostgreSQL cannot hold.
        WorldFault: a lost connection, a server that is starting, full, read-only after a failover, or the like.
    """
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, _OURS) and not isinstance(cause, _NOT_OURS):
            raise
        line = "PostgreSQL: " + " ".join(str(cause).split())[:200]
        if (getattr(cause, "sqlstate", None) or "").startswith(_PROGRAM_LIMIT):
            raise EventFault(reasons.DEAD_LETTER_REASON_INVALID, line) from None
        raise WorldFault("database", line) from None
