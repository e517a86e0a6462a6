"""The KB's database as the explorer sees it: a pool of connections that only read."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.common.errors import WorldFault
from services.common.postgres import world_faults
from services.common.settings import Settings

_log = logging.getLogger(__name__)
_CONNECTIONS = 8
#: Longest wait for a free connection: a page that says so is better than one that never comes.
_WAIT_SECONDS = 2.0
#: There is no KB, or one that an older sink has made.
_NO_KB = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
)

Row = dict[str, Any]


class Database:
    """Statements against the KB, each by itself."""

    def __init__(self, settings: Settings) -> None:
        dsn = (settings.explorer_dsn or settings.postgres_dsn).get_secret_value()
        milliseconds = int(settings.explorer_statement_seconds * 1000)
        given = str(conninfo_to_dict(dsn).get("options") or "")
        options = f"{given} -c default_transaction_read_only=on -c statement_timeout={milliseconds} -c jit=off"
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            make_conninfo(dsn, options=options, connect_timeout="5", application_name="mindstream-explorer"),
            kwargs={"autocommit": True, "row_factory": dict_row},
            min_size=1,
            max_size=_CONNECTIONS,
            timeout=_WAIT_SECONDS,
            reconnect_timeout=30,
            open=False,
        )

    async def open(self) -> None:
        """Begin to connect; waits for nothing, the database may be away for now."""
        # Of a server that is away it would say so at every try; readiness says it once.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        await self._pool.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def rows(
        self, statement: str, values: Any = None, prepare: bool | None = None, seconds: float = 0.0
    ) -> list[Row]:
        """All rows of a statement; with `prepare` false it is planned for its values each time.

        `seconds` is how long it may take, where that is longer than others may.

        Raises:
            WorldFault: the database is away or busy, or holds no KB.
        """
        try:
            with world_faults():
                try:
                    return await self._execute(statement, values, prepare, seconds)
                except (PoolTimeout, psycopg.errors.QueryCanceled):
                    raise
                except (psycopg.OperationalError, psycopg.InterfaceError):
                    # A server that was started again has closed all connections: reading again harms nobody.
                    await self._pool.check()
                    return await self._execute(statement, values, prepare, seconds)
        except _NO_KB:
            raise WorldFault(
                "database", "the database holds no KB that this explorer knows: the sink makes it when it starts"
            ) from None

    async def row(self, statement: str, values: Any = None) -> Row | None:
        """The first row; None where there is none."""
        return next(iter(await self.rows(statement, values)), None)

    async def look(self) -> None:
        """Read of the KB, but no rows.

        Raises:
            WorldFault: why it cannot be read.
        """
        await self.rows("SELECT words, who FROM kb.intentions, kb.feedback LIMIT 0")

    async def may_write(self) -> bool:
        """Whether its role could write to the KB, which nobody here needs."""
        found = await self.row("SELECT has_table_privilege('kb.intentions', 'INSERT, UPDATE, DELETE, TRUNCATE') AS may")
        return bool(found and found["may"])

    async def _execute(self, statement: str, values: Any, prepare: bool | None, seconds: float) -> list[Row]:
        async with self._pool.connection() as connection:
            if not seconds:
                return await (await connection.execute(statement.encode(), values, prepare=prepare)).fetchall()
            async with connection.transaction():
                await connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(1000 * seconds))])
                return await (await connection.execute(statement.encode(), values)).fetchall()
