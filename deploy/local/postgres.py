"""PostgreSQL from its wheel, as a child process."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from deploy.local.postgres_install import programs
from deploy.local.process import Child, free_port, run_step, unprivileged_user

# The data folder by a name that leads there without passing the folders above it, which may be closed to the user
# that runs PostgreSQL: its processes all work in it.
_HERE = "/proc/self/cwd"


class Postgres:
    """One server with its data in `folder`, on loopback only, with a password of its own."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        port: int = 0,
        bin_folder: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """`port` 0 takes a free one; `bin_folder` has other programs than the wheel's; `options` win over ours.

        Raises:
            PlatformError: the port is taken, or nobody is there who can run it.
        """
        self._user = unprivileged_user()
        self._bin = bin_folder or programs(self._user)
        self.port = free_port(port)
        self._data = folder / "data"
        self._password_file = folder / "password"
        ours = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 60,
        }
        flags = [part for name, value in {**ours, **(options or {})}.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", _name(self._data), *flags]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        self.child = Child("postgres", command, {"LC_ALL": "C.UTF-8"}, log, self._user, self._data, signal.SIGINT)

    def dsn(self, database: str = "mindstream") -> str:
        """A libpq URL for `database`."""
        return f"postgresql://postgres:{self._password_file.read_text()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Make the data folder when it is new, and start.

        Raises:
            PlatformError: PostgreSQL cannot use the folder.
        """
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self.child.start()

    def ready(self) -> bool:
        """Whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str = "mindstream") -> None:
        """Create a database where it is missing."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def create_reader(self, schema: str, database: str = "mindstream", role: str = "mindstream_explorer") -> str:
        """A role that only reads `schema`, what later migrations make of it too; its DSN.

        The schema is made where it is missing: rights are given before the first process looks.
        """
        import psycopg
        from psycopg import sql

        file = self._password_file.with_name(f"{role}.password")
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(24))
        password = file.read_text()
        names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role), "password": sql.Literal(password)}
        with psycopg.connect(self.dsn(database)) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {role} LOGIN").format(**names))
            for statement in (
                "ALTER ROLE {role} PASSWORD {password}",
                "ALTER ROLE {role} SET default_transaction_read_only = on",
                "CREATE SCHEMA IF NOT EXISTS {schema}",
                "GRANT USAGE ON SCHEMA {schema} TO {role}",
                "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
            ):
                connection.execute(sql.SQL(statement).format(**names))
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def _initialise(self) -> None:
        # Beside it, and renamed when whole: what ends in the middle leaves nothing that looks like a database.
        made = self._data.with_name("data.new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True, mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        if self._user:
            owner = pwd.getpwnam(self._user)
            for path in (made.parent, made, self._password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [str(self._bin / "initdb"), "-D", _name(made), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
        command += ["--auth=scram-sha-256", f"--pwfile=../{self._password_file.name}", "--no-sync"]
        run_step("initdb", command, user=self._user, cwd=made)
        made.rename(self._data)


def _name(data: Path) -> str:
    """A data folder for a process that works in it."""
    return _HERE if Path(_HERE).exists() else str(data)
