"""Lines of the log: JSON for collectors, text for people, each with its event and its trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from services.common import logs, tracing
from services.common.records import Record
from services.common.settings import Settings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORD = Record("cobuys", 2, 7, b"k", b"v", [("traceparent", f"00-{TRACE}-{SPAN}-01".encode())])
log = logging.getLogger("services.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_name_the_event_and_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    with tracing.processing("extractor", RECORD):
        log.warning("a line\nof two, and 'ü'")
    log.info("of nothing in particular")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "a line\nof two, and 'ü'"
    assert (first["level"], first["logger"]) == ("WARNING", "services.test")
    assert (first["event"], first["trace_id"], first["span_id"]) == ("cobuys-2-7", TRACE, SPAN)
    assert second.keys() == {"time", "level", "logger", "message"}


def test_text_names_them_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings())
    with tracing.processing("extractor", RECORD):
        log.warning("a line")
    log.warning("another")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f"WARNING services.test: a line [event=cobuys-2-7 trace_id={TRACE}]")
    assert second.endswith("services.test: another")


async def test_no_pictures_address_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    import httpx

    logs.configure(Settings(log_level="DEBUG"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Starlette())) as client:
        answer = await client.get("http://shop.example/1.jpg?X-Amz-Signature=a-key-of-the-shop")
    assert answer.status_code == 404
    assert "a-key-of-the-shop" not in capsys.readouterr().err


def test_the_level_is_a_setting_and_a_wrong_format_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.common.settings import SettingsError, load_settings

    logs.configure(Settings(log_level="ERROR"))
    log.warning("unheard")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("MINDSTREAM_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match=r"MINDSTREAM_LOG_FORMAT: .*'text' or 'json' \(got 'xml'\)"):
        load_settings()


def test_where_a_bug_happened_says_nothing_of_the_event() -> None:
    def fail(value: str) -> int:
        return int(value)

    with pytest.raises(ValueError, match="secret") as caught:
        fail(" ".join(("secret", "payload")))
    said = logs.where(caught.value)
    assert said.startswith("ValueError\n")
    assert "return int(value)" in said
    assert "secret payload" not in said
