"""Headers whose names are no UTF-8: the broker takes them, and aiokafka would never get past one.

Its reader raises at such a record, at every start anew, and all that stands behind it in the partition waits for ever.
Here a batch that it stumbles over is read a second time, by its slower reader in Python, and such a record comes with
one header of ours in the place of its own (services/common/records.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher  # type: ignore[import-untyped]
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]
from aiokafka.record.util import decode_varint  # type: ignore[import-untyped]

from services.common.records import UNREADABLE

#: Of a batch: where its length stands, and how much of it comes before what is counted.
_LENGTH, _BEFORE = slice(8, 12), 12


def tolerate_any_names() -> None:
    """Have every consumer of this process read on."""
    fetcher.MemoryRecords = _Records


class _Records:
    """What was fetched of a partition, as `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._records, self._rest = MemoryRecords(data), memoryview(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        """The next batch; its bytes are kept beside it."""
        end = _BEFORE + int.from_bytes(self._rest[_LENGTH], "big")
        own, self._rest = self._rest[:end], self._rest[end:]
        return _Batch(self._records.next_batch(), own)


class _Batch:
    """A batch, and its bytes."""

    def __init__(self, batch: Any, own: memoryview) -> None:
        self._batch, self._own = batch, own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(list(_Tolerant(self._own)))


class _Tolerant(_DefaultRecordBatchPy):  # type: ignore[misc]
    """aiokafka's reader in Python."""

    _pos: int

    def _read_msg(self, *_: Any) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            return self._without_headers()

    def _without_headers(self) -> Any:
        """The record at the position, which the failed reading has not moved."""
        length, pos = decode_varint(self._buffer, self._pos)
        self._pos = pos + length
        _, pos = decode_varint(self._buffer, pos)  # Attributes, of which there are none.
        delta, pos = decode_varint(self._buffer, pos)
        ordinal, pos = decode_varint(self._buffer, pos)
        key, pos = self._bytes(pos)
        value, _ = self._bytes(pos)
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        at = self.max_timestamp if appended else self.first_timestamp + delta
        headers = [(UNREADABLE, b"")]
        return _DefaultRecordPy(self.base_offset + ordinal, at, self.timestamp_type, key, value, headers)

    def _bytes(self, pos: int) -> tuple[bytes | None, int]:
        size, pos = decode_varint(self._buffer, pos)
        return (bytes(self._buffer[pos : pos + size]), pos + size) if size >= 0 else (None, pos)
