"""Dataset releases: listed, and their files given out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from services.common import datasets
from services.common.settings import Settings
from services.common.storage import world_faults
from services.explorer.queries import Queries

_SECONDS = 10.0
_CHUNK = 262_144
_CARD = "README.md"


class Releases:
    """The releases on the dataset storage; what is there is asked again after some seconds."""

    def __init__(self, settings: Settings, queries: Queries) -> None:
        self._url = settings.datasets_url
        self._queries = queries
        self._lock = asyncio.Lock()
        self._found: tuple[float, list[dict[str, Any]]] | None = None

    async def newest_first(self) -> list[dict[str, Any]]:
        """Newest first.

        Raises:
            WorldFault: the storage or the database is away.
        """
        published = await self._queries.releases()
        return [
            {
                **{name: manifest[name] for name in ("release_id", "intentions", "accepted", "splits")},
                "published_at": published.get(manifest["release_id"]),
                "files": [{"name": name, **facts} for name, facts in sorted(manifest["files"].items())],
            }
            for manifest in reversed(await self._manifests())
        ]

    async def card(self, release: str) -> str:
        """A release's card as text; empty where there is none."""
        found = await self.file(release, _CARD)
        return b"".join([chunk async for chunk in found[1]]).decode("utf-8", "replace") if found else ""

    async def file(self, release: str, name: str) -> tuple[int, AsyncIterator[bytes]] | None:
        """A file that a manifest names: its size and its bytes; None for any other name.

        Raises:
            WorldFault: the storage is away.
        """
        manifest = next((one for one in await self._manifests() if one["release_id"] == release), None)
        if manifest is None or name not in manifest["files"]:
            return None
        return manifest["files"][name]["bytes"], self._bytes(f"{manifest['url']}/{name}")

    async def _manifests(self) -> list[dict[str, Any]]:
        async with self._lock:
            if self._found is None or time.monotonic() - self._found[0] > _SECONDS:
                self._found = time.monotonic(), await asyncio.to_thread(datasets.releases, self._url)
            return self._found[1]

    async def _bytes(self, url: str) -> AsyncIterator[bytes]:
        def opened() -> Any:
            with world_faults("datasets", url):
                files, path = datasets.open_store(url)
                return files.open(path, "rb")

        file = await asyncio.to_thread(opened)
        try:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk
        finally:
            file.close()
