"""Make a release: the same snapshot of the KB and the same settings give the same bytes.

The KB is read twice. First its outline: which texts are held out, what distractors are drawn from, how often each
relation is kept. Then pair by pair, into the shards. What is held in memory does not grow with the KB, but for a number
for each held-out text; where near texts are folded, for one relation's texts; of a delta, for some numbers for each row
of its base, and the ids of its pairs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from services.common import datasets, storage
from services.common.errors import WorldFault
from services.common.leaks import key, leaks, text_key
from services.common.relations import RELATIONS, sentence
from services.common.settings import Settings
from services.kb_sink.release import card, plots, tasks
from services.kb_sink.release.base import Base, chosen
from services.kb_sink.release.distractors import POOL, Pool, Smallest
from services.kb_sink.release.near import Group
from services.kb_sink.release.publish import Release, publish
from services.kb_sink.release.selection import Selection
from services.kb_sink.release.shards import Shards, digests
from services.kb_sink.release.snapshot import Row, Snapshot, snapshot
from services.kb_sink.release.splits import SPLITS, Splits, digest, split_of

#: Pairs whose rows are made together.
_CHUNK = 200
_MODELS = ("extractor_model_a", "extractor_model_b", "generator_model", "filter_model")
_PROMPTS = ("extractor_prompt_a", "extractor_prompt_b", "generator_prompt", "filter_prompt")
_MADE_BY = itemgetter(*_MODELS, *_PROMPTS)


def make_release(settings: Settings, since: str = "") -> Release | None:
    """Make and publish a release of the KB as it is now; None when there is nothing to release.

    `since` is the id of a release: what it and its bases have is left out, and it is the base of this one.

    Raises:
        BaseError: no release can be made on that one.
        WorldFault: the database, the dataset storage or the disk for temporary files is away.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mindstream-release-") as made:
            folder = Path(made)
            base = Base(settings, since) if since else None
            with snapshot(settings.postgres_dsn.get_secret_value()) as kb:
                manifest, known = _write(kb, settings, folder, base)
            if not manifest:
                return None
            if leaking := list(leaks(folder.as_uri(), manifest, base.chain if base else ())):
                raise WorldFault("datasets", f"not published, since splits know of each other: {'; '.join(leaking)}")
            plots.write(folder, manifest)
            (folder / "README.md").write_text(card.card(manifest))
            manifest["files"] = digests(folder)
            newest = datetime.fromisoformat(manifest["snapshot_at"]).astimezone(UTC)
            manifest["release_id"] = f"{newest:%Y%m%dT%H%M%SZ}-{datasets.fingerprint(manifest)}"
            with storage.world_faults("datasets", settings.datasets_url):
                return publish(settings, folder, manifest, known)
    except OSError as error:
        raise WorldFault("datasets", f"{tempfile.gettempdir()}: {error}") from None


@dataclass
class _Outline:
    """What the first reading finds."""

    splits: Splits
    intentions: int = 0
    #: Of a delta, the pairs that have something new.
    pairs: set[str] = field(default_factory=set)
    #: Accepted intentions by relation.
    kept: Counter[str] = field(default_factory=Counter)
    #: Pairs that distractors are drawn from, by split.
    drawn: dict[str, Smallest] = field(default_factory=lambda: {split: Smallest(POOL) for split in SPLITS})


def _write(kb: Snapshot, settings: Settings, folder: Path, base: Base | None) -> tuple[dict[str, Any], int]:
    """Write all shards; the manifest so far, empty where nothing is new, and how many intentions the KB has."""
    selection = Selection(settings)
    splits = Splits(settings.release_split == "product", base.texts if base else {})
    outline = _outline(kb, _Outline(splits), selection, base)
    if settings.release_near:
        _fold(kb, outline, selection, base, settings.release_near)
    selection.balance(outline.kept)
    facts, left_out = _Facts(), Counter[str]()
    pools = {split: _pools(kb, outline, selection, split) for split in SPLITS}
    shards = {
        (config, split): Shards(folder, config, split, schema)
        for config, schema in tasks.SCHEMAS.items()
        for split in SPLITS
    }
    for chunk in _chunks(kb.pairs_of(sorted(outline.pairs), _CHUNK) if base else kb.pairs(), _CHUNK):
        by_split: dict[str, list[list[Row]]] = {split: [] for split in SPLITS}
        old = {row["intention_id"] for pair in chunk for row in pair if base and _has(base, row, selection)}
        for pair in chunk:
            new = [row for row in pair if row["intention_id"] not in old] if old else pair
            facts.saw(new)
            split = splits.of_pair(pair[0]["pair_id"], pair[0]["product_a"], pair[0]["product_b"])
            if split is None:
                left_out["products in two splits"] += len(new)
            else:
                by_split[split].append(pair)
        for split, pairs in by_split.items():
            for config, rows in _rows(pairs, split, splits, selection, pools[split], old, left_out).items():
                shards[config, split].write(rows)
    for product in kb.products() if facts.intentions else ():
        if (row := tasks.features(product)) and not (base and base.has_product(row["id"])):
            shards["features", split_of(row["product_id"])].write([row])
    written = [entry for entry in (one.close() for one in shards.values()) if entry["rows"]]
    if not facts.intentions or (base and not written):
        return {}, outline.intentions
    return {
        **facts.manifest(),
        "kind": "delta" if base else "full",
        **({"base": base.named, "snapshot_at": base.newer(facts.newest).isoformat()} if base else {}),
        "settings": chosen(settings),
        "left_out": {why: count for why, count in sorted(left_out.items()) if count},
        "offsets": [{"topic": t, "partition": p, "next_offset": o} for t, p, o in kb.offsets()],
        "splits": written,
    }, outline.intentions


