"""Releases: what is in which split, what is left out, and that the bytes follow from the KB alone."""

from __future__ import annotations

import json
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.local.postgres import Postgres
from services.cli.main import app
from services.common import datasets
from services.common.errors import WorldFault
from services.common.kb import SCHEMA
from services.common.leaks import leaks, text_key
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.release import Release, make_release, shards
from services.kb_sink.release.distractors import TOO_LIKE, WRONG, Option, Pool, Smallest
from services.kb_sink.rows import COLUMNS

_WORDS = [f"{start}{end}" for start in "bdfgklmnprst" for end in ("ab", "eg", "il", "on", "up", "ash", "ent", "ing")]
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    """An intention of a KB to be."""

    a: int
    b: int
    relation: str
    text: str
    score: float
    sample: int = 0


def shop(seed: int, pairs: int = 150, products: int = 60) -> list[Said]:
    """Pairs that share products, and reasons that some of them share."""
    drawn = random.Random(seed)
    common = [" ".join(drawn.sample(_WORDS, 4)) for _ in range(10)]
    said = []
    for _ in range(pairs):
        a, b = sorted(drawn.sample(range(products), 2))
        for relation in drawn.sample(RELATIONS, 5):
            text = drawn.choice(common) if drawn.random() < 0.3 else " ".join(drawn.sample(_WORDS, 5))
            said.append(Said(a, b, relation.name, text, round(drawn.random(), 3)))
    return list({(one.a, one.b, one.relation): one for one in said}.values())


def fill(dsn: str, said: Sequence[Said], seed: int = 0) -> None:
    """A KB that holds them too, its new rows in an order by the seed."""
    migrate(dsn, SCHEMA, MIGRATIONS)
    tables: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {name: {} for name in COLUMNS}
    for one in said:
        a, b = f"p{one.a:03d}", f"p{one.b:03d}"
        for product in (a, b):
            tables["products"][product,] = (
                product, f"sha256:{product}", "m@1", "extractor/v1", f"{product}, a thing of shops",
                f"sha256:picture-{product}", f"A {product}.", ["round"], ["eating"], _TIME,
            )  # fmt: skip
        pair = f"{a}|{b}"
        tables["pairs"][pair,] = (pair, a, b, 2, _TIME, _TIME)
        key = f"{pair}/{one.relation}/{one.sample}"
        tables["intentions"][key,] = (
            key, pair, one.relation, one.text, one.sample, 5, one.score, one.score >= 0.5, 0.5, "cobuys", 0, 0, "", "1",
            f"sha256:{a}", f"sha256:{b}", "m@1", "extractor/v1", "m@1", "extractor/v1", "m@1", "generator/v1", "m@1",
            "filter/v1", _TIME, _TIME, "",
        )  # fmt: skip
    with psycopg.connect(dsn) as connection:
        for name, columns in COLUMNS.items():
            rows = list(tables[name].values())
            random.Random(seed).shuffle(rows)
            marks = ", ".join(["%s"] * len(columns))
            connection.cursor().executemany(
                f"INSERT INTO kb.{name} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING", rows
            )


@pytest.fixture
def new_database(postgres_server: Postgres) -> Callable[[], str]:
    """DSNs of databases that are new."""

    def new() -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        postgres_server.create_database(name)
        return postgres_server.dsn(name)

    return new


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def made(tmp_path: Path, database: str) -> Callable[..., Settings]:
    def settings(**changed: Any) -> Settings:
        return Settings(**{"postgres_dsn": database, "datasets_url": f"file://{tmp_path}/datasets", **changed})

    return settings


def released(settings: Settings) -> Release:
    release = make_release(settings)
    assert release is not None
    return release


def rows(release: Release, config: str, split: str = "*") -> list[dict[str, Any]]:
    folder = Path(release.url.removeprefix("file://"), "jsonl", config)
    return [json.loads(line) for path in sorted(folder.glob(f"{split}-*")) for line in path.open()]


