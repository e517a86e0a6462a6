"""Settings: documented as they are, and a mistake in one is one line."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common.settings import Settings, SettingsError, librdkafka_options, load_settings

ROOT = Path(__file__).parents[2]


def test_docs_hold_the_table_of_settings() -> None:
    table = CliRunner().invoke(app, ["settings"]).output.strip()
    assert table in (ROOT / "docs" / "settings.md").read_text(), "write it anew: mindstream settings"
    assert all(f"`MINDSTREAM_{name.upper()}`" in table for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_CONCURRENCY", "many")
    with pytest.raises(SettingsError, match=r"MINDSTREAM_CONCURRENCY: .*'many'"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"CONCURENCY": "8"},
            "MINDSTREAM_CONCURENCY: no such setting (MINDSTREAM_CONCURRENCY? docs/settings.md has them all)",
        ),
        ({"XYZ": "8"}, "MINDSTREAM_XYZ: no such setting (docs/settings.md has them all)"),
        ({"CONCURRENCY": "0"}, "MINDSTREAM_CONCURRENCY: Input should be greater than or equal to 1 (got '0')"),
        (
            {"LOG_LEVEL": "LOUD"},
            "MINDSTREAM_LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR' (got 'LOUD')",
        ),
        (
            {"BACKOFF_MIN_SECONDS": "9"},
            "MINDSTREAM_BACKOFF_MIN_SECONDS (9) is more than MINDSTREAM_BACKOFF_MAX_SECONDS (5)",
        ),
        (
            {"GRPC_TLS_CERT": __file__},
            "MINDSTREAM_GRPC_TLS_CERT and MINDSTREAM_GRPC_TLS_KEY are set together or not at all",
        ),
    ],
)
@pytest.mark.parametrize(
    "service", ["cobuy", "extractor", "generator", "filter", "kb_sink", "kb_sink.releases", "lvlm", "explorer"]
)
def test_a_service_with_a_wrong_setting_ends_at_its_start_with_one_line(
    service: str, given: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"MINDSTREAM_{name}", value)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"services.{service}", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_file_with_a_wrong_name_among_the_secrets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MINDSTREAM_POSTGRES_DNS").write_text("postgresql://db")
    (tmp_path / "kafka-ca.crt").write_text("whatever else is mounted there is nobody's setting")
    monkeypatch.setenv("MINDSTREAM_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"MINDSTREAM_POSTGRES_DNS: no such setting \(MINDSTREAM_POSTGRES_DSN\? "):
        load_settings()


def test_librdkafka_options_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_LIBRDKAFKA_SASL_USERNAME", "shop")
    librdkafka_options.cache_clear()
    try:
        assert librdkafka_options() == {"sasl.username": "shop"}
    finally:
        librdkafka_options.cache_clear()
