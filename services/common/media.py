"""The media store: normalised pictures by digest, on any fsspec URL (file://, s3://, …)."""

from __future__ import annotations

import hashlib
import re
import uuid
from contextlib import AbstractContextManager
from typing import Any

from services.common.storage import make_folder, world_faults

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(content: bytes) -> str:
    """ "sha256:" and 64 hex digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(text: str) -> bool:
    """Whether text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None


class MediaStore:
    """Content-addressed: the same bytes always have the same place, so writing again is harmless."""

    def __init__(self, url: str) -> None:
        import fsspec

        self._files: Any
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    def put(self, content: bytes) -> str:
        """Keep bytes; their digest.

        Raises:
            WorldFault: the storage is away.
        """
        digest = digest_of(content)
        path = self._path(digest)
        with self._world_faults():
            if not self._files.exists(path):
                make_folder(self._files, path)
                # Nobody may ever read half a file: write beside it, then move.
                partial = f"{path}.{uuid.uuid4().hex}"
                self._files.pipe_file(partial, content)
                self._files.mv(partial, path)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Raises:
            KeyError: not there, or damaged.
            WorldFault: the storage is away.
        """
        if not is_digest(digest):
            raise KeyError(digest)
        content = self._read(digest)
        if content is None or digest_of(content) != digest:
            raise KeyError(digest)
        return content

    def has(self, digest: str) -> bool:
        """Whether the digest is there.

        Raises:
            WorldFault: the storage is away.
        """
        with self._world_faults():
            return is_digest(digest) and bool(self._files.exists(self._path(digest)))

    def _read(self, digest: str) -> bytes | None:
        with self._world_faults():
            try:
                content: bytes = self._files.cat_file(self._path(digest))
            except FileNotFoundError:
                return None
            return content

    def _world_faults(self) -> AbstractContextManager[None]:
        return world_faults("media", "media store")

    def _path(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return f"{self._root}/{name[:2]}/{name[2:4]}/{name}"
