"""A real control plane without nodes: etcd and kube-apiserver as processes of ours, until the block ends.

It holds objects, checks them, and admits or refuses them as a cluster's does; nothing runs them.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.k8s.check import programs
from deploy.local.errors import PlatformError
from deploy.local.process import free_port

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class ControlPlane:
    """A running one; its administrator's kubeconfig is at hand."""

    kubeconfig: Path

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        program = programs.kubectl()
        assert program is not None
        command = [program, "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True)

    def apply(self, objects: list[dict[str, Any]], *, really: bool = False) -> subprocess.CompletedProcess[str]:
        """Server-side apply, unknown and doubled fields refused; a dry run unless told otherwise."""
        mode = [] if really else ["--dry-run=server"]
        options = ["--server-side", "--validate=strict", "--force-conflicts", *mode]
        return self.kubectl("apply", *options, "-f", "-", stdin=yaml.safe_dump_all(objects))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """A control plane whose state and logs are in `folder`.

    Raises:
        PlatformError: the programs are not built, or one ends; with the last line of its log.
    """
    where = programs.servers()
    if where is None:
        raise PlatformError("etcd and kube-apiserver are not built (make k8s-check)")
    with contextlib.ExitStack() as stack:
        etcd = _etcd(where, folder, stack)
        port, token = free_port(), secrets.token_hex(16)
        server = _api_server(where, folder, etcd, port, token, stack)
        kubeconfig = folder / "kubeconfig"
        certificate = folder / "certificates" / "apiserver.crt"
        _await(server, folder / "kube-apiserver.log", f"https://127.0.0.1:{port}/readyz", certificate, token)
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(port, certificate, token)))
        yield ControlPlane(kubeconfig)


def _etcd(where: Path, folder: Path, stack: contextlib.ExitStack) -> str:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    options: list[str | Path] = [
        *("--data-dir", folder / "etcd"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        # What is lost with the machine is no loss.
        "--unsafe-no-fsync",
    ]
    process = _start([where / "etcd", *options], folder / "etcd.log", stack)
    _await(process, folder / "etcd.log", f"{client}/health")
    return client


def _api_server(
    where: Path, folder: Path, etcd: str, port: int, token: str, stack: contextlib.ExitStack
) -> subprocess.Popen[bytes]:
    tokens, key = folder / "tokens.csv", folder / "service-accounts.pem"
    tokens.write_text(f"{token},admin,1,system:masters\n")
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    options = {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "secure-port": port,
        # It makes a certificate of its own here.
        "cert-dir": folder / "certificates",
        "token-auth-file": tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "service-cluster-ip-range": "10.0.0.0/24",
    }
    command: list[str | Path] = [where / "kube-apiserver", *(f"--{name}={value}" for name, value in options.items())]
    return _start(command, folder / "kube-apiserver.log", stack)


def _start(command: list[str | Path], log: Path, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(
    process: subprocess.Popen[bytes], log: Path, url: str, certificate: Path | None = None, token: str = ""
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url, certificate, token):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text().strip().splitlines() or ["nothing said"]
            raise PlatformError(f"{log.stem} does not start: {lines[-1][:300]}")
        time.sleep(0.1)


def _answers(url: str, certificate: Path | None, token: str) -> bool:
    if certificate is not None and not certificate.exists():
        return False
    context = create_default_context(cafile=str(certificate)) if certificate else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _kubeconfig(port: int, certificate: Path, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "check",
        "contexts": [{"name": "check", "context": {"cluster": "check", "user": "admin"}}],
        "clusters": [
            {
                "name": "check",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": token}}],
    }