@pytest.mark.integration
def test_splits_know_nothing_of_each_other_and_a_planted_leak_is_found(
    made: Callable[..., Settings], database: str
) -> None:
    fill(database, shop(1))
    release = released(made())
    assert datasets.verify(release.url) == []
    splits = {one["split"] for one in release.manifest["splits"] if one["config"] == "judgement"}
    assert splits == {"train", "validation", "test"}
    assert set(release.manifest["left_out"]) == {"products in two splits", "text in another split"}

    test, train = ({text_key(row["text"]) for row in rows(release, "judgement", name)} for name in ("test", "train"))
    assert test
    assert not test & train
    folder = Path(release.url.removeprefix("file://"))
    path = folder / "generation" / "train-00000.parquet"
    table = pq.read_table(path)
    stolen = rows(release, "judgement", "test")[0]
    planted = [{**table.to_pylist()[0], "text": f"{stolen['text'].upper()}!"}]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(planted, table.schema)]), path)
    assert list(leaks(release.url, release.manifest)) == ["train has 1 text of test"]
    planted = [{**table.to_pylist()[0], "product_b": stolen["product_a"]}]
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(planted, table.schema)]), path)
    assert list(leaks(release.url, release.manifest)) == ["train has 1 product of test"]


@pytest.mark.integration
def test_by_pair_nothing_is_left_out(made: Callable[..., Settings], database: str) -> None:
    said = shop(2)
    fill(database, said)
    release = released(made(release_split="pair"))
    assert release.manifest["left_out"] == {}
    assert len(rows(release, "judgement")) == len(said)
    assert datasets.verify(release.url) == []


@pytest.mark.integration
def test_the_bytes_follow_from_the_intentions_alone(
    made: Callable[..., Settings], database: str, new_database: Callable[[], str]
) -> None:
    said, again = shop(3), new_database()
    fill(database, said, seed=1)
    fill(again, said, seed=2)
    first = released(made())
    second = released(made(postgres_dsn=again, datasets_url=made().datasets_url + "-again"))
    assert first.manifest == second.manifest


