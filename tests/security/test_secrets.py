"""Secrets come from the environment or from mounted files, and no process says them, whatever happens."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from deploy.local.postgres import Postgres
from deploy.local.process import free_port
from services.common import kafka, topics
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.plain import PlainEngine
from tests.cobuy.test_service import order, pairs, send
from tests.lvlm.endpoint import Endpoint, serving
from tests.lvlm.fixtures import checkpoint
from tests.security.conftest import PASSWORD, Certificates, Process, Run, SecuredKafka, wait_for
from tests.security.test_kafka import scram
from tests.security.test_model_servers import why

pytestmark = pytest.mark.integration
__all__ = ["checkpoint"]
#: What nobody may read in an output. Those of `wrong` are refused by the servers.
CUSTOMER_KEY, API_KEY = "customer-key-of-32-characters-0c4f", "api-key-2b1e77"
WRONG = {"sasl": "wrong-sasl-91ab", "database": "wrong-database-91ab", "key": "short-key-91ab"}


@pytest.fixture
def mounted(tmp_path: Path) -> dict[str, str]:
    """Secrets as Kubernetes mounts them: files behind a link to a folder with a date for its name."""
    dated = tmp_path / "mounted" / "..2026_01_01"
    dated.mkdir(parents=True)
    (tmp_path / "mounted" / "..data").symlink_to(dated.name)
    return {"SECRETS_DIR": str(tmp_path / "mounted")}


def mount(mounted: dict[str, str], **secrets: str) -> None:
    folder = Path(mounted["SECRETS_DIR"])
    for name, value in secrets.items():
        (folder / "..data" / f"MINDSTREAM_{name}").write_text(value + "\n")
        (folder / f"MINDSTREAM_{name}").symlink_to(f"..data/MINDSTREAM_{name}")


def test_secrets_in_files_are_used_and_never_said(
    run: Run,
    mounted: dict[str, str],
    postgres: str,
    postgres_server: Postgres,
    secured_kafka: SecuredKafka,
    certificates: Certificates,
    checkpoint: Path,
) -> None:
    made = Settings(
        kafka_bootstrap_servers=secured_kafka.plaintext, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", topic_partitions=1
    )
    kafka.create_topics(made, topics.specs(made))
    mount(
        mounted,
        POSTGRES_DSN=postgres,
        LIBRDKAFKA_SASL_PASSWORD=PASSWORD,
        CUSTOMER_KEY=CUSTOMER_KEY,
        OPENAI_API_KEY=API_KEY,
    )
    door = scram(certificates, secured_kafka.sasl_ssl)
    del door["LIBRDKAFKA_SASL_PASSWORD"]
    loud = {
        "LOG_LEVEL": "DEBUG",
        "LIBRDKAFKA_DEBUG": "security,conf,broker",
        "TOPIC_PREFIX": made.topic_prefix,
        "TOPIC_PARTITIONS": "1",
    }
    common = {**mounted, **door, **loud}
    loaded = Checkpoint(Settings(model=str(checkpoint), model_device="cpu"))
    endpoint = Endpoint(loaded, PlainEngine(loaded, Settings()))
    with serving(endpoint):
        sink_port, server_port = free_port(), free_port()
        ask = {**mounted, **loud, "ENGINE": "openai", "OPENAI_BASE_URL": endpoint.url, "SERVER_BIND": "127.0.0.1:0"}
        cobuy = run("services.cobuy", **common)
        sink = run("services.kb_sink", HTTP_PORT=str(sink_port), **common)
        server = run("services.lvlm", HTTP_PORT=str(server_port), **ask)
        failed = refused(run, common, postgres_server, postgres)
        send(made, [(order(1, "a", "b", customer="c"), []), (order(2, "a", "b", customer="d"), [])])
        wait_for(lambda: pairs(made) == ["a|b"], "the co-buy")
        wait_for(lambda: why(sink_port) == "ready", "the sink is ready")
        wait_for(lambda: why(server_port) == "ready", f"the model server is ready: {server.output}")
        assert endpoint.keys == {f"Bearer {API_KEY}"}
        endpoint.failing += [401] * 10
        failed.append(run("services.lvlm", **ask))
        assert [process.process.wait(120) for process in failed] == [3, 3, 3, 2, 2, 2]
    database = postgres_server.dsn().partition("postgres:")[2].partition("@")[0]
    for process in (cobuy, sink, server, *failed):
        said = process.output
        assert said
        assert "Traceback" not in said
        for secret in (PASSWORD, CUSTOMER_KEY, API_KEY, database, *WRONG.values()):
            assert secret not in said, secret
    assert " DEBUG " in cobuy.output
    assert " DEBUG " in server.output


def refused(run: Run, common: dict[str, str], server: Postgres, dsn: str) -> list[Process]:
    """Processes with a secret that is wrong; the environment goes before the files."""
    password = server.dsn().partition("postgres:")[2].partition("@")[0]
    sasl = {"LIBRDKAFKA_SASL_PASSWORD": WRONG["sasl"]}
    database = {"POSTGRES_DSN": dsn.replace(password, WRONG["database"])}
    return [
        run("services.cobuy", **common, **sasl),
        run("services.kb_sink", **common, **sasl),
        run("services.kb_sink", **common, **database),
        run("services.cobuy", **common, CUSTOMER_KEY=WRONG["key"]),
        run("services.kb_sink", **common, POSTGRES_DSN=f"postgresql://u:{WRONG['database']}@[x"),
    ]
