"""mTLS between a real worker and a real model server, and certificates that are renewed under way."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.intention_pb2 import CandidateIntentions

from deploy.local.process import free_port
from services.common import kafka, topics
from services.common.modelcalls import open_channel
from services.common.readiness import model_trouble
from services.common.settings import Settings, SettingsError
from services.common.tls import server_credentials
from tests.lvlm.fixtures import checkpoint
from tests.security.conftest import Certificates, Process, Run, wait_for

__all__ = ["checkpoint"]


def own(certificates: Certificates, name: str, ca: Path | None = None) -> dict[str, str]:
    return {
        "GRPC_TLS_CA": str(ca or certificates.ca),
        "GRPC_TLS_CERT": str(certificates.certificate(name)),
        "GRPC_TLS_KEY": str(certificates.key(name)),
    }


def why(port: int) -> str:
    """What the readiness of a process says; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return str(json.load(answer)["why"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["why"])
    except OSError:
        return ""


@pytest.mark.integration
def test_only_workers_with_the_right_certificates_are_served(
    run: Run, settings: Callable[..., Settings], certificates: Certificates, checkpoint: Path
) -> None:
    port = free_port()
    run(
        "services.lvlm", MODEL=str(checkpoint), MODEL_DEVICE="cpu", SERVER_BIND=f"127.0.0.1:{port}",
        SERVER_JOBS="generator", MAX_NEW_TOKENS="4", **own(certificates, "localhost"),
    )  # fmt: skip
    here, closed = f"localhost:{port}", "does it ask for TLS, or for a certificate"
    cases = {
        "right": (here, own(certificates, "client"), "ready"),
        "no certificate": (here, {"GRPC_TLS_CA": str(certificates.ca)}, closed),
        "wrong CA": (here, own(certificates, "client", certificates.wrong_ca), "CERTIFICATE_VERIFY_FAILED"),
        "wrong host": (f"127.0.0.1:{port}", own(certificates, "client"), "Hostname Verification Check failed"),
        "plaintext": (here, {}, closed),
    }
    workers: dict[str, tuple[Process, int, str]] = {}
    for name, (target, tls, says) in reversed(cases.items()):
        # A group each: none waits until another has joined. The last is that of the right one.
        made, http = settings(topic_partitions=1), free_port()
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": made.kafka_bootstrap_servers, "TOPIC_PREFIX": made.topic_prefix,
            "TOPIC_PARTITIONS": "1", "HTTP_PORT": str(http), "MEDIA_URL": made.media_url, "GENERATOR_TARGET": target,
        }  # fmt: skip
        workers[name] = run("services.generator", **common, **tls), http, says
    for name, (process, http, says) in workers.items():
        wait_for(lambda: says in why(http), f"{name}: {says}; it says {why(http)!r}")  # noqa: B023
        if name != "right":
            said = [line for line in process.output.splitlines() if "generator is not ready: " in line and says in line]
            assert len(said) == 1, process.output
            process.kill()
    event = FeaturedCoBuy(cobuy=CoBuy(pair_id="a|b", product_a="a", product_b="b"))
    for product, features in (("a", event.product_a), ("b", event.product_b)):
        features.CopyFrom(ProductFeatures(product_id=product, title=f"product {product}", description="small"))
    producer = kafka.plain_producer(made)
    producer.produce(topics.FEATURED.name(made), event.SerializeToString(), b"a|b")
    assert producer.flush(30) == 0
    wait_for(lambda: bool(list(kafka.read_all(made, topics.CANDIDATES.name(made)))), "candidates over mTLS")
    (record,) = kafka.read_all(made, topics.CANDIDATES.name(made))
    assert len(CandidateIntentions.FromString(record.value).candidates) == 20


async def test_renewed_certificates_count_for_the_next_connection(certificates: Certificates, tmp_path: Path) -> None:
    mine = Certificates(tmp_path, certificates.ours, certificates.others)
    settings = _settings(mine, "localhost")
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    credentials = server_credentials(settings)
    assert credentials is not None
    target = f"localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()

    async def trouble(who: Settings) -> str:
        async with open_channel(target, who) as channel:
            return await model_trouble(channel)

    before = _settings(certificates, "client")
    after = before.model_copy(update={"grpc_tls_ca": certificates.wrong_ca})
    assert (await trouble(before), "VERIFY_FAILED" in await trouble(after)) == ("", True)
    assert "does it ask for TLS, or for a certificate" in await trouble(_settings(certificates, "stranger"))
    old = mine.certificate("localhost").read_bytes()
    mine.issue("localhost", "localhost", mine.others)
    new = mine.certificate("localhost").read_bytes()
    mine.certificate("localhost").write_bytes(old)  # The new key is there, its certificate not yet.
    assert await trouble(before) == ""
    mine.certificate("localhost").write_bytes(new)
    assert (await trouble(after), "VERIFY_FAILED" in await trouble(before)) == ("", True)
    await server.stop(None)


def _settings(certificates: Certificates, name: str) -> Settings:
    return Settings(
        grpc_tls_ca=certificates.ca,
        grpc_tls_cert=certificates.certificate(name),
        grpc_tls_key=certificates.key(name),
    )


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("grpc_tls_ca", "MINDSTREAM_GRPC_TLS_CA: {path}: "),
        ("grpc_tls_cert", "MINDSTREAM_GRPC_TLS_CERT: {path} and "),
        ("grpc_tls_key", "{path}: "),
    ],
)
def test_a_file_that_is_no_pem_is_named(certificates: Certificates, field: str, says: str) -> None:
    path = Path(__file__)
    wrong = _settings(certificates, "client").model_copy(update={field: path})
    for made in (server_credentials, lambda settings: open_channel("localhost:1", settings)):
        with pytest.raises(SettingsError) as error:
            made(wrong)
        assert says.format(path=path) in str(error.value)


def test_another_certificates_key_is_said(certificates: Certificates) -> None:
    wrong = _settings(certificates, "client").model_copy(update={"grpc_tls_key": certificates.key("localhost")})
    with pytest.raises(SettingsError, match=r"MINDSTREAM_GRPC_TLS_CERT: .* mismatch"):
        server_credentials(wrong)
