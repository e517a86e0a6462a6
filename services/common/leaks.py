"""What the splits of a dataset release know of each other, and must not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

#: Columns that name what may be in one split only, by what `settings.split` of the manifest says; lists are unpacked.
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "product": {"product": ("product_id", "product_a", "product_b"), "pair": ("pair_id",), "text": ("text",)},
    "pair": {"pair": ("pair_id",)},
}
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """A text's words, without case and punctuation."""
    return _WORD.findall(text.casefold())


def text_key(text: str) -> int:
    """Texts that differ in case and punctuation alone have one key."""
    return _key(" ".join(words(text)))


def leaks(url: str, manifest: dict[str, Any]) -> Iterator[str]:
    """A line for each kind of thing that two splits have in common, over all configurations.

    What is held out is remembered, a number each; train, which is most, is only looked at.
    """
    held: dict[tuple[str, str], set[int]] = {}
    kinds = _COLUMNS[manifest["settings"]["split"]]
    found: dict[tuple[str, str, str], set[int]] = {}
    for split in ("test", "validation", "train"):
        others = [other for other in ("test", "validation") if other != split]
        for kind, values in _values(url, manifest, split, kinds):
            keys = {text_key(value) if kind == "text" else _key(value) for value in values}
            if split != "train":
                held.setdefault((split, kind), set()).update(keys)
            for other in others:
                if common := keys & held.get((other, kind), set()):
                    found.setdefault((kind, other, split), set()).update(common)
    for (kind, one, other), keys in sorted(found.items()):
        yield f"{other} has {len(keys)} {kind}{'s' * (len(keys) > 1)} of {one}"


def _values(
    url: str, manifest: dict[str, Any], split: str, kinds: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str, list[str]]]:
    """By kind, what stands in a few thousand rows, each once."""
    import fsspec
    import pyarrow.parquet as pq

    names = {name: kind for kind, columns in kinds.items() for name in columns}
    for config in sorted({one["config"] for one in manifest["splits"] if one["split"] == split}):
        files, root = fsspec.core.url_to_fs(url)
        for path in sorted(files.glob(f"{root}/{config}/{split}-*.parquet")):
            with files.open(path, "rb") as file:
                shard = pq.ParquetFile(file)
                columns = [name for name in names if name in shard.schema_arrow.names]
                for batch in shard.iter_batches(columns=columns):
                    for name in columns:
                        yield names[name], batch.column(name).unique().to_pylist()


def _key(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big")