def _outline(kb: Snapshot, outline: _Outline, selection: Selection, base: Base | None) -> _Outline:
    for intention, pair, product_a, product_b, relation, text, score, accepted in kb.outline():
        outline.intentions += 1
        split = outline.splits.of_pair(pair, product_a, product_b)
        if split is None or not text:
            continue
        said, kept = sentence(relation, text), selection.accepted(score, accepted)
        outline.splits.saw(split, said)
        if kept:
            outline.kept[relation] += 1
            outline.drawn[split].offer(pair)
        if base is None or outline.splits.published_elsewhere(split, said):
            continue
        if not base.has(intention, pair, said, score, kept):
            outline.pairs.add(pair)
    return outline


def _fold(kb: Snapshot, outline: _Outline, selection: Selection, base: Base | None, likeness: float) -> None:
    """Find what is near another text that stays; what the base has, stays."""
    found = []
    for relation in RELATIONS:
        groups: dict[tuple[str, bool], Group] = {}
        for intention, pair, product_a, product_b, _, text, score, accepted in kb.outline(relation.name):
            split, said = outline.splits.of_pair(pair, product_a, product_b), sentence(relation.name, text)
            if split is None or not text or outline.splits.known_elsewhere(split, said):
                continue
            kept = selection.accepted(score, accepted)
            known = base is not None and base.has(intention, pair, said, score, kept)
            groups.setdefault((split, kept), Group()).add(key(intention), -score - 2 * known, text)
        for (_, kept), group in groups.items():
            found.append(group.left_out(likeness))
            outline.kept[relation.name] -= len(found[-1]) * kept
    selection.fold(found)


def _has(base: Base, row: Row, selection: Selection) -> bool:
    kept = selection.accepted(row["score"], row["accepted"])
    return base.has(row["intention_id"], row["pair_id"], row["sentence"], row["score"], kept)


def _pools(kb: Snapshot, outline: _Outline, selection: Selection, split: str) -> tuple[Pool, Pool]:
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
    selection: Selection,
    pools: tuple[Pool, Pool],
    old: set[str],
    left_out: Counter[str],
) -> dict[str, list[dict[str, Any]]]:
    """Rows of some pairs of one split, by configuration, but for what only says again what `old` intentions say."""
    made: dict[str, list[dict[str, Any]]] = {"judgement": [], "preference": []}
    all_kept: list[Row] = []
    for pair in pairs:
        judged = []
        for row in _folded(pair, old, left_out):
            new = row["intention_id"] not in old
            if splits.known_elsewhere(split, row["sentence"]):
                left_out["text in another split"] += new
            elif selection.folded(row["intention_id"]):
                left_out["near a text that stays"] += new
            else:
                judged.append((row, selection.accepted(row["score"], row["accepted"])))
        kept = [row for row, accepted in judged if accepted and selection.goes_on(row["intention_id"], row["relation"])]
        rejected = [row for row, accepted in judged if not accepted]
        stays = {row["intention_id"] for row in kept} | old
        left_out["relation too frequent"] += sum(yes and row["intention_id"] not in stays for row, yes in judged)
        all_kept += kept
        made["judgement"] += tasks.judgement(judged)
        # What the old ones prefer by themselves is the same preference as before.
        before = [[row for row in rows if row["intention_id"] in old] for rows in (kept, rejected)] if old else [[], []]
        known = {row["id"] for row in tasks.preference(*before)}
        made["preference"] += [row for row in tasks.preference(kept, rejected) if row["id"] not in known]
    made["generation"] = list(tasks.generation(all_kept))
    made["intent-understand"] = list(tasks.understand(all_kept, pools[0]))
    made["intent-utilize"] = list(tasks.utilize(all_kept, pools[1]))
    return {config: [row for row in rows if row["id"] not in old] for config, rows in made.items()} if old else made


def _folded(pair: Sequence[Row], old: set[str], left_out: Counter[str]) -> Iterator[Row]:
    """A pair's intentions that say something, each sentence once: of old ones, then by the score, the first."""
    best: dict[int, Row] = {}
    for row in sorted(pair, key=lambda row: (row["intention_id"] not in old, -row["score"], row["intention_id"])):
        new = row["intention_id"] not in old
        if not row["text"]:
            left_out["empty"] += new
        elif best.setdefault(text_key(row["sentence"]), row) is not row:
            left_out["said before of the pair"] += new
    yield from sorted(best.values(), key=lambda row: str(row["intention_id"]))


class _Facts:
    """What the manifest says of the snapshot."""

    def __init__(self) -> None:
        self.intentions = self._accepted = self._verdicts = 0
        self._relations: Counter[str] = Counter()
        self._accepted_relations: Counter[str] = Counter()
        self._scores: Counter[int] = Counter()
        self._thresholds: set[float] = set()
        self._made_by: set[tuple[str, ...]] = set()
        self.newest = datetime.min.replace(tzinfo=UTC)

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
            self._made_by.add(_MADE_BY(row))
            self.newest = max(self.newest, row["judged_at"])

    def manifest(self) -> dict[str, Any]:
        """As the manifest says it."""
        return {
            "snapshot_at": self.newest.isoformat(),
            "intentions": self.intentions,
            "accepted": self._accepted,
            "people_verdicts": self._verdicts,
            "relations": dict(sorted(self._relations.items())),
            "accepted_relations": dict(sorted(self._accepted_relations.items())),
            "scores": [self._scores[tenth] for tenth in range(10)],
            "thresholds": sorted(self._thresholds),
            "models": sorted({name for made in self._made_by for name in made[: len(_MODELS)]} - {""}),
            "prompts": sorted({name for made in self._made_by for name in made[len(_MODELS) :]} - {""}),
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
