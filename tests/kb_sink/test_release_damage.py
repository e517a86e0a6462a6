"""Releases of odd KBs, releases that were cut off or damaged, and other readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pandas as pd
import psycopg
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.common import datasets
from services.common.errors import WorldFault
from services.common.kb import SCHEMA
from services.common.postgres import migrate
from services.common.settings import Settings
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.release import make_release
from services.kb_sink.release.plots import PLOTS
from tests.kb_sink.test_release import Said, database, fill, made, new_database, released, rows, shop

__all__ = ["database", "made", "new_database"]
pytestmark = pytest.mark.integration


def test_of_an_empty_kb_there_is_nothing_to_release(made: Callable[..., Settings], database: str) -> None:
    migrate(database, SCHEMA, MIGRATIONS)
    environment = {"MINDSTREAM_POSTGRES_DSN": database, "MINDSTREAM_DATASETS_URL": made().datasets_url}
    told = CliRunner().invoke(app, ["datasets", "release"], env=environment)
    assert (told.exit_code, told.stdout) == (0, "nothing to release\n")
    assert datasets.latest(made().datasets_url) is None


def test_a_single_relation_is_released(made: Callable[..., Settings], database: str) -> None:
    fill(database, [one for one in shop(41, pairs=300) if one.relation == "UsedFor"])
    release = released(made(release_balance=1.0, release_near=0.9))
    assert list(release.manifest["relations"]) == ["UsedFor"]
    assert rows(release, "intent-understand")
    assert "relation too frequent" not in release.manifest["left_out"]
    assert datasets.verify(release.url) == []


def test_where_all_are_rejected_only_judgements_are_there(made: Callable[..., Settings], database: str) -> None:
    import datasets as hugging_face

    fill(database, [Said(one.a, one.b, one.relation, one.text, one.score / 2.1) for one in shop(42)])
    release = released(made())
    assert {one["config"] for one in release.manifest["splits"]} == {"features", "judgement"}
    assert release.manifest["accepted"] == 0
    assert datasets.verify(release.url) == []
    folder = release.url.removeprefix("file://")
    assert hugging_face.get_dataset_config_names(folder) == ["features", "judgement"]


def test_a_product_without_a_picture_is_released_without_one(made: Callable[..., Settings], database: str) -> None:
    fill(database, [Said(1, 2, "UsedFor", "eating soup", 0.9)])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE kb.products SET image_digest = '' WHERE product_id = 'p001'")
    release = released(made(release_split="pair"))
    assert {row["product_id"]: row["image_digests"] for row in rows(release, "features")} == {
        "p001": [],
        "p002": ["sha256:picture-p002"],
    }
    assert [row["image_digests"] for row in rows(release, "generation")] == [["sha256:picture-p002"]]


def test_a_release_cut_off_before_its_manifest_is_seen_by_nobody_and_made_anew(
    made: Callable[..., Settings], database: str, tmp_path: Path
) -> None:
    fill(database, shop(43, pairs=40))
    whole = released(made())
    url, folder = f"file://{tmp_path}/cut", tmp_path / "cut" / whole.release_id
    # Where the manifest would be, something is in the way: all files are written, and it is not.
    in_the_way = folder / "manifest.json" / "here"
    in_the_way.mkdir(parents=True)
    with pytest.raises(WorldFault, match=r"manifest\.json"):
        make_release(made(datasets_url=url))
    assert (folder / "generation" / "train-00000.parquet").exists()
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    for half in (None, '{"release_id": '):
        if half is not None:
            (folder / "manifest.json").write_text(half)
        assert datasets.releases(url) == []
        assert datasets.newest_id(url) == ""
        assert datasets.verify(f"{url}/{whole.release_id}")
    left = tmp_path / "cut" / "20200101T000000Z-00000000"
    left.mkdir()
    (left / "README.md").touch()
    again = released(made(datasets_url=url))
    assert again.manifest == whole.manifest
    assert datasets.verify(again.url) == []
    assert not left.exists()


@pytest.mark.parametrize("name", ["generation/train-00000.parquet", "README.md", "plots/scores.svg"])
def test_a_file_that_was_changed_or_is_missing_is_named(
    made: Callable[..., Settings], database: str, name: str
) -> None:
    fill(database, shop(44, pairs=40))
    release = released(made())
    path = Path(release.url.removeprefix("file://"), name)
    with path.open("ab") as file:
        file.write(b"\n")
    assert datasets.verify(release.url) == [f"{name} is not what the manifest says"]
    path.unlink()
    told = CliRunner().invoke(app, ["datasets", "verify", release.url])
    assert (told.exit_code, told.stderr) == (1, f"{name} is missing\n")


def test_the_card_shows_plots_of_the_manifests_counts(made: Callable[..., Settings], database: str) -> None:
    fill(database, shop(45))
    release = released(made())
    folder = Path(release.url.removeprefix("file://"))
    card = (folder / "README.md").read_text()
    for name, title in PLOTS.items():
        assert f"![{title}]({name})" in card
        assert name in release.manifest["files"]
    drawn = ElementTree.fromstring((folder / "plots/relations.svg").read_text())
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for relation, count in release.manifest["relations"].items():
        assert texts[texts.index(relation) + 1] == f"{release.manifest['accepted_relations'][relation]} of {count}"


def test_pandas_and_duckdb_read_the_shards(made: Callable[..., Settings], database: str) -> None:
    fill(database, shop(46))
    release = released(made())
    folder = release.url.removeprefix("file://")
    asked = f"SELECT relation, count(*) FROM '{folder}/judgement/*.parquet' WHERE accepted GROUP BY 1 ORDER BY 1"
    found = dict(duckdb.sql(asked).fetchall())
    frames = pd.concat(pd.read_parquet(path) for path in sorted(Path(folder, "judgement").glob("*.parquet")))
    assert found == frames[frames.accepted].groupby("relation").size().to_dict()
    assert found
    lines = duckdb.sql(f"SELECT count(*) FROM '{folder}/jsonl/judgement/*.jsonl'").fetchone()
    assert lines == (len(frames),)
    first = json.loads(json.dumps(frames.iloc[0].messages.tolist()))
    assert [message["role"] for message in first] == ["user", "assistant"]
