"""Make a release: the same snapshot of the KB and the same settings give the same bytes.

The KB is read twice. First its outline: which texts are held out, what distractors are drawn from, how often each
relation is kept. Then pair by pair, into the shards. What is held in memory does not grow with the KB, but for a number
for each held-out text.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common import datasets, storage
from services.common.errors import WorldFault
from services.common.leaks import leaks, text_key
from services.common.relations import sentence
from services.common.settings import Settings
from services.kb_sink.release import card, tasks
from services.kb_sink.release.distractors import POOL, Pool, Smallest
from services.kb_sink.release.publish import Release, publish
from services.kb_sink.release.shards import Shards, digests
from services.kb_sink.release.snapshot import Row, Snapshot, snapshot
from services.kb_sink.release.splits import DRAWN, SPLITS, Splits, digest, draw, split_of

#: Pairs whose rows are made together.
_CHUNK = 200
_MODELS = ("extractor_model_a", "extractor_model_b", "generator_model", "filter_model")
_PROMPTS = ("extractor_prompt_a", "extractor_prompt_b", "generator_prompt", "filter_prompt")


def make_release(settings: Settings) -> Release | None:
    """Make and publish a release of the KB as it is now; None when there is nothing to release.

    Raises:
        WorldFault: the database, the dataset storage or the disk for temporary files is away.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mindstream-release-") as made:
            folder = Path(made)
            with snapshot(settings.postgres_dsn.get_secret_value()) as kb:
                manifest = _write(kb, settings, folder)
            if not manifest:
                return None
            if leaking := list(leaks(folder.as_uri(), manifest)):
                raise WorldFault("datasets", f"not published, since splits know of each other: {'; '.join(leaking)}")
            (folder / "README.md").write_text(card.card(manifest))
            manifest["files"] = digests(folder)
            newest = datetime.fromisoformat(manifest["snapshot_at"]).astimezone(UTC)
            manifest["release_id"] = f"{newest:%Y%m%dT%H%M%SZ}-{datasets.fingerprint(manifest)}"
            with storage.world_faults("datasets", settings.datasets_url):
                return publish(settings, folder, manifest)
    except OSError as error:
        raise WorldFault("datasets", f"{tempfile.gettempdir()}: {error}") from None


@dataclass
class _Outline:
    """What the first reading finds."""

    splits: Splits
    #: Accepted intentions by relation.
    kept: Counter[str] = field(default_factory=Counter)
    #: Pairs that distractors are drawn from, by split.
    drawn: dict[str, Smallest] = field(default_factory=lambda: {split: Smallest(POOL) for split in SPLITS})


