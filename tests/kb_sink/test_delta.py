"""Deltas: what they have, that nothing leaks between them and their bases, and what becomes of a broken chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common import datasets
from services.common.datasets import BaseError
from services.common.leaks import leaks, text_key
from services.common.settings import Settings
from services.kb_sink.release import Release, make_release
from services.kb_sink.release.base import due
from services.kb_sink.release.splits import split_of
from tests.kb_sink.test_release import Said, database, fill, made, new_database, rows, shop

__all__ = ["database", "made", "new_database"]
pytestmark = pytest.mark.integration


def released(settings: Settings, since: str = "") -> Release:
    release = make_release(settings, since)
    assert release is not None
    return release


def ids(release: Release, config: str) -> list[str]:
    return sorted(row["id"] for row in rows(release, config))


def test_a_full_release_and_its_deltas_have_what_one_full_release_has(
    made: Callable[..., Settings], database: str
) -> None:
    said, settings = shop(21), made(release_split="pair")
    chain: list[Release] = []
    # A pair that is in two parts has news in the second: intentions of one pair come apart.
    for end in (len(said) // 2, len(said) // 2 + 7, len(said)):
        fill(database, said[:end])
        chain.append(released(settings, chain[-1].release_id if chain else ""))
    full = released(made(release_split="pair", datasets_url=settings.datasets_url + "-full"))
    for config in ("features", "generation", "judgement"):
        parts = [ids(release, config) for release in chain]
        assert sorted(one for part in parts for one in part) == ids(full, config), config
    assert [release.manifest["kind"] for release in chain] == ["full", "delta", "delta"]
    assert [release.manifest["intentions"] for release in chain] == [len(said) // 2, 7, len(said) - len(said) // 2 - 7]
    assert [release.kb_intentions for release in chain][-1] == len(said) == full.manifest["intentions"]
    assert chain[1].manifest["base"] == {
        "release_id": chain[0].release_id,
        "manifest": chain[0].manifest_digest,
    }
    assert datasets.verify(chain[-1].url) == []
    assert make_release(settings, chain[-1].release_id) is None
    shown = CliRunner().invoke(app, ["datasets", "list"], env={"MINDSTREAM_DATASETS_URL": settings.datasets_url})
    assert f"delta of {chain[1].release_id}" in shown.stdout


def test_a_text_stays_in_the_split_that_a_base_has_it_in(made: Callable[..., Settings], database: str) -> None:
    products = {split: [n for n in range(200) if split_of(f"p{n:03d}") == split] for split in ("train", "test")}
    (a, b, *_), (c, d, *_) = products["train"], products["test"]
    fill(database, [*shop(22), Said(a, b, "UsedFor", "crossing rivers", 0.9)])
    base = released(made())
    fill(database, [Said(c, d, "UsedFor", "Crossing rivers.", 0.9), Said(c, d, "UsedFor", "new to all", 0.9, 1)])
    delta = released(made(), base.release_id)
    assert [row["text"] for row in rows(delta, "generation", "test")] == ["they are both used for new to all"]
    assert delta.manifest["left_out"] == {"text in another split": 1}
    chain = list(datasets.bases(delta.url, delta.manifest))
    assert list(leaks(delta.url, delta.manifest, chain)) == []
    # A full release says otherwise, so that base and full release do leak: the check sees what it is for.
    full = released(made())
    assert list(leaks(full.url, full.manifest, chain)) == ["train has 1 text of test"]
    assert text_key("they are both used for crossing rivers") in {
        text_key(row["text"]) for row in rows(full, "judgement", "test")
    }


def test_what_was_judged_again_is_there_again_and_nothing_else(made: Callable[..., Settings], database: str) -> None:
    settings = made(release_split="pair")
    fill(database, [one for one in shop(23) if one.score >= 0.5])
    base = released(settings)
    again = ids(base, "generation")[0]
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.intentions SET score = 0.1, accepted = false WHERE intention_id = %s", [again])
    delta = released(settings, base.release_id)
    assert [(row["id"], row["accepted"]) for row in rows(delta, "judgement")] == [(again, False)]
    assert rows(delta, "generation") == []
    assert make_release(settings, delta.release_id) is None


def test_the_bytes_follow_from_the_intentions_and_the_base(
    made: Callable[..., Settings], database: str, new_database: Callable[[], str]
) -> None:
    said, manifests = shop(24), []
    for seed, dsn in enumerate((database, new_database())):
        settings = made(postgres_dsn=dsn, datasets_url=f"{made().datasets_url}-{seed}", release_near=0.8)
        fill(dsn, said[:300], seed)
        base = released(settings)
        fill(dsn, said, seed)
        manifests.append(released(settings, base.release_id).manifest)
    assert manifests[0] == manifests[1]


def test_a_base_that_is_missing_or_changed_is_named(made: Callable[..., Settings], database: str) -> None:
    said, settings = shop(25), made()
    fill(database, said[:300])
    base = released(settings)
    fill(database, said)
    delta = released(settings, base.release_id)
    folder = Path(base.url.removeprefix("file://"))
    shard, manifest = folder / "generation" / "train-00000.parquet", folder / "manifest.json"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert datasets.verify(delta.url) == [
        f"base {base.release_id}: generation/train-00000.parquet is not what the manifest says"
    ]
    shard.write_bytes(whole)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "accepted": 0}))
    [line] = datasets.verify(delta.url)
    assert line == f"base {base.release_id} is not what it was: its manifest.json has changed"
    manifest.unlink()
    assert datasets.verify(delta.url) == [f"base {base.release_id} is missing"]
    told = CliRunner().invoke(app, ["datasets", "verify", delta.url])
    assert (told.exit_code, told.stderr.splitlines()) == (1, [f"base {base.release_id} is missing"])
    assert due(made(release_deltas=5)) == ""
    with pytest.raises(BaseError, match=f"base {base.release_id} is missing"):
        make_release(settings, delta.release_id)


def test_a_base_is_refused_by_name(made: Callable[..., Settings], database: str) -> None:
    fill(database, shop(26, pairs=30))
    base = released(made())
    with pytest.raises(BaseError, match=r"other settings \(split, near\)"):
        make_release(made(release_split="pair", release_near=0.8), base.release_id)
    environment = {"MINDSTREAM_POSTGRES_DSN": database, "MINDSTREAM_DATASETS_URL": made().datasets_url}
    told = CliRunner().invoke(app, ["datasets", "release", "--since", "no-such"], env=environment)
    assert told.exit_code == 2
    [line] = told.stderr.splitlines()
    assert line.endswith("/no-such is no release: no delta can be made on it")


def test_by_setting_so_many_deltas_follow_a_full_release_and_bases_outlive_retention(
    made: Callable[..., Settings], database: str
) -> None:
    said, settings = shop(27), made(release_deltas=2, release_keep=1)
    kinds, stay = [], []
    for end in range(200, 601, 100):
        fill(database, said[:end])
        since = due(settings)
        kinds.append(released(settings, since).manifest["kind"])
        stay.append(len(datasets.releases(settings.datasets_url)))
    assert kinds == ["full", "delta", "delta", "full", "delta"]
    assert stay == [1, 2, 3, 1, 2]
    assert due(made(release_deltas=2, release_threshold=0.7)) == ""
    assert due(made()) == ""


def test_a_row_in_two_is_said_by_the_newer(made: Callable[..., Settings], database: str) -> None:
    """A verdict that went there and back is news both times."""
    settings = made(release_split="pair")
    fill(database, shop(28, pairs=40))
    release = released(settings)
    row: dict[str, Any] = rows(release, "judgement")[0]
    for score in (0.25, row["score"]):
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE kb.intentions SET score = %s, accepted = %s WHERE intention_id = %s",
                [score, score >= 0.5, row["id"]],
            )
        release = released(settings, release.release_id)
        assert [one["score"] for one in rows(release, "judgement")] == [score]


def test_commands_make_a_full_release_a_delta_of_it_and_then_one_by_setting(
    settings: Callable[..., Settings], database: str
) -> None:
    own, said = settings(postgres_dsn=database), shop(29)
    environment = {
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": own.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": own.topic_prefix,
        "MINDSTREAM_POSTGRES_DSN": database,
        "MINDSTREAM_DATASETS_URL": own.datasets_url,
    }
    since: list[str] = []
    for end, deltas in ((300, "0"), (400, "0"), (500, "2"), (600, "2")):
        fill(database, said[:end])
        asked = ["datasets", "release", *(["--since", since[0]] if end == 400 else [])]
        told = CliRunner().invoke(app, asked, env={**environment, "MINDSTREAM_RELEASE_DELTAS": deltas})
        assert told.exit_code == 0, told.stderr
        since = [told.stdout.strip()]
    kinds = [release["kind"] for release in datasets.releases(own.datasets_url)]
    assert sorted(kinds) == ["delta", "delta", "full", "full"]
    with psycopg.connect(database) as connection:
        counts = connection.execute("SELECT intentions FROM kb.releases ORDER BY 1").fetchall()
    assert [count for (count,) in counts] == [300, 400, 500, 600]
