"""Dataset releases as they lie on storage: found, listed, verified."""

from __future__ import annotations

import hashlib
import json
from typing import Any

MANIFEST, LATEST = "manifest.json", "latest"


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON in one form only, so that the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent).encode()


def fingerprint(manifest: dict[str, Any]) -> str:
    """First 8 hex digits of the sha256 of a manifest without its `release_id`, which ends with them."""
    rest = {name: value for name, value in manifest.items() if name != "release_id"}
    return hashlib.sha256(to_json(rest)).hexdigest()[:8]


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    return files, str(path).rstrip("/")


def releases(url: str) -> list[dict[str, Any]]:
    """Manifests of all finished releases below `url`, oldest first, each with its `url`."""
    files, root = open_store(url)
    if not files.exists(root):
        return []
    found = []
    for path in sorted(str(entry) for entry in files.ls(root, detail=False)):
        manifest = f"{path.rstrip('/')}/{MANIFEST}"
        if files.exists(manifest):
            found.append({**json.loads(files.cat_file(manifest)), "url": files.unstrip_protocol(path)})
    return found


def latest(url: str) -> dict[str, Any] | None:
    """The release that the pointer names; None before the first."""
    files, root = open_store(url)
    if not files.exists(f"{root}/{LATEST}"):
        return None
    named = files.cat_file(f"{root}/{LATEST}").decode().strip()
    return next((release for release in releases(url) if release["release_id"] == named), None)


def verify(url: str) -> list[str]:
    """What is wrong with the release in the folder `url`; empty when every file is as its manifest says."""
    files, root = open_store(url)
    try:
        manifest = json.loads(files.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError:
        return [f"{url} has no {MANIFEST}"]
    except ValueError:
        return [f"{url}/{MANIFEST} is not JSON"]
    wrong = []
    if not str(manifest.get("release_id", "")).endswith(f"-{fingerprint(manifest)}"):
        wrong.append(f"{MANIFEST} is not what its release id says")
    for name, facts in manifest.get("files", {}).items():
        try:
            content = files.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            wrong.append(f"{name} is not what the manifest says")
    known = {f"{root}/{name}" for name in (*manifest.get("files", {}), MANIFEST)}
    return wrong + [f"{path} is not in the manifest" for path in files.find(root) if path not in known]
