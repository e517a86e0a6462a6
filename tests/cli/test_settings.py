"""Settings: documented as they are, and a mistake in one is one line."""

from __future__ import annotations

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


def test_librdkafka_options_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_LIBRDKAFKA_SASL_USERNAME", "shop")
    librdkafka_options.cache_clear()
    try:
        assert librdkafka_options() == {"sasl.username": "shop"}
    finally:
        librdkafka_options.cache_clear()
