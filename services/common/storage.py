"""Storage by fsspec URL (file://, s3://, …): its errors as the world's fault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from services.common.errors import WorldFault


@contextlib.contextmanager
def world_faults(kind: str, place: str) -> Iterator[None]:
    """Turn whatever a file system raises into the world's fault; `kind` is media or datasets, `place` for people.

    Not OSError alone: the clients below fsspec let errors of their own through (s3fs those of botocore).
    """
    try:
        yield
    except WorldFault:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise WorldFault(kind, f"{place}: {type(error).__name__}: {line}") from None


def make_folder(files: Any, path: str) -> None:
    """Make the folder of a file, where the file system has folders; object stores would make a bucket of it."""
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
