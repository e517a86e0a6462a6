"""The port of probes and metrics."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import urllib.request

import pytest

from services.common import health
from services.common.runtime.stage import Health
from services.common.settings import Settings


def test_a_client_that_hangs_up_is_no_stack_trace(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "services.common.health")
    handled, answer = threading.Event(), health._Server.handle_error

    def told(server: health._Server, request: object, client_address: object) -> None:
        answer(server, request, client_address)
        handled.set()

    monkeypatch.setattr(health._Server, "handle_error", told)
    port = health.serve(Settings(http_host="127.0.0.1", http_port=0), Health(started=True))
    with socket.create_connection(("127.0.0.1", port)) as client:
        # Closed by a reset, not by an end of what was sent.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert handled.wait(30)
    assert [(one.levelname, one.message.partition(":")[0]) for one in caplog.records] == [
        ("DEBUG", "a client of the health port hung up")
    ]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/startup") as found:
        assert found.status == 200
    assert capfd.readouterr().err == ""
