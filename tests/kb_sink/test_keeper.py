"""Releases that are owed and releases that are damaged show in the metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from services.common import datasets
from services.common.errors import WorldFault
from services.common.kb import SCHEMA
from services.common.postgres import migrate
from services.common.settings import Settings
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.releases import Keeper

pytestmark = pytest.mark.integration


def told(name: str) -> float:
    return REGISTRY.get_sample_value(f"mindstream_dataset_release_{name}") or 0


def test_a_release_that_cannot_be_made_is_owed_until_it_is(settings: Callable[..., Settings], postgres: str) -> None:
    migrate(postgres, SCHEMA, MIGRATIONS)
    made = settings(postgres_dsn="postgresql://nobody@127.0.0.1:1/none")
    keeper = Keeper(made)
    with pytest.raises(WorldFault):
        keeper.turn(due=True)
    since = told("due_timestamp_seconds")
    assert since > 1_700_000_000
    with pytest.raises(WorldFault):
        keeper.turn(due=True)
    assert told("due_timestamp_seconds") == since
    keeper._settings = made.model_copy(update={"postgres_dsn": SecretStr(postgres)})
    keeper.turn(due=True)
    assert told("due_timestamp_seconds") == 0


def test_a_damaged_release_is_found(settings: Callable[..., Settings], postgres: str, tmp_path: Path) -> None:
    migrate(postgres, SCHEMA, MIGRATIONS)
    content = b"as it was released"
    manifest = {"files": {"a": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}, "splits": []}
    name = f"20260101T000000Z-{datasets.fingerprint(manifest)}"
    folder = tmp_path / "datasets" / name
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(content)
    (folder / datasets.MANIFEST).write_bytes(datasets.to_json({**manifest, "release_id": name}))
    (folder.parent / datasets.LATEST).write_text(name)
    made = settings(postgres_dsn=postgres, release_verify_seconds=1e-9)
    keeper = Keeper(made)
    keeper.turn(due=False)
    assert told("wrong_files") == 0
    (folder / "a").write_bytes(b"as somebody left it")
    (folder / "b").touch()
    keeper.turn(due=False)
    assert told("wrong_files") == 2
    (folder / datasets.MANIFEST).unlink()
    keeper.turn(due=False)
    assert told("wrong_files") > 0
    # A release that was found well is not read again before its time.
    patient = Keeper(made.model_copy(update={"release_verify_seconds": 3600.0}))
    patient.turn(due=False)
    before = told("wrong_files")
    (folder.parent / name / "b").unlink()
    patient.turn(due=False)
    assert told("wrong_files") == before
