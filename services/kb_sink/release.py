"""One dataset release from one snapshot of the KB: the same snapshot gives the same bytes."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from services.common import datasets, kb, storage
from services.common.postgres import world_faults
from services.common.settings import Settings
from services.kb_sink.tasks import CONFIGS, split_of

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Release:
    """A published release."""

    release_id: str
    url: str
    manifest: dict[str, Any]
    manifest_digest: str


def make_release(settings: Settings) -> Release | None:
    """Make and publish a release of the KB as it is now; None when there is nothing to release.

    Raises:
        WorldFault: the database or the dataset storage is away.
    """
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        rows = list(kb.intentions(connection, kb.Query()))
        offsets = connection.execute(
            "SELECT topic, partition, next_offset FROM kb.offsets ORDER BY topic, partition"
        ).fetchall()
    if not rows:
        return None
    files, splits = _files([row for row in rows if row["accepted"] and row["text"]])
    newest = max(row["judged_at"] for row in rows)
    manifest = {
        "snapshot_at": newest.isoformat(),
        "intentions": len(rows),
        "accepted": sum(row["accepted"] for row in rows),
        "relations": dict(sorted(Counter(row["relation"] for row in rows).items())),
        "thresholds": sorted({row["threshold"] for row in rows}),
        "models": _distinct(rows, "extractor_model_a", "extractor_model_b", "generator_model", "filter_model"),
        "prompts": _distinct(rows, "extractor_prompt_a", "extractor_prompt_b", "generator_prompt", "filter_prompt"),
        "offsets": [{"topic": t, "partition": p, "next_offset": o} for t, p, o in offsets],
        "splits": splits,
    }
    files["README.md"] = _card(manifest).encode()
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in sorted(files.items())
    }
    release_id = f"{newest.astimezone(UTC):%Y%m%dT%H%M%SZ}-{datasets.fingerprint(manifest)}"
    manifest["release_id"] = release_id
    with storage.world_faults("datasets", settings.datasets_url):
        return _publish(settings, release_id, manifest, files)


def _files(kept: list[dict[str, Any]]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Parquet and JSONL of every configuration and split that has rows."""
    files: dict[str, bytes] = {}
    splits: list[dict[str, Any]] = []
    for config, (make, schema) in CONFIGS.items():
        made = list(make(kept))
        for split in _SPLITS:
            rows = [row for row in made if split_of(row["pair_id"]) == split]
            if not rows:
                continue
            table, sink = pa.Table.from_pylist(rows, schema), io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            files[f"{config}/{split}-00000.parquet"] = sink.getvalue()
            files[f"jsonl/{config}/{split}-00000.jsonl"] = b"".join(datasets.to_json(row) + b"\n" for row in rows)
            splits.append({"config": config, "split": split, "rows": len(rows), "bytes": len(sink.getvalue())})
    return files, splits


def _publish(settings: Settings, release_id: str, manifest: dict[str, Any], files: dict[str, bytes]) -> Release:
    """Write the files, the manifest last, then move the pointer: a reader never sees half a release."""
    store, root = datasets.open_store(settings.datasets_url)
    folder = f"{root}/{release_id}"
    for name, content in files.items():
        store.makedirs(f"{folder}/{name}".rsplit("/", 1)[0], exist_ok=True)
        store.pipe_file(f"{folder}/{name}", content)
    raw = datasets.to_json(manifest, indent=1)
    store.pipe_file(f"{folder}/{datasets.MANIFEST}", raw)
    partial = f"{root}/.{datasets.LATEST}.{release_id}"
    store.pipe_file(partial, release_id.encode())
    store.mv(partial, f"{root}/{datasets.LATEST}")
    finished = [release["release_id"] for release in datasets.releases(settings.datasets_url)]
    # Only one release is made at a time: a folder without a manifest is what a crash left.
    keep = {datasets.LATEST, *finished[-settings.release_keep :]}
    for path in store.ls(root, detail=False, refresh=True):
        if str(path).rstrip("/").rsplit("/", 1)[-1] not in keep:
            store.rm(path, recursive=True)
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    return Release(release_id, store.unstrip_protocol(folder), manifest, digest)


def _distinct(rows: list[dict[str, Any]], *names: str) -> list[str]:
    return sorted({row[name] for row in rows for name in names if row[name]})


def _card(manifest: dict[str, Any]) -> str:
    """The dataset card, with the configurations that `datasets.load_dataset` reads."""
    lines = ["---", "pretty_name: Mindstream purchase intentions", "configs:"]
    for config in CONFIGS:
        splits = [s["split"] for s in manifest["splits"] if s["config"] == config]
        if splits:
            lines += [f"- config_name: {config}", "  data_files:"]
            for split in splits:
                lines += [f"  - split: {split}", f"    path: {config}/{split}-*.parquet"]
    lines += [
        "---", "", "# Purchase intentions", "",
        "Why products are bought together, written by a vision-language model and judged by it in a customer's role.",
        "The method is MIND's (arXiv 2406.10701). Machine-made: check before you rely on it.", "",
        f"- Snapshot: {manifest['snapshot_at']}",
        f"- Intentions: {manifest['intentions']}, accepted: {manifest['accepted']}",
        f"- Thresholds: {', '.join(map(str, manifest['thresholds']))}",
        f"- Models: {', '.join(manifest['models'])}",
        f"- Prompts: {', '.join(manifest['prompts'])}", "",
        "| config | split | rows |", "| --- | --- | --- |",
        *(f"| {s['config']} | {s['split']} | {s['rows']} |" for s in manifest["splits"]), "",
        "A pair is in one split only. `manifest.json` has every file's sha256.", "",
    ]  # fmt: skip
    return "\n".join(lines)
