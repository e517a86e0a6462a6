"""A release becomes visible whole: its files, then its manifest, then the pointer to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common import datasets, storage
from services.common.settings import Settings


@dataclass(frozen=True)
class Release:
    """A published release."""

    release_id: str
    url: str
    manifest: dict[str, Any]
    manifest_digest: str
    #: Intentions that the KB had; a delta's manifest counts its own.
    kb_intentions: int


def publish(settings: Settings, folder: Path, manifest: dict[str, Any], kb_intentions: int) -> Release:
    """Copy the folder's files, write the manifest last, then move the pointer: a reader never sees half a release."""
    store, root = datasets.open_store(settings.datasets_url)
    release_id = manifest["release_id"]
    target = f"{root}/{release_id}"
    for name in manifest["files"]:
        storage.make_folder(store, f"{target}/{name}")
        store.put_file(str(folder / name), f"{target}/{name}")
    raw = datasets.to_json(manifest, indent=1)
    store.pipe_file(f"{target}/{datasets.MANIFEST}", raw)
    partial = f"{root}/.{datasets.LATEST}.{release_id}"
    store.pipe_file(partial, release_id.encode())
    store.mv(partial, f"{root}/{datasets.LATEST}")
    bases = {
        one["release_id"]: one.get("base", {}).get("release_id") for one in datasets.releases(settings.datasets_url)
    }
    # Of two with the same newest judgement, such as by two thresholds, this one is the newer.
    others = [one for one in bases if one != release_id]
    # Only one release is made at a time: a folder without a manifest is what a crash left.
    keep = {datasets.LATEST}
    for one in (release_id, *others[len(others) + 1 - settings.release_keep :]):
        # A delta is kept with all that it was made on.
        kept: str | None = one
        while kept and kept not in keep:
            keep.add(kept)
            kept = bases.get(kept)
    for path in store.ls(root, detail=False, refresh=True):
        if str(path).rstrip("/").rsplit("/", 1)[-1] not in keep:
            store.rm(path, recursive=True)
    return Release(release_id, store.unstrip_protocol(target), manifest, datasets.digest(raw), kb_intentions)
