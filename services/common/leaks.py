"""What the splits of a dataset release know of each other, and must not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns that name what may be in one split only, by what `settings.split` of the manifest says; lists are unpacked.
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "product": {"product": ("product_id", "product_a", "product_b"), "pair": ("pair_id",), "text": ("text",)},
    "pair": {"pair": ("pair_id",)},
}
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """A text's words, without case and punctuation."""
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=20_000)
def text_key(text: str) -> int:
    """Texts that differ in case and punctuation alone have one key."""
    return key(" ".join(words(text)))


def leaks(url: str, manifest: dict[str, Any], bases: Sequence[tuple[str, dict[str, Any]]] = ()) -> Iterator[str]:
    """A line for each kind of thing that two splits have in common, over all configurations.

    `bases` are what a delta was made on, URL and manifest: they are read as one with it. What is held out is
    remembered, a number each; train, which is most, is only looked at.
    """
    held: dict[tuple[str, str], set[int]] = {}
    kinds = _COLUMNS[manifest["settings"]["split"]]
    columns = {name: kind for kind, names in kinds.items() for name in names}
    found: dict[tuple[str, str, str], set[int]] = {}
    for split in ("test", "validation", "train"):
        others = [other for other in ("test", "validation") if other != split]
        for name, values in _values([(url, manifest), *bases], split, columns):
            kind = columns[name]
            keys = {text_key(value) if kind == "text" else key(value) for value in values}
            if split != "train":
                held.setdefault((split, kind), set()).update(keys)
            for other in others:
                if common := keys & held.get((other, kind), set()):
                    found.setdefault((kind, other, split), set()).update(common)
    for (kind, one, other), keys in sorted(found.items()):
        yield f"{other} has {len(keys)} {kind}{'s' * (len(keys) > 1)} of {one}"


def batches(
    url: str, manifest: dict[str, Any], config: str, split: str, columns: Iterable[str]
) -> Iterator[pa.RecordBatch]:
    """Some columns, those that are there, of a configuration's split, a bounded number of rows at a time.

    Raises:
        OSError: the storage is away; `world_faults` is for the caller to set.
    """
    import fsspec
    import pyarrow.parquet as pq

    if not any((one["config"], one["split"]) == (config, split) for one in manifest["splits"]):
        return
    files, root = fsspec.core.url_to_fs(url)
    for path in sorted(files.glob(f"{root}/{config}/{split}-*.parquet")):
        with files.open(path, "rb") as file:
            shard = pq.ParquetFile(file)
            yield from shard.iter_batches(columns=[name for name in columns if name in shard.schema_arrow.names])


def _values(
    releases: Sequence[tuple[str, dict[str, Any]]], split: str, columns: Iterable[str]
) -> Iterator[tuple[str, list[str]]]:
    """By column, what stands in a few thousand rows, each once."""
    for url, manifest in releases:
        for config in sorted({one["config"] for one in manifest["splits"]}):
            for batch in batches(url, manifest, config, split, columns):
                for name in batch.schema.names:
                    yield name, batch.column(name).unique().to_pylist()


def key(value: str) -> int:
    """64 bits of a hash of a text, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big")