@pytest.mark.integration
def test_the_threshold_moves_without_a_new_judgement_and_no_relation_outweighs(
    made: Callable[..., Settings], database: str
) -> None:
    said = [one for one in shop(4, pairs=200) if one.relation != "IsA"]
    said += [
        Said(one.a, one.b, "IsA", f"thing {n}", 0.9) for n, one in enumerate({(s.a, s.b): s for s in said}.values())
    ]
    fill(database, said)
    loose, strict, balanced = (
        released(made(release_split="pair", **one))
        for one in ({"release_threshold": 0.1}, {"release_threshold": 0.8}, {"release_balance": 1.5})
    )
    for release, threshold in ((loose, 0.1), (strict, 0.8)):
        assert len(rows(release, "generation")) == sum(one.score >= threshold for one in said)
        assert all(row["accepted"] == (row["score"] >= threshold) for row in rows(release, "judgement"))
    counts = Counter(row["relation"] for row in rows(balanced, "generation"))
    kept = Counter(one.relation for one in said if one.score >= 0.5)
    median = sorted(kept.values())[len(kept) // 2]
    assert kept["IsA"] > 3 * median
    assert counts["IsA"] < 2.2 * median
    assert balanced.manifest["left_out"]["relation too frequent"] == kept.total() - counts.total()

    told = CliRunner().invoke(app, ["datasets", "diff", loose.url, strict.url, "--json"])
    changed = json.loads(told.stdout)
    assert changed["settings: threshold"] == {"old": 0.1, "new": 0.8}
    before, after = changed["rows of generation, train"].values()
    assert before > after
    assert "relations: IsA" not in changed
    shown = CliRunner().invoke(app, ["datasets", "stats", balanced.url]).stdout
    assert balanced.release_id in shown
    assert "left out, relation too frequent" in shown
    missing = CliRunner().invoke(app, ["datasets", "stats", f"{loose.url}/nothing"])
    assert (missing.exit_code, len(missing.stderr.splitlines())) == (2, 1)


@pytest.mark.integration
def test_the_newest_release_stays_where_two_have_one_time(made: Callable[..., Settings], database: str) -> None:
    fill(database, shop(10, pairs=30))
    for threshold in (0.2, 0.4, 0.6, 0.8):
        release = released(made(release_keep=1, release_threshold=threshold))
        [stays] = datasets.releases(made().datasets_url)
        assert stays["release_id"] == release.release_id


@pytest.mark.integration
def test_each_sentence_of_a_pair_is_there_once_and_the_kept_is_preferred(
    made: Callable[..., Settings], database: str
) -> None:
    fill(
        database,
        [
            Said(1, 2, "UsedFor", "eating soup", 0.9, 0),
            Said(1, 2, "UsedFor", "Eating  soup.", 0.7, 1),
            Said(1, 2, "UsedFor", "flying", 0.1, 2),
            Said(1, 2, "UsedFor", "swimming", 0.3, 3),
            Said(1, 2, "IsA", "", 0.2),
            Said(1, 2, "MadeOf", "steel", 0.8),
        ],
    )
    release = released(made(release_split="pair"))
    assert release.manifest["left_out"] == {"empty": 1, "said before of the pair": 1}
    assert sorted(row["text"] for row in rows(release, "generation")) == [
        "they are both made of steel",
        "they are both used for eating soup",
    ]
    [preferred] = rows(release, "preference")
    assert preferred["chosen"][0]["content"] == "Because they are both used for eating soup."
    assert preferred["rejected"][0]["content"] == "Because they are both used for flying."
    assert (preferred["score_chosen"], preferred["score_rejected"]) == (0.9, 0.1)
    assert rows(release, "intent-understand") == []
    assert [row["product_id"] for row in sorted(rows(release, "features"), key=lambda row: str(row["id"]))] == [
        "p001",
        "p002",
    ]


@pytest.mark.integration
def test_every_configuration_loads_from_many_shards(
    made: Callable[..., Settings], database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets as hugging_face

    monkeypatch.setattr(shards, "GROUP_ROWS", 20)
    monkeypatch.setattr(shards, "SHARD_ROWS", 60)
    fill(database, shop(5))
    release = released(made())
    assert any(name.endswith("train-00001.parquet") for name in release.manifest["files"])
    for config in {one["config"] for one in release.manifest["splits"]}:
        loaded = hugging_face.load_dataset(
            release.url.removeprefix("file://"), name=config, cache_dir=str(tmp_path / "cache")
        )
        counts = {one["split"]: one["rows"] for one in release.manifest["splits"] if one["config"] == config}
        assert {name: len(split) for name, split in loaded.items()} == counts
        assert sorted(row["id"] for split in loaded.values() for row in split) == sorted(
            row["id"] for row in rows(release, config)
        )


@pytest.mark.integration
def test_questions_have_one_right_option_of_their_own_split(made: Callable[..., Settings], database: str) -> None:
    said = shop(6, pairs=400, products=200)
    fill(database, said)
    release = released(made())
    reasons: dict[str, set[str]] = {}
    for row in rows(release, "judgement"):
        if row["accepted"]:
            reasons.setdefault(row["pair_id"], set()).add(f"because {row['text']}")
    likeness: dict[str, list[float]] = {}
    for row in rows(release, "intent-understand"):
        right = row["options"]["ABCD".index(row["answer"])]
        assert reasons[row["pair_id"]] & set(row["options"]) == {right}
        assert max(row["likeness"]) <= TOO_LIKE
        likeness.setdefault(row["difficulty"], []).extend(row["likeness"])
    means = {level: sum(found) / len(found) for level, found in likeness.items()}
    assert means["easy"] < means["medium"] < means["hard"]
    texts = {split: {text_key(row["text"]) for row in rows(release, "judgement", split)} for split in ("train", "test")}
    options = {
        text_key(o.removeprefix("because "))
        for row in rows(release, "intent-understand", "train")
        for o in row["options"]
    }
    assert options <= texts["train"]


@pytest.mark.integration
def test_no_disk_for_the_files_is_the_worlds_fault(
    made: Callable[..., Settings], database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(database, shop(7, pairs=2))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WorldFault, match="gone"):
        make_release(made())


_options = st.builds(
    Option,
    st.lists(st.sampled_from(_WORDS[:30]), min_size=1, max_size=4).map(" ".join),
    st.frozensets(st.sampled_from("abcdefgh"), min_size=1, max_size=2),
)


@given(st.lists(_options, max_size=40), st.lists(_options, max_size=5), st.sampled_from(["easy", "medium", "hard"]))
def test_a_distractor_is_no_right_answer(pool: list[Option], asked: list[Option], level: str) -> None:
    also = [frozenset({text_key(option.text)}) for option in asked]
    for option, wrong in zip(asked, Pool(pool).choose(asked, [level] * len(asked), also), strict=True):
        if wrong is None:
            continue
        texts, likeness = wrong
        assert len({text_key(text) for text in texts}) == WRONG
        assert text_key(option.text) not in {text_key(text) for text in texts}
        assert max(likeness) <= TOO_LIKE
        for text in texts:
            assert any(one.text == text and not one.products & option.products for one in pool)


@given(st.lists(st.text(max_size=4), max_size=60), st.randoms(use_true_random=False))
def test_a_sample_does_not_depend_on_the_order(keys: list[str], order: random.Random) -> None:
    first, again = Smallest(5), Smallest(5)
    for key in keys:
        first.offer(key)
    order.shuffle(keys)
    for key in keys:
        again.offer(key)
    assert first.keys == again.keys
    assert len(first.keys) == min(5, len(set(keys)))
