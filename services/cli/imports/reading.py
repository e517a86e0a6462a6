"""Rows of files of any size, one at a time, each with the place where reading goes on behind it.

JSON lines, CSV and TSV; plain, gzip or Zstandard. Places count the bytes of the unpacked file.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from services.cli.common import InputError

#: Longest line, and longest cell of CSV, in bytes: what stands in memory at once.
LONGEST = 8 * 2**20
_CHUNK = 2**20
_TOO_LONG = f"the line is longer than {LONGEST // 2**20} MiB"
_BOM = b"\xef\xbb\xbf"
#: What is written of a row that was refused.
_SHOWN = 2000


class Row(NamedTuple):
    """One row, or why there is none."""

    #: Number of its last line.
    line: int
    #: Bytes of the unpacked file up to its end.
    end: int
    value: dict[str, Any]
    #: Empty where there is a value.
    fault: str
    raw: bytes | Sequence[str]

    @property
    def shown(self) -> str:
        """The row as it stands in the file, cut after some thousand characters."""
        if isinstance(self.raw, bytes):
            return self.raw[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]
        return ",".join(self.raw).encode("utf-8", "replace").decode()[:_SHOWN]


@dataclass
class Reader:
    """An open file."""

    path: Path
    raw: BinaryIO
    unpacked: BinaryIO
    packed: bool

    def rows(self, offset: int = 0, line: int = 0) -> Iterator[Row]:
        """Rows from a place on, which is 0 or where a row ended.

        Raises:
            InputError: unreadable, damaged, or a CSV file without a header.
        """
        kind = _kind(self.path)
        try:
            if kind in (".csv", ".tsv"):
                yield from _csv(self, offset, line, "\t" if kind == ".tsv" else ",")
            else:
                self.skip(offset)
                yield from _json(self.unpacked, offset, line)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None

    def skip(self, count: int) -> None:
        """Go on `count` bytes further; what is packed must be unpacked for it."""
        if not self.packed:
            self.unpacked.seek(count, io.SEEK_CUR)
            return
        while count > 0 and (read := len(self.unpacked.read(min(count, _CHUNK)))):
            count -= read

    @property
    def read(self) -> int:
        """Bytes of the file itself that were read."""
        return self.raw.tell()


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a file by the ending of its name.

    Raises:
        InputError: not readable.
    """
    try:
        raw = path.open("rb", buffering=_CHUNK)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    with raw:
        if path.suffix == ".gz":
            unpacked: Any = io.BufferedReader(gzip.GzipFile(fileobj=raw), _CHUNK)
        elif path.suffix in (".zst", ".zstd"):
            import pyarrow as pa

            unpacked = io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), _CHUNK)
        else:
            unpacked = raw
        yield Reader(path, raw, unpacked, unpacked is not raw)


def digest(path: Path) -> str:
    """What tells a file from another one: its size, and a hash of its first and last MiB.

    Raises:
        InputError: not readable.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.sha256(file.read(_CHUNK))
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - _CHUNK))
            found.update(file.read(_CHUNK))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return f"{size}-{found.hexdigest()[:32]}"


def _kind(path: Path) -> str:
    """The name's ending below that of packing."""
    return Path(path.stem).suffix.lower() if path.suffix in (".gz", ".zst", ".zstd") else path.suffix.lower()


def _rest(file: BinaryIO, raw: bytes) -> int:
    """Bytes behind the part of a line that was read, which are passed over; 0 where it was all of it."""
    count = 0
    while len(raw) == LONGEST and not raw.endswith(b"\n"):
        raw = file.readline(LONGEST)
        count += len(raw)
    return count


def _json(file: BinaryIO, offset: int, line: int) -> Iterator[Row]:
    readline, loads = file.readline, orjson.loads
    while raw := readline(LONGEST):
        line += 1
        offset += len(raw)
        if rest := _rest(file, raw):
            offset += rest
            yield Row(line, offset, {}, _TOO_LONG, raw[: 4 * _SHOWN])
            continue
        if raw.isspace():
            continue
        try:
            value = loads(raw.removeprefix(_BOM) if line == 1 else raw)
        except ValueError as error:
            yield Row(line, offset, {}, f"not JSON: {error}", raw)
            continue
        if type(value) is dict:
            yield Row(line, offset, value, "", raw)
        else:
            yield Row(line, offset, {}, "not an object", raw)


class _Lines:
    """Lines of text for the csv module, counted. What is no UTF-8 passes as lone surrogates, to be seen behind it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = self.count = 0
        #: A line was too long, and is cut.
        self.cut = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(LONGEST)
        if not raw:
            raise StopIteration
        first, rest = not self.offset, _rest(self._file, raw)
        self.offset += len(raw) + rest
        self.cut = self.cut or rest > 0
        self.count += 1
        return (raw.removeprefix(_BOM) if first else raw).decode("utf-8", "surrogateescape")


def _csv(reader: Reader, offset: int, line: int, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)
    lines = _Lines(reader.unpacked)
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        names = next(rows, [])
    except csv.Error as error:
        raise InputError(f"{reader.path}: no CSV: {error}") from None
    if not any(name.strip() for name in names):
        raise InputError(f"{reader.path}: no header names the columns")
    if offset:
        reader.skip(offset - lines.offset)
        lines.offset, lines.count = offset, line
    while True:
        lines.cut = False
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(lines.count, lines.offset, {}, f"no CSV: {error}", b"")
            continue
        if cells:
            fault = _TOO_LONG if lines.cut else _wrong(names, cells)
            value = {} if fault else dict(zip(names, cells, strict=True))
            yield Row(lines.count, lines.offset, value, fault, cells)


def _wrong(names: list[str], cells: list[str]) -> str:
    if len(cells) != len(names):
        return f"{len(cells)} cells for {len(names)} columns"
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return ""
