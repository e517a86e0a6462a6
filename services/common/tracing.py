"""Spans by OpenTelemetry, where `MINDSTREAM_OTLP_ENDPOINT` names a collector; without it, context alone is passed on.

One trace goes from a purchase to its rows: by the `traceparent` header of Kafka's records, and by gRPC's metadata.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from services.common import current
from services.common.current import CURRENT, Current, here
from services.common.settings import Settings, SettingsError

if TYPE_CHECKING:
    from services.common.records import Record

#: Names of a call's metadata.
TRACEPARENT, EVENT = "traceparent", "mindstream-event"
Metadata = tuple[tuple[str, str], ...]


class Span:
    """What is under way, and how it ended; this one is of a process that does not trace."""

    #: What a later span of the same trace has for its parent; empty where nothing is traced.
    traceparent = ""

    def says(self, name: str, value: str | int | float) -> None:
        """Add an attribute."""


_OFF = Span()
#: The SDK's tracer and its ways of making things; None while nothing is traced.
_sdk: _Sdk | None = None


class _Sdk:
    def __init__(self, settings: Settings, service: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError:
            raise SettingsError(
                "MINDSTREAM_OTLP_ENDPOINT: OpenTelemetry is not installed (the extra `tracing`)"
            ) from None
        self.trace = trace
        facts = {"service.name": f"mindstream-{service}", "service.instance.id": settings.worker_slot}
        sampler = ParentBased(TraceIdRatioBased(settings.trace_share))
        self._provider = TracerProvider(sampler=sampler, resource=Resource.create(facts))
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer("mindstream")

    def parent(self, traceparent: str) -> Any:
        """The context of a traceparent; an empty one begins a trace."""
        from opentelemetry.context import Context

        known = Current(traceparent=traceparent)
        if not traceparent:
            return Context()
        span = self.trace.SpanContext(
            int(known.trace_id, 16),
            int(known.span_id, 16),
            is_remote=True,
            trace_flags=self.trace.TraceFlags(int(traceparent[53:], 16)),
        )
        return self.trace.set_span_in_context(self.trace.NonRecordingSpan(span), Context())

    def close(self) -> None:
        self._provider.shutdown()


class _Live(Span):
    def __init__(self, span: Any) -> None:
        self._span = span
        known = span.get_span_context()
        self.traceparent = f"00-{known.trace_id:032x}-{known.span_id:016x}-{int(known.trace_flags):02x}"

    def says(self, name: str, value: str | int | float) -> None:
        self._span.set_attribute(name, value)


def configure(settings: Settings, service: str) -> None:
    """Trace this process from now on, if the settings say so.

    Raises:
        SettingsError: they do, and OpenTelemetry is not installed.
    """
    global _sdk
    if settings.otlp_endpoint:
        _sdk = _Sdk(settings, service)


def close() -> None:
    """Send what is left, and trace no more."""
    global _sdk
    if _sdk is not None:
        _sdk.close()
    _sdk = None


class _Here:
    """Work on an event of a process that does not trace: the event is known to logs, and passed on."""

    __slots__ = ("_known", "_token")

    def __init__(self, known: Current | Callable[[], Current]) -> None:
        self._known = known

    def __enter__(self) -> Span:
        self._token = CURRENT.set(self._known)
        return _OFF

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self._token)


@contextmanager
def _span(sdk: _Sdk, name: str, kind: str, at: Current, attributes: Mapping[str, str | int]) -> Iterator[Span]:
    own = {"mindstream.event": at.event, **attributes}
    with sdk.tracer.start_as_current_span(
        name, sdk.parent(at.traceparent), sdk.trace.SpanKind[kind], own,
        record_exception=False, set_status_on_exception=False,
    ) as started:  # fmt: skip
        live = _Live(started)
        token = CURRENT.set(Current(at.event, live.traceparent))
        try:
            yield live
        except BaseException as error:
            # Its kind alone: what it says may quote the event.
            started.set_status(sdk.trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            CURRENT.reset(token)


def _of(record: Record) -> Current:
    return Current(record.idempotency_key, current.traceparent(record.text_header(TRACEPARENT)))


def processing(stage: str, record: Record) -> AbstractContextManager[Span]:
    """Work on a record that was read from Kafka: known to logs, passed on, and a span where this process traces."""
    if _sdk is None:
        return _Here(partial(_of, record))
    place: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
    return _span(_sdk, f"{stage} process", "CONSUMER", _of(record), place)


def calling(stage: str, method: str) -> AbstractContextManager[Span]:
    """A model call, seen from the worker; `metadata` tells the server of it."""
    if _sdk is None:
        return nullcontext(_OFF)
    return _span(_sdk, f"{stage} call", "CLIENT", here(), {"rpc.method": method})


def metadata() -> Metadata:
    """What a call's metadata say of the event and the trace in which it is made."""
    known = here()
    named = (EVENT, known.event), (TRACEPARENT, known.traceparent)
    return tuple((name, value) for name, value in named if value and value.isascii() and value.isprintable())


def serving(job: str, received: Iterable[tuple[str, str | bytes]] | None) -> AbstractContextManager[Span]:
    """A model call, seen from the server; `received` are its metadata."""
    said = {name: value for name, value in received or () if isinstance(value, str)}
    known = Current(said.get(EVENT, "")[:600], current.traceparent(said.get(TRACEPARENT, "")))
    if _sdk is None:
        return _Here(known)
    return _span(_sdk, f"{job} serve", "SERVER", known, {"mindstream.job": job})


def committed(stage: str, traceparents: Iterable[str], began: float) -> None:
    """A commit that began at `began` (seconds since the epoch) and ends now, told in each of its records' traces."""
    if _sdk is None:
        return
    start, end = int(began * 1e9), time.time_ns()
    for traceparent in traceparents:
        if traceparent:
            _sdk.tracer.start_span(f"{stage} commit", _sdk.parent(traceparent), start_time=start).end(end)
