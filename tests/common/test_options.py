"""Options that pass through to librdkafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from services.common.settings import librdkafka_options


def test_names_become_those_of_librdkafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_LIBRDKAFKA_LOG_LEVEL", "3")
    monkeypatch.setenv("MINDSTREAM_LIBRDKAFKA_SOCKET_KEEPALIVE_ENABLE", "true")
    options = librdkafka_options.__wrapped__()
    assert options == {"log_level": "3", "socket.keepalive.enable": "true"}
    Producer(dict(options))  # Raises where it does not know one.