class _Selection:
    """Which intentions are kept: by the stored verdict or a threshold of its own, and no relation too often."""

    def __init__(self, settings: Settings) -> None:
        self._threshold, self._balance = settings.release_threshold, settings.release_balance
        self._shares: dict[str, float] = {}

    def accepted(self, score: float, accepted: bool) -> bool:
        """Whether it is good enough."""
        return accepted if self._threshold is None else score >= self._threshold

    def balance(self, kept: Counter[str]) -> None:
        """Of relations that are kept too often only a share goes on."""
        if self._balance and kept:
            most = self._balance * sorted(kept.values())[len(kept) // 2]
            self._shares = {relation: min(1.0, most / count) for relation, count in kept.items()}

    def goes_on(self, intention: str, relation: str) -> bool:
        """Whether an accepted intention is among its relation's share."""
        share = self._shares.get(relation, 1.0)
        return share >= 1.0 or draw("balance", intention) < share * DRAWN


def _write(kb: Snapshot, settings: Settings, folder: Path) -> dict[str, Any]:
    """Write all shards; the manifest so far, empty where the KB is."""
    selection = _Selection(settings)
    outline = _outline(kb, _Outline(Splits(settings.release_split == "product")), selection)
    selection.balance(outline.kept)
    facts, left_out = _Facts(), Counter[str]()
    pools = {split: _pools(kb, outline, selection, split) for split in SPLITS}
    shards = {
        (config, split): Shards(folder, config, split, schema)
        for config, schema in tasks.SCHEMAS.items()
        for split in SPLITS
    }
    for chunk in _chunks(kb.pairs(), _CHUNK):
        by_split: dict[str, list[list[Row]]] = {split: [] for split in SPLITS}
        for pair in chunk:
            facts.saw(pair)
            split = outline.splits.of_pair(pair[0]["pair_id"], pair[0]["product_a"], pair[0]["product_b"])
            if split is None:
                left_out["products in two splits"] += len(pair)
            else:
                by_split[split].append(pair)
        for split, pairs in by_split.items():
            for config, rows in _rows(pairs, split, outline.splits, selection, pools[split], left_out).items():
                shards[config, split].write(rows)
    if not facts.intentions:
        return {}
    for product in kb.products():
        if row := tasks.features(product):
            shards["features", split_of(row["product_id"])].write([row])
    splits = [entry for entry in (one.close() for one in shards.values()) if entry["rows"]]
    return {
        **facts.manifest(),
        "settings": {
            "split": settings.release_split,
            "threshold": settings.release_threshold,
            "balance": settings.release_balance,
        },
        "left_out": {why: count for why, count in sorted(left_out.items()) if count},
        "offsets": [{"topic": t, "partition": p, "next_offset": o} for t, p, o in kb.offsets()],
        "splits": splits,
    }


def _outline(kb: Snapshot, outline: _Outline, selection: _Selection) -> _Outline:
    for _, pair, product_a, product_b, relation, text, score, accepted in kb.outline():
        split = outline.splits.of_pair(pair, product_a, product_b)
        if split is None or not text:
            continue
        outline.splits.saw(split, sentence(relation, text))
        if selection.accepted(score, accepted):
            outline.kept[relation] += 1
            outline.drawn[split].offer(pair)
    return outline


def _pools(kb: Snapshot, outline: _Outline, selection: _Selection, split: str) -> tuple[Pool, Pool]:
    """What the distractors of both tasks are drawn from: of each pair that was drawn one intention, then another."""
    of_pair: dict[str, list[Row]] = {pair: [] for pair in outline.drawn[split].keys}
    for row in kb.intentions(list(of_pair)):
        known = outline.splits.known_elsewhere(split, row["sentence"])
        if row["text"] and not known and selection.accepted(row["score"], row["accepted"]):
            of_pair[row["pair_id"]].append(row)
    for rows in of_pair.values():
        rows.sort(key=lambda row: digest("distractor", row["intention_id"]))
    depth = max(map(len, of_pair.values()), default=0)
    drawn = [rows[level] for level in range(depth) for rows in of_pair.values() if level < len(rows)]
    return Pool(map(tasks.understand_option, drawn)), Pool(map(tasks.utilize_option, drawn))


def _rows(
    pairs: Sequence[list[Row]],
    split: str,
    splits: Splits,
    selection: _Selection,
    pools: tuple[Pool, Pool],
    left_out: Counter[str],
) -> dict[str, list[dict[str, Any]]]:
    """Rows of some pairs of one split, by configuration."""
    made: dict[str, list[dict[str, Any]]] = {"judgement": [], "preference": []}
    all_kept: list[Row] = []
    for pair in pairs:
        judged = []
        for row in _folded(pair, left_out):
            if splits.known_elsewhere(split, row["sentence"]):
                left_out["text in another split"] += 1
            else:
                judged.append((row, selection.accepted(row["score"], row["accepted"])))
        kept = [row for row, accepted in judged if accepted and selection.goes_on(row["intention_id"], row["relation"])]
        left_out["relation too frequent"] += sum(accepted for _, accepted in judged) - len(kept)
        all_kept += kept
        made["judgement"] += tasks.judgement(judged)
        made["preference"] += tasks.preference(kept, [row for row, accepted in judged if not accepted])
    made["generation"] = list(tasks.generation(all_kept))
    made["intent-understand"] = list(tasks.understand(all_kept, pools[0]))
    made["intent-utilize"] = list(tasks.utilize(all_kept, pools[1]))
    return made


def _folded(pair: Sequence[Row], left_out: Counter[str]) -> Iterator[Row]:
    """A pair's intentions that say something, each sentence once: the one with the highest score."""
    best: dict[int, Row] = {}
    for row in sorted(pair, key=lambda row: (-row["score"], row["intention_id"])):
        if not row["text"]:
            left_out["empty"] += 1
        elif best.setdefault(text_key(row["sentence"]), row) is not row:
            left_out["said before of the pair"] += 1
    yield from sorted(best.values(), key=lambda row: str(row["intention_id"]))


class _Facts:
    """What the manifest says of the snapshot."""

    def __init__(self) -> None:
        self.intentions = self._accepted = self._verdicts = 0
        self._relations: Counter[str] = Counter()
        self._accepted_relations: Counter[str] = Counter()
        self._scores: Counter[int] = Counter()
        self._thresholds: set[float] = set()
        self._models: set[str] = set()
        self._prompts: set[str] = set()
        self._newest: datetime | None = None

    def saw(self, rows: Sequence[Row]) -> None:
        """Take rows into account."""
        for row in rows:
            self.intentions += 1
            self._relations[row["relation"]] += 1
            if row["accepted"]:
                self._accepted += 1
                self._accepted_relations[row["relation"]] += 1
            self._verdicts += row["people_up"] + row["people_down"]
            self._scores[min(9, int(row["score"] * 10))] += 1
            self._thresholds.add(row["threshold"])
            self._models.update(row[name] for name in _MODELS)
            self._prompts.update(row[name] for name in _PROMPTS)
            self._newest = max(self._newest or row["judged_at"], row["judged_at"])

    def manifest(self) -> dict[str, Any]:
        """As the manifest says it."""
        assert self._newest is not None
        return {
            "snapshot_at": self._newest.isoformat(),
            "intentions": self.intentions,
            "accepted": self._accepted,
            "people_verdicts": self._verdicts,
            "relations": dict(sorted(self._relations.items())),
            "accepted_relations": dict(sorted(self._accepted_relations.items())),
            "scores": [self._scores[tenth] for tenth in range(10)],
            "thresholds": sorted(self._thresholds),
            "models": sorted(self._models - {""}),
            "prompts": sorted(self._prompts - {""}),
        }


def _chunks(pairs: Iterator[list[Row]], most: int) -> Iterator[list[list[Row]]]:
    chunk: list[list[Row]] = []
    for pair in pairs:
        chunk.append(pair)
        if len(chunk) == most:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
