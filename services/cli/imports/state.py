"""What an import remembers: how far Kafka has acknowledged, and the products it has seen. One SQLite file.

Both are written in one transaction, and only after the acknowledgement: whatever is killed, what is read again is what
may not have arrived. Memory is SQLite's page cache, however many products there are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from services.cli.common import InputError

_CACHE_KIB = 64 * 1024
#: Rows written to SQLite at once.
_BATCH = 1000
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS position (value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, title TEXT, also TEXT) WITHOUT ROWID;
"""
#: Products that were seen with those of their listed ones that were, too. Where both list each other, the smaller id
#: counts.
_PAIRS = """
    SELECT a.id, json_group_array(DISTINCT other.value)
    FROM products a, json_each(a.also) other, products b
    WHERE a.id > ? AND b.id = other.value AND b.id <> a.id
      AND (a.id < b.id OR NOT EXISTS (SELECT 1 FROM json_each(b.also) own WHERE own.value = a.id))
    GROUP BY a.id ORDER BY a.id
"""


@dataclass
class Position:
    """How far an import is. All of it is JSON."""

    #: What it is of: source, options, files. Another import may not go on here.
    of: dict[str, Any] = field(default_factory=dict)
    file: int = 0
    offset: int = 0
    line: int = 0
    #: All files are read; pairs are sent up to this product.
    read: bool = False
    after: str = ""
    done: bool = False
    rows: int = 0
    refused: int = 0
    refused_bytes: int = 0
    #: Co-buys that rows list, with whomever.
    listed: int = 0
    sent: dict[str, int] = field(default_factory=dict)


class State:
    """The file; one import at a time works with it."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level="IMMEDIATE")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.commit()
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise InputError(f"{path}: another import is at work here (or give this one its own --work)") from None
            raise InputError(f"{path}: {error}") from None
        self._products: list[tuple[str, str | None, str | None]] = []

    def position(self) -> Position | None:
        """What was saved last; None where nothing was."""
        row = self._connection.execute("SELECT value FROM position").fetchone()
        return Position(**json.loads(row[0])) if row else None

    def clear(self) -> None:
        """Forget all."""
        self._connection.execute("DELETE FROM position")
        self._connection.execute("DELETE FROM products")
        self._connection.commit()

    def save(self, position: Position) -> None:
        """Remember this position, and what was added before it."""
        self._write()
        self._connection.execute("DELETE FROM position")
        self._connection.execute("INSERT INTO position VALUES (?)", [json.dumps(asdict(position))])
        self._connection.commit()

    def add(self, product: str, *, title: str | None = None, also: Iterable[str] = ()) -> None:
        """See a product; the latest one of an id counts."""
        listed = list(also)
        self._products.append((product, title, orjson.dumps(listed).decode() if listed else None))
        if len(self._products) == _BATCH:
            self._write()

    def title(self, product: str) -> str | None:
        """Title of a product that was seen."""
        self._write()
        row = self._connection.execute("SELECT title FROM products WHERE id = ?", [product]).fetchone()
        return row[0] if row else None

    def pairs(self, after: str) -> Iterator[tuple[str, list[str]]]:
        """Products behind `after`, in order, with all that each is a pair with: both were seen, a pair comes once."""
        self._write()
        for product, others in self._connection.execute(_PAIRS, [after]):
            yield product, orjson.loads(others)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _write(self) -> None:
        if self._products:
            self._connection.executemany("INSERT OR REPLACE INTO products VALUES (?, ?, ?)", self._products)
            self._products.clear()
