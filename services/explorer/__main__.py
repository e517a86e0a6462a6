"""`python -m services.explorer`: the pages, the REST API, and gRPC `KnowledgeBase` where it is asked for."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys

import uvicorn
import uvloop

from services.common import health as health_endpoints
from services.common.process import AWAY, BAD_INPUT, configured, introduce
from services.common.runtime.stage import Health
from services.common.settings import Settings, SettingsError
from services.explorer.app import Explorer
from services.explorer.grpc_server import serve

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 5


async def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    health = Health()
    try:
        introduce("explorer", settings)
        app = Explorer(settings, health)
        listening = _listen(settings)
        health_endpoints.serve(settings, health)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        host, port = settings.explorer_host, settings.explorer_port
        print(f"cannot serve on {host}:{port} (or {settings.http_port}): {error.strerror or error}", file=sys.stderr)
        return AWAY
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # A client is the last address that a trusted proxy names: those before it anybody can send.
        proxy_headers=bool(settings.explorer_trusted_proxies),
        forwarded_allow_ips=settings.explorer_trusted_proxies,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=30,
        http="httptools",
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server has its own while it serves, and then raises the signal for this one.
        signal.signal(number, lambda *_: None)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    gc.collect()
    gc.freeze()  # What was imported stays: each later collection would go through it all, while a reader waits.
    _log.info("explorer: http://%s:%d", settings.explorer_host, listening.getsockname()[1])
    try:
        async with serve(settings, app.state):
            await server.serve(sockets=[listening])
    except SettingsError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        print(f"cannot serve on {settings.explorer_grpc_bind}: {error}", file=sys.stderr)
        return AWAY
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.explorer_host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((settings.explorer_host, settings.explorer_port))
    # From here on who connects waits: readiness may be told a moment before the server takes connections.
    listening.listen()
    return listening


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(configured())))
