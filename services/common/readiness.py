"""Whether what a stage's handlers call would answer now. For readiness only: work itself finds out by trying."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS = 5


async def model_serves(channel: grpc.aio.Channel) -> bool:
    """Whether the model server has its model loaded, by the standard gRPC health service."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)  # type: ignore[attr-defined]
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def database_answers(dsn: str) -> bool:
    """Whether PostgreSQL takes a connection and a query."""
    return await asyncio.to_thread(_query, dsn)


def _query(dsn: str) -> bool:
    import psycopg  # Stages without a database are without it.

    try:
        with psycopg.connect(dsn, connect_timeout=_SECONDS) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
