"""Dataset releases as they lie on storage: found, listed, verified."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from services.common.leaks import leaks
from services.common.storage import world_faults

_log = logging.getLogger(__name__)
MANIFEST, LATEST = "manifest.json", "latest"
_LINE = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


class BaseError(ValueError):
    """A release cannot be read with what it was made on, or none can be made on it; one line for people."""


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON in one form only, so that the same value gives the same bytes."""
    encoder = _LINE if indent is None else json.JSONEncoder(ensure_ascii=False, sort_keys=True, indent=indent)
    return encoder.encode(value).encode()


def fingerprint(manifest: dict[str, Any]) -> str:
    """First 8 hex digits of the sha256 of a manifest without its `release_id`, which ends with them."""
    rest = {name: value for name, value in manifest.items() if name != "release_id"}
    return hashlib.sha256(to_json(rest)).hexdigest()[:8]


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    # Some keep listings, and other processes write here too.
    files.invalidate_cache()
    return files, str(path).rstrip("/")


def releases(url: str) -> list[dict[str, Any]]:
    """Manifests of all finished releases below `url`, oldest first, each with its `url`.

    Raises:
        WorldFault: the storage is away.
    """
    with world_faults("datasets", url):
        files, root = open_store(url)
        if not files.exists(root):
            return []
        paths = sorted(str(entry).rstrip("/") for entry in files.ls(root, detail=False))
        found = [(path, _manifest(files, f"{path}/{MANIFEST}")) for path in paths]
        return [{**manifest, "url": files.unstrip_protocol(path)} for path, manifest in found if manifest]


def _manifest(files: Any, path: str) -> dict[str, Any]:
    """A manifest; empty where there is none, or only what a crash left of one."""
    if not files.exists(path):
        return {}
    try:
        manifest = json.loads(files.cat_file(path))
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or "release_id" not in manifest:
        _log.warning("%s is not a manifest: its release counts as unfinished", path)
        return {}
    return manifest


def manifest(url: str) -> dict[str, Any]:
    """The manifest of the release in the folder `url`, and the `url`; empty where there is none.

    Raises:
        WorldFault: the storage is away.
    """
    with world_faults("datasets", url):
        files, root = open_store(url)
        found = _manifest(files, f"{root}/{MANIFEST}")
        return {**found, "url": url} if found else {}


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two manifests say otherwise, by name: (old, new), None where one says nothing; files aside."""
    flat = [dict(_flat(one)) for one in (old, new)]
    return {
        name: (flat[0].get(name), flat[1].get(name))
        for name in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(name) != flat[1].get(name)
    }


def _flat(manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in manifest.items():
        if name == "splits":
            yield from ((f"rows of {one['config']}, {one['split']}", one["rows"]) for one in value)
        elif name in ("relations", "accepted_relations", "left_out", "settings"):
            yield from ((f"{name.replace('_', ' ')}: {key}", inner) for key, inner in value.items())
        elif name not in ("files", "url", "offsets"):
            yield name.replace("_", " "), value


def newest_id(url: str) -> str:
    """The release that the pointer names, whatever became of its files; empty before the first.

    Raises:
        WorldFault: the storage is away.
    """
    with world_faults("datasets", url):
        files, root = open_store(url)
        if not files.exists(f"{root}/{LATEST}"):
            return ""
        return str(files.cat_file(f"{root}/{LATEST}").decode().strip())


def latest(url: str) -> dict[str, Any] | None:
    """The release that the pointer names; None before the first.

    Raises:
        WorldFault: the storage is away.
    """
    named = newest_id(url)
    return next((release for release in releases(url) if release["release_id"] == named), None)


def verify(url: str) -> list[str]:
    """What is wrong with the release in the folder `url`; empty when every file is as its manifest says.

    Raises:
        WorldFault: the storage is away.
    """
    with world_faults("datasets", url):
        return list(_wrong(url))


def bases(url: str, manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """URL and manifest of each release that a delta was made on, nearest first; none of a full one.

    Raises:
        BaseError: one is missing or not what it was.
        WorldFault: the storage is away.
    """
    folder = url.rstrip("/").rsplit("/", 1)[0]
    while base := manifest.get("base"):
        name = base["release_id"]
        url = f"{folder}/{name}"
        with world_faults("datasets", url):
            files, root = open_store(url)
            path = f"{root}/{MANIFEST}"
            raw = files.cat_file(path) if files.exists(path) else None
        if raw is None:
            raise BaseError(f"base {name} is missing")
        if digest(raw) != base["manifest"]:
            raise BaseError(f"base {name} is not what it was: its {MANIFEST} has changed")
        manifest = json.loads(raw)
        yield url, manifest


def digest(raw: bytes) -> str:
    """The sha256 of a manifest's bytes, as events and deltas name it."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def _wrong(url: str) -> Iterator[str]:
    files, root = open_store(url)
    try:
        manifest = json.loads(files.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError:
        yield f"{url} has no {MANIFEST}"
        return
    except ValueError:
        yield f"{url}/{MANIFEST} is not JSON"
        return
    if not str(manifest.get("release_id", "")).endswith(f"-{fingerprint(manifest)}"):
        yield f"{MANIFEST} is not what its release id says"
    wrong = list(_wrong_files(files, root, manifest))
    chain: list[tuple[str, dict[str, Any]]] = []
    try:
        for base, its_manifest in bases(url, manifest):
            its_files, its_root = open_store(base)
            wrong += [
                f"base {its_manifest['release_id']}: {line}" for line in _wrong_files(its_files, its_root, its_manifest)
            ]
            chain.append((base, its_manifest))
    except BaseError as error:
        wrong.append(str(error))
    yield from wrong
    if not wrong and "settings" in manifest:  # Before splits were by product no such setting was written.
        yield from leaks(url, manifest, chain)
    known = {f"{root}/{name}" for name in (*manifest.get("files", {}), MANIFEST)}
    yield from (f"{path} is not in the manifest" for path in files.find(root) if path not in known)


def _wrong_files(files: Any, root: str, manifest: dict[str, Any]) -> Iterator[str]:
    for name, facts in manifest.get("files", {}).items():
        if wrong := _differs(files, f"{root}/{name}", facts["sha256"]):
            yield f"{name} {wrong}"


def _differs(files: Any, path: str, sha256: str) -> str:
    """What is wrong with a file; empty where it has this digest."""
    try:
        with files.open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    return "" if found == sha256 else "is not what the manifest says"
