"""TLS and SASL to a real Kafka, for both clients that there are: librdkafka and Faust's aiokafka."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from services.cobuy.security import broker_credentials
from services.common import kafka, topics
from services.common.settings import Settings, SettingsError, librdkafka_options
from tests.cobuy.test_service import order, pairs, send
from tests.common.runtime.model import Model, serve
from tests.security.conftest import PASSWORD, USER, Certificates, Run, SecuredKafka, wait_for

pytestmark = pytest.mark.integration
WORKER, FAUST = "tests.common.runtime.program", "services.cobuy"


def scram(certificates: Certificates, port: int) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}",
        "LIBRDKAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LIBRDKAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "LIBRDKAFKA_SASL_USERNAME": USER,
        "LIBRDKAFKA_SASL_PASSWORD": PASSWORD,
        "LIBRDKAFKA_SSL_CA_LOCATION": str(certificates.ca),
    }


def mutual(certificates: Certificates, port: int, name: str = "client") -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}",
        "LIBRDKAFKA_SECURITY_PROTOCOL": "SSL",
        "LIBRDKAFKA_SSL_CA_LOCATION": str(certificates.ca),
        "LIBRDKAFKA_SSL_CERTIFICATE_LOCATION": str(certificates.certificate(name)),
        "LIBRDKAFKA_SSL_KEY_LOCATION": str(certificates.key(name)),
    }


def without(settings: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names}


Refused = dict[str, tuple[dict[str, str], str]]


@pytest.fixture
def refused(certificates: Certificates, secured_kafka: SecuredKafka) -> Refused:
    """Settings that must not get in, and what a worker says of each."""
    password, certificate = scram(certificates, secured_kafka.sasl_ssl), mutual(certificates, secured_kafka.ssl)
    wrong_ca = {"LIBRDKAFKA_SSL_CA_LOCATION": str(certificates.wrong_ca)}
    own = ("LIBRDKAFKA_SSL_CERTIFICATE_LOCATION", "LIBRDKAFKA_SSL_KEY_LOCATION")
    by_address = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{secured_kafka.sasl_ssl}"}
    return {
        "wrong CA": (password | wrong_ca, "certificate verify failed"),
        "wrong host name": (password | by_address, "this host the one that the broker's certificate names"),
        "wrong password": (password | {"LIBRDKAFKA_SASL_PASSWORD": "wrong"}, "invalid credentials"),
        "plaintext": ({"KAFKA_BOOTSTRAP_SERVERS": certificate["KAFKA_BOOTSTRAP_SERVERS"]}, "security.protocol"),
        "no certificate": (without(certificate, *own), "certificate required"),
        "a stranger's certificate": (mutual(certificates, secured_kafka.ssl, "stranger"), "alert"),
    }


@pytest.mark.parametrize("way", [scram, mutual])
def test_the_right_ones_work_end_to_end(
    run: Run, certificates: Certificates, secured_kafka: SecuredKafka, way: object
) -> None:
    model, target = serve(Model())
    env = mutual(certificates, secured_kafka.ssl) if way is mutual else scram(certificates, secured_kafka.sasl_ssl)
    made = []
    for module in (WORKER, FAUST):
        settings = Settings(
            kafka_bootstrap_servers=secured_kafka.plaintext,
            topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
            topic_partitions=1,
        )
        kafka.create_topics(settings, topics.specs(settings))
        made.append(settings)
        own = {"TOPIC_PREFIX": settings.topic_prefix, "TOPIC_PARTITIONS": "1", "EXTRACTOR_TARGET": target}
        run(module, CUSTOMER_KEY="k" * 32, **env, **own)
    worker, faust = made
    producer = kafka.plain_producer(worker)
    producer.produce(topics.COBUYS.name(worker), json.dumps({"n": 7}).encode(), b"7")
    assert producer.flush(30) == 0
    send(faust, [(order(1, "a", "b"), []), (order(2, "a", "b"), [])])
    wait_for(lambda: bool(list(kafka.read_all(worker, topics.FEATURED.name(worker)))), "the worker's output")
    wait_for(lambda: pairs(faust) == ["a|b"], "Faust's output")
    model.stop(0)


def test_a_worker_says_in_one_line_why_it_is_refused(run: Run, refused: Refused) -> None:
    started = [
        (name, says, run(module, CUSTOMER_KEY="k" * 32, **settings))
        for name, (settings, says) in refused.items()
        for module in ((WORKER, FAUST) if name == "wrong password" else (WORKER,))
    ]
    for name, says, process in started:
        code, line = process.ended()
        assert code == 3, (name, line)
        assert says in line, (name, line)
        assert PASSWORD not in line


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    librdkafka_options.cache_clear()
    yield monkeypatch
    librdkafka_options.cache_clear()


async def test_fausts_own_client_is_refused_too(options: pytest.MonkeyPatch, refused: Refused) -> None:
    for settings, _ in refused.values():
        librdkafka_options.cache_clear()
        with options.context() as patch:
            for variable, value in settings.items():
                patch.setenv(f"MINDSTREAM_{variable}", value)
            auth = credentials_to_aiokafka_auth(broker_credentials())
            producer = AIOKafkaProducer(
                bootstrap_servers=settings["KAFKA_BOOTSTRAP_SERVERS"], request_timeout_ms=5000, **auth
            )
            with pytest.raises((KafkaError, OSError)):
                await producer.start()
            await producer.stop()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("SSL_CA_LOCATION", "/no/such/ca.pem", "/no/such/ca.pem: No such file"),
        ("SSL_CA_LOCATION", __file__, f"{__file__}: "),
        ("SSL_CERTIFICATE_LOCATION", "/no/such/cert.pem", "/no/such/cert.pem: No such file"),
        ("SSL_CERTIFICATE_LOCATION", __file__, f"{__file__}: "),
        ("SSL_KEYSTORE_LOCATION", "keys.p12", "name PEM files instead"),
        ("SASL_MECHANISM", "OAUTHBEARER", "does not speak OAUTHBEARER"),
    ],
)
def test_what_faust_cannot_do_is_said(options: pytest.MonkeyPatch, option: str, value: str, says: str) -> None:
    options.setenv("MINDSTREAM_LIBRDKAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    options.setenv(f"MINDSTREAM_LIBRDKAFKA_{option}", value)
    with pytest.raises(SettingsError) as wrong:
        broker_credentials()
    assert str(wrong.value).startswith(f"MINDSTREAM_LIBRDKAFKA_{option}: ")
    assert says in str(wrong.value)


def test_an_authority_may_stand_in_the_setting_itself(options: pytest.MonkeyPatch, certificates: Certificates) -> None:
    options.setenv("MINDSTREAM_LIBRDKAFKA_SECURITY_PROTOCOL", "SSL")
    options.setenv("MINDSTREAM_LIBRDKAFKA_SSL_CA_PEM", certificates.ca.read_text().replace("\n", "\\n"))
    trusted = broker_credentials().context.get_ca_certs()
    assert len(trusted) == 1


def test_a_wrong_option_of_librdkafka_is_the_persons_mistake(run: Run, tmp_path: Path) -> None:
    for option, value in (("SSL_CA_LOCATION", "/no/such/ca.pem"), ("NO_SUCH_OPTION", "1")):
        process = run(WORKER, LIBRDKAFKA_SECURITY_PROTOCOL="SSL", **{f"LIBRDKAFKA_{option}": value})
        code, line = process.ended()
        assert code == 2, line
        assert line.startswith("extractor: Kafka: ")
