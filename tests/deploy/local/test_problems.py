"""What can go wrong before anything runs: each is one line that says what to do."""

from __future__ import annotations

import shutil
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.local import kafka_install
from deploy.local.__main__ import run
from deploy.local.errors import PlatformError
from deploy.local.kafka import cluster_id
from deploy.local.platform import Platform, PlatformOptions
from deploy.local.process import free_port


def test_a_taken_port_is_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PlatformError, match=f"port {port} is taken"):
            free_port(port)


def test_a_jar_that_is_not_as_the_lock_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"changed")
    with pytest.raises(PlatformError, match=r"a\.jar is changed"):
        kafka_install.verify(tmp_path, {"a.jar": "0" * 64})
    with pytest.raises(PlatformError, match=r"a\.jar is not in the lock"):
        kafka_install.verify(tmp_path, {})
    with pytest.raises(PlatformError, match=r"A\.jar is missing"):
        kafka_install.verify(tmp_path, {"A.jar": "0" * 64})


def test_offline_at_the_first_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_CACHE_DIR", str(tmp_path))
    # Whatever downloads goes through a port where nobody listens.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PlatformError, match="cannot download Kafka") as caught:
        kafka_install.install()
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("kafka-")]


@pytest.mark.parametrize(("free", "available", "line"), [(10**6, 10**11, "GB free"), (10**11, 10**6, "GB of memory")])
def test_no_room_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, available: int, line: str
) -> None:
    # A full disk and a full memory cannot be had in a test; what the system says of them can.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    with pytest.raises(PlatformError, match=line):
        Platform(PlatformOptions(tmp_path)).start()


@pytest.fixture
def own_signals() -> Iterator[None]:
    """What the supervisor does with signals ends with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
def test_a_folder_that_cannot_be_used_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(PlatformOptions(tmp_path / "file" / "data"), lambda line: None) == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_no_cluster_id_looks_like_an_option() -> None:
    ids = [cluster_id(uuid.UUID(int=first << 120)) for first in range(256)]
    assert not [written for written in ids if written.startswith("-")]
    assert {len(written) for written in ids} == {22}


def test_no_outgoing_connection_is_given_a_servers_port() -> None:
    lowest, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(50)]
    assert max(ports) < lowest
    assert len(set(ports)) > 40
