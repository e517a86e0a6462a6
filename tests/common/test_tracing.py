"""Trace context: what is believed of it, and how it is passed on; spans as a real collector gets them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from mindstream.events.v1.cobuy_pb2 import CoBuy

from services.common import tracing
from services.common.current import here, traceparent
from services.common.records import Record, output
from services.common.settings import Settings, SettingsError, load_settings
from services.common.topics import COBUYS
from tests.monitoring.collector import Collector

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def record(parent: bytes = PARENT.encode()) -> Record:
    return Record("cobuys", 2, 7, b"k", b"v", [("traceparent", parent)])


def passed_on(cause: Record) -> str:
    made = output(COBUYS, "cobuys", "k", CoBuy(), stage="x", cause=cause)
    return dict(made.headers).get("traceparent", b"").decode()


@pytest.mark.parametrize(
    "text",
    ["", "x", PARENT.upper(), PARENT[:-1], PARENT + "0", PARENT + "\n", f"00-{'0' * 32}-{SPAN}-01",
     f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01", "0" * 40_000],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert traceparent(text) == ""
    assert traceparent(PARENT) == PARENT


def test_context_is_passed_on_where_nothing_is_traced() -> None:
    with tracing.processing("x", record()) as span:
        assert (here().event, here().trace_id, here().span_id) == ("cobuys-2-7", TRACE, SPAN)
        assert passed_on(record()) == PARENT
        with tracing.calling("x", "Extract"):
            assert dict(tracing.metadata()) == {"mindstream-event": "cobuys-2-7", "traceparent": PARENT}
        span.says("mindstream.outcome", "ok")
        assert span.traceparent == ""
    assert here().event == ""
    assert tracing.metadata() == ()
    with tracing.serving("extractor", [("traceparent", PARENT), ("mindstream-event", "e"), ("other-bin", b"\xff")]):
        assert (here().event, here().traceparent) == ("e", PARENT)
    with tracing.processing("x", record(b"\xff\xfe\0")):
        assert here().traceparent == ""
        assert dict(tracing.metadata()) == {"mindstream-event": "cobuys-2-7"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector.serving() as found:
        tracing.configure(Settings(otlp_endpoint=found.endpoint, slot="3"), "x")
        yield found
        tracing.close()


def fail(sent: dict[str, str]) -> None:
    with tracing.calling("x", "Extract"):
        sent.update(tracing.metadata())
        raise KeyError("what the event says")


def test_spans_are_children_of_what_caused_them(collector: Collector) -> None:
    with tracing.processing("x", record()) as span:
        given = passed_on(record())
        assert given[3:35] == TRACE
        assert given[36:52] != SPAN
        assert given == span.traceparent
        sent: dict[str, str] = {}
        with pytest.raises(KeyError):
            fail(sent)
        with tracing.serving("extractor", list(sent.items())):
            assert here().event == "cobuys-2-7"
        span.says("mindstream.outcome", "ok")
    tracing.committed("x", ["", span.traceparent], began=1_700_000_000.0)
    tracing.close()  # Sends what is left.
    spans = {one.name: one for one in collector.spans()}
    assert spans.keys() == {"x process", "x call", "extractor serve", "x commit"}
    assert {one.trace_id for one in spans.values()} == {TRACE}
    assert spans["x process"].parent == SPAN
    assert spans["x call"].parent == spans["x commit"].parent == spans["x process"].span_id
    assert spans["extractor serve"].parent == spans["x call"].span_id
    assert spans["x process"].attributes["mindstream.outcome"] == "ok"
    assert spans["x process"].attributes["mindstream.event"] == "cobuys-2-7"
    assert spans["x process"].service == "mindstream-x"
    assert spans["x call"].failed
    assert spans["x commit"].start == 1_700_000_000 * 10**9
    assert "what the event says" not in str(spans)


def test_a_trace_begins_where_there_is_none_and_a_decision_not_to_record_is_kept(collector: Collector) -> None:
    with tracing.processing("x", record(b"garbage")) as begun:
        assert int(begun.traceparent[53:], 16) & 1
        assert here().traceparent == begun.traceparent
    with tracing.processing("x", record(PARENT[:-2].encode() + b"00")) as left_out:
        assert left_out.traceparent[3:35] == TRACE
        assert not int(left_out.traceparent[53:], 16) & 1
    tracing.close()
    assert [one.trace_id for one in collector.spans()] == [begun.traceparent[3:35]]


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match="MINDSTREAM_OTLP_ENDPOINT: OpenTelemetry is not installed"):
        tracing.configure(Settings(otlp_endpoint="http://localhost:4317"), "x")
    monkeypatch.setenv("MINDSTREAM_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(SettingsError, match="MINDSTREAM_OTLP_ENDPOINT: not http"):
        load_settings()
