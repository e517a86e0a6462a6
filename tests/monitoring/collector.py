"""An OpenTelemetry collector in this process: the OTLP service on a real gRPC server, which keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hex, `parent` empty at the root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    #: Nanoseconds since the epoch.
    start: int
    end: int
    failed: bool


class Collector(TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self._spans: list[Seen] = []
        self._lock = threading.Lock()
        self.endpoint = ""

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator[Self]:
        """One that serves on a free port while the block runs."""
        made = cls()
        server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
        made.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield made
        finally:
            server.stop(None)

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        """See the OTLP service."""
        found = []
        for resource in request.resource_spans:
            facts = _plain(resource.resource.attributes)
            found += [
                Seen(
                    facts["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _plain(span.attributes),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == Status.STATUS_CODE_ERROR,
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        with self._lock:
            self._spans += found
        return ExportTraceServiceResponse()

    def spans(self) -> list[Seen]:
        """All that arrived so far."""
        with self._lock:
            return list(self._spans)


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
