"""Whether what a stage's handlers call would answer now. For readiness only: work itself finds out by trying."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 5
#: All that gRPC says where the other side wants TLS, or a client's certificate, and has closed the connection.
_CLOSED = "Socket closed"


async def model_trouble(channel: grpc.aio.Channel, service: str = "") -> str:
    """Why the model server does not serve, by the standard gRPC health service; empty when it does.

    `service` is a gRPC service's full name; empty asks for all of them.
    """
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_SECONDS)  # type: ignore[attr-defined]
    except grpc.aio.AioRpcError as error:
        details = " ".join((error.details() or "").split())
        hint = " (does it ask for TLS, or for a certificate? MINDSTREAM_GRPC_TLS_*)" if _CLOSED in details else ""
        return f"model server: {error.code().name}: {details}{hint}"
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "model server: not serving (a model that is being loaded takes minutes)"


async def database_trouble(dsn: str) -> str:
    """Why PostgreSQL does not take a connection and a query; empty when it does."""
    return await asyncio.to_thread(_query, dsn)


def _query(dsn: str) -> str:
    import psycopg  # Stages without a database are without it.

    try:
        with psycopg.connect(dsn, connect_timeout=_SECONDS) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return "PostgreSQL: " + " ".join(str(error).split())[:300]
    return ""
