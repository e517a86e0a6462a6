"""The model server: any of the three jobs on one loaded model."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.rpc import code_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common import health as health_endpoints
from services.common import metrics, tracing
from services.common.process import introduce
from services.common.runtime.stage import Health
from services.common.settings import Settings, SettingsError
from services.common.tls import server_credentials
from services.lvlm.calls import Calls
from services.lvlm.engine import Engine, EngineError

_log = logging.getLogger(__name__)

#: Age at which a connection is given up.
_CONNECTION_MS = 300_000
#: Each job's room registers its servicer and gives the gRPC service's full name. Rooms are loaded by name, so that
#: the engine depends on none of them.
JOBS = {name: f"services.{name}.server" for name in ("extractor", "generator", "filter")}


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. The port is open at once, the model is loaded meanwhile."""
    jobs = [job.strip() for job in settings.server_jobs.split(",") if job.strip()]
    unknown = [job for job in jobs if job not in JOBS]
    if unknown or not jobs:
        print(f"MINDSTREAM_SERVER_JOBS: {', '.join(unknown) or 'empty'}; known: {', '.join(JOBS)}", file=sys.stderr)
        return 2
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        introduce("model", settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    _begin(jobs, settings)
    calls = Calls(settings)
    limit = settings.grpc_max_message_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_send_message_length", limit),
            ("grpc.max_receive_message_length", limit),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
            # Then a worker connects anew, and finds servers that came since. Calls in flight end in peace.
            ("grpc.max_connection_age_ms", _CONNECTION_MS),
        ]
    )
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = []
    try:
        for job in jobs:
            register: Callable[[grpc.aio.Server, Calls], str] = importlib.import_module(JOBS[job]).register
            names.append(register(server, calls))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    names_known = [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names_known, server)
    for name in ["", *names]:
        await checks.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    try:
        _bind(server, settings)
        probes = Health(assigned=True)
        health_endpoints.serve(settings, probes)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(f"cannot serve on {settings.server_bind}: {error}", file=sys.stderr)
        return 2
    await server.start()

    loading = loop.run_in_executor(futures.ThreadPoolExecutor(1, "load"), _load, settings)
    stop = asyncio.ensure_future(stopping.wait())
    first: set[asyncio.Future[Any]] = {loading, stop}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        try:
            calls.serve(loading.result())
        except EngineError as error:
            print(error, file=sys.stderr)
            await server.stop(None)
            return 2
        for name in ["", *names]:
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        probes.started = True
        _log.info("serving %s on %s", ", ".join(jobs), settings.server_bind)
    await stop
    probes.answering = False
    await checks.enter_graceful_shutdown()
    await server.stop(settings.server_grace_seconds)
    tracing.close()
    if not loading.done() or calls.computing:
        # Neither can be called off, and the interpreter would wait for their threads, with nobody to answer.
        logging.shutdown()
        os._exit(0)
    return 0


def _begin(jobs: Sequence[str], settings: Settings) -> None:
    """Counts of calls stand at zero before the first; see `metrics.begin`."""
    for job in jobs:
        metrics.SERVER_QUEUE_LIMIT.labels(job).set(settings.server_queue)
        for code in code_pb2.Code.DESCRIPTOR.values_by_name:
            metrics.SERVER_CALLS.labels(job, code)


def _load(settings: Settings) -> Engine:
    # Here, not above: importing torch takes seconds in which the port is already open.
    from services.lvlm.load import load_engine

    return load_engine(settings)


def _bind(server: grpc.aio.Server, settings: Settings) -> None:
    credentials = server_credentials(settings)
    if credentials is None:
        server.add_insecure_port(settings.server_bind)
    else:
        server.add_secure_port(settings.server_bind, credentials)
