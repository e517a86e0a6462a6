"""What the security tests share: certificates, a broker that asks for them, and processes with what they said."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from deploy.local.kafka import Kafka
from deploy.local.process import free_port
from tests.conftest import running

USER, PASSWORD = "mindstream", "scram-Secret.7f3a"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.1)


@dataclass
class Certificates:
    """PEM files of one authority, and of another that nobody trusts."""

    folder: Path
    ours: trustme.CA = field(default_factory=trustme.CA)
    others: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.ours.cert_pem.write_to_path(str(self.ca))
        self.others.cert_pem.write_to_path(str(self.wrong_ca))
        self.issue("localhost", "localhost")
        self.issue("client", "client")
        self.issue("stranger", "client", self.others)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def wrong_ca(self) -> Path:
        return self.folder / "wrong-ca.pem"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def issue(self, name: str, identity: str, by: trustme.CA | None = None) -> None:
        """A certificate and its key, in files of that name; its key in PKCS 8, which Java asks for."""
        issued = (by or self.ours).issue_cert(identity)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        self.key(name).write_bytes(key)
        self.certificate(name).write_bytes(chain)
        (self.folder / f"{name}.both.pem").write_bytes(key + chain)


@pytest.fixture(scope="session")
def certificates(platform_folder: Path) -> Certificates:
    folder = platform_folder / "certificates"
    folder.mkdir()
    return Certificates(folder)


@dataclass(frozen=True)
class SecuredKafka:
    """A broker's three doors, by port: for the tests themselves, by certificate, by password."""

    plaintext: str
    ssl: int
    sasl_ssl: int


@pytest.fixture(scope="session")
def secured_kafka(platform_folder: Path, certificates: Certificates) -> Iterator[SecuredKafka]:
    plain, controller, ssl, sasl = (free_port() for _ in range(4))
    doors = f"PLAINTEXT://127.0.0.1:{plain},SSL://localhost:{ssl},SASL_SSL://localhost:{sasl}"
    broker = Kafka(
        platform_folder / "secured-kafka",
        platform_folder / "secured-kafka.log",
        plain,
        controller,
        properties={
            "listeners": f"{doors},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": doors,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": f"{certificates.folder}/localhost.both.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.ca),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        },
    )
    with running(broker):
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        for done in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, scram, PASSWORD.encode())]
        ).values():
            done.result(30)
        yield SecuredKafka(broker.bootstrap_servers, ssl, sasl)


class Process:
    """A process of ours with settings in capitals, its output in a file."""

    def __init__(self, module: str, log: Path, settings: dict[str, str]) -> None:
        self._log = log
        env = {f"MINDSTREAM_{name}": value for name, value in settings.items()}
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], env={**os.environ, **env}, stdout=file, stderr=file
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def ended(self) -> tuple[int, str]:
        """Exit code, and the one line that it said, beside readiness and librdkafka (`%4|...`: a new topic's try)."""
        code, lines = self.process.wait(120), self.output.strip().splitlines()
        assert "Traceback" not in self.output, self.output
        lines = [
            line for line in lines if "INFO" not in line[:40] and " is not ready: " not in line and line[:1] != "%"
        ]
        assert len(lines) == 1, self.output
        return code, lines[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Run = Callable[..., Process]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start a module with settings, given in capitals."""
    started: list[Process] = []

    def run(module: str, **settings: str) -> Process:
        quiet = {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0", "STATE_DIR": str(tmp_path / "state")}
        started.append(Process(module, tmp_path / f"{len(started)}.log", {**quiet, **settings}))
        return started[-1]

    yield run
    for process in started:
        process.kill()
