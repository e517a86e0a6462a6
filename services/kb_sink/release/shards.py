"""Rows into Parquet and JSONL shards, a bounded number at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

#: Rows that wait for their row group, and rows of a shard.
GROUP_ROWS, SHARD_ROWS = 5_000, 100_000
_LINE = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class Shards:
    """The shards of one configuration and split, below a folder."""

    def __init__(self, folder: Path, config: str, split: str, schema: pa.Schema) -> None:
        self.config, self.split = config, split
        self._folder, self._schema = folder, schema
        self._waiting: list[dict[str, Any]] = []
        self._parquet: pq.ParquetWriter | None = None
        self._jsonl: IO[bytes] | None = None
        self._in_shard = 0
        self.rows = self.shards = self.parquet_bytes = 0

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take rows up."""
        self._waiting += rows
        while len(self._waiting) >= GROUP_ROWS:
            self._flush(GROUP_ROWS)

    def close(self) -> dict[str, Any]:
        """Write what waits; the split's entry in the manifest."""
        if self._waiting:
            self._flush(len(self._waiting))
        self._end()
        return {"config": self.config, "split": self.split, "rows": self.rows, "bytes": self.parquet_bytes}

    def _flush(self, count: int) -> None:
        rows, self._waiting = self._waiting[:count], self._waiting[count:]
        if self._parquet is None or self._jsonl is None:
            self._begin()
        assert self._parquet is not None
        assert self._jsonl is not None
        lines = b"".join(orjson.dumps(row, option=_LINE) for row in rows)
        self._jsonl.write(lines)
        self._parquet.write_table(_table(lines, self._schema))
        self.rows += count
        self._in_shard += count
        if self._in_shard >= SHARD_ROWS:
            self._end()

    def _begin(self) -> None:
        parquet, jsonl = (self._folder / name for name in self._names())
        for path in (parquet, jsonl):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._parquet = pq.ParquetWriter(parquet, self._schema, compression="zstd")
        self._jsonl = jsonl.open("wb")

    def _end(self) -> None:
        if self._parquet is None or self._jsonl is None:
            return
        self._parquet.close()
        self._jsonl.close()
        self.parquet_bytes += (self._folder / self._names()[0]).stat().st_size
        self._parquet = self._jsonl = None
        self._in_shard = 0
        self.shards += 1

    def _names(self) -> tuple[str, str]:
        shard = f"{self.config}/{self.split}-{self.shards:05d}"
        return f"{shard}.parquet", f"jsonl/{shard}.jsonl"


def _table(lines: bytes, schema: pa.Schema) -> pa.Table:
    """Rows of JSON lines. `pa.Table.from_pylist` makes the same of the rows themselves, in several times the time."""
    # One block, one thread: the same row group everywhere, and no row is too long for a block.
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines))
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    return pyarrow.json.read_json(pa.BufferReader(lines), read, parse)


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """sha256 and size of every file below a folder, by its name there."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = {"sha256": sha256, "bytes": path.stat().st_size}
    return found
