"""/metrics and /health/{startup,ready,live} on one port, answered by threads of their own.

They answer while the event loop or librdkafka is busy, so that liveness speaks of the poll's age and nothing else.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from services.common.runtime.stage import Health
from services.common.settings import Settings

_log = logging.getLogger(__name__)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log it: the standard library writes a stack trace to the error output, amid JSON lines."""
        if isinstance(error := sys.exception(), ConnectionError):
            _log.debug("a client of the health port hung up: %s", error)
        else:
            _log.exception("the health port failed")


def _verdict(path: str, health: Health, settings: Settings) -> tuple[bool, str] | None:
    """Whether the probe of `path` passes, and why; None for another path."""
    if path == "/health/startup":
        return health.started, "started" if health.started else "starting"
    if path == "/health/ready":
        if not health.started:
            return False, "starting"
        if not health.assigned:
            return False, "no partitions assigned yet"
        return health.answering, "ready" if health.answering else health.trouble or "waiting for something outside"
    if path == "/health/live":
        age = time.monotonic() - health.last_poll if health.last_poll else 0.0
        return age <= settings.liveness_seconds, f"last poll {age:.1f} s ago"
    return None


def serve(settings: Settings, health: Health) -> int:
    """Serve in the background; the port (a free one where the setting is 0).

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                return
            verdict = _verdict(path, health, settings)
            if verdict is None:
                self._answer(404, b'{"error": "not found"}', "application/json")
                return
            passed, why = verdict
            body = json.dumps({"ok": passed, "why": why}).encode()
            self._answer(200 if passed else 503, body, "application/json")

        def _answer(self, code: int, body: bytes, content_type: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not news."""

    server = _Server((settings.http_host, settings.http_port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_address[1])
