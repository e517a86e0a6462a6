"""Rows and their places: whatever the file holds, each row or its fault, and any place goes on where it ended."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.common import InputError
from services.cli.imports import reading
from services.cli.imports.reading import Row, opened

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
JSON_LINE = st.dictionaries(CELL, st.none() | st.booleans() | st.integers(-9, 9) | CELL, max_size=3).map(
    lambda row: json.dumps(row).encode()
)
JUNK = st.sampled_from([b"", b" ", b"{", b"[1]", b"7", b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"{'a': 1}", b"[" * 5000])


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


def rows(path: Path, offset: int = 0, line: int = 0) -> list[Row]:
    with opened(path) as reader:
        return list(reader.rows(offset, line))


def going_on(name: str, content: bytes) -> list[Row]:
    """All rows, after every place was gone on from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        found = rows(path)
        for number, row in enumerate(found):
            assert rows(path, row.end, row.line) == found[number + 1 :]
    return found


@given(st.lists(JSON_LINE | JUNK, max_size=8), st.sampled_from(sorted(PACKED)), st.sampled_from([b"\n", b"\r\n"]))
def test_every_line_is_an_object_or_a_fault(lines: list[bytes], ending: str, newline: bytes) -> None:
    found = going_on(f"rows.jsonl{ending}", PACKED[ending](newline.join(lines)))
    said = [line for line in lines if line.strip()]
    assert len(found) == len(said)
    for row, line in zip(found, said, strict=True):
        try:
            expected = json.loads(line)
            json.dumps(expected, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            expected = None
        assert (row.value, bool(row.fault)) == ((expected, False) if isinstance(expected, dict) else ({}, True))


@given(st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=6), st.sampled_from(sorted(PACKED)))
def test_cells_with_newlines_and_quotes_are_one_row(table: list[list[str]], ending: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], *table])
    found = going_on(f"rows.csv{ending}", PACKED[ending](text.getvalue().encode()))
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline="")))[1:]
    assert [row.value for row in found] == [
        dict(zip("ab", cells, strict=True)) if len(cells) == 2 else {} for cells in expected
    ]
    assert [bool(row.fault) for row in found] == [len(cells) != 2 for cells in expected]


def test_what_is_no_utf8_or_has_no_end_is_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 64)
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tb\n1\t2\n\xff\t2\n" + b"x" * 200 + b"\t2\n3\t4\n")
    found = rows(path)
    assert [row.value for row in found if not row.fault] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert [(row.line, row.fault[:12]) for row in found if row.fault] == [(3, "not UTF-8"), (4, "the line is ")]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": "' + b"x" * 1000 + b'"}\n{"a": 2}')
    assert [(row.line, row.value) for row in rows(path)] == [(1, {"a": 1}), (2, {}), (3, {"a": 2})]
    assert "longer than" in rows(path)[1].fault


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_damaged_file_gives_the_rows_before_the_damage(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    lines = b"".join(b'{"a": %d, "b": "%0100d"}\n' % (number * 2_654_435_761 % 2**32, 0) for number in range(60_000))
    packed = PACKED[ending](lines)
    path.write_bytes(packed[: len(packed) // 2])
    found: list[Row] = []
    with opened(path) as reader, pytest.raises(InputError, match=path.name):
        found.extend(reader.rows())
    assert len(found) > 1000
    assert not any(row.fault for row in found)


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.jsonl", None), ("rows.jsonl.gz", b"no gzip"), ("rows.jsonl.zst", b"no zstd"), ("rows.csv", b"")],
)
def test_an_unreadable_file_is_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        rows(tmp_path / name)


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    before = reading.digest(path)
    assert reading.digest(path) == before
    path.write_bytes(b"x" * 2_999_999 + b"y")
    assert reading.digest(path) != before
