"""Cursors: where a list goes on, as text that a client gives back as it got it.

A cursor holds ordering values only, and these go into statements as parameters; so it need not be signed, only looked
at: its form, its types, and that it is of this very list.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any

_MAX_CHARACTERS = 8192


class BadCursor(ValueError):
    """Not a cursor of this list."""

    def __init__(self) -> None:
        super().__init__("the cursor is none of this list: give back what `next` (or `position`) said, or leave it out")


def list_name(kind: str, *asked: Any) -> str:
    """A list's name: its kind, and a digest of what it was asked for."""
    return f"{kind}:{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}"


def seal(name: str, *values: Any) -> str:
    """A cursor of the list `name`."""
    return base64.urlsafe_b64encode(json.dumps([name, *values]).encode()).decode().rstrip("=")


def unseal(cursor: str, name: str, *types: type) -> list[Any]:
    """The values of a cursor, of these types.

    Raises:
        BadCursor: it is of another list, or no cursor at all.
    """
    try:
        if len(cursor) > _MAX_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
        if not isinstance(found, list) or found[:1] != [name] or len(found) != len(types) + 1:
            raise ValueError
        if not all(type(value) is kind for value, kind in zip(found[1:], types, strict=True)):
            raise ValueError
        for value in found[1:]:
            _check(value)
    except (ValueError, RecursionError):  # Those of JSON, Base64 and UTF-8 are among them.
        raise BadCursor from None
    return found[1:]


def _check(value: Any) -> None:
    """Raise where PostgreSQL could not take a value."""
    if isinstance(value, str):
        value.encode()
        if "\0" in value:
            raise ValueError
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
    elif not 0 <= value < 2**63:
        raise ValueError
