"""Titles as people read them."""

from __future__ import annotations

import html


def readable(title: str) -> str:
    """A title without HTML's entities, which shops' feeds hold (`6&quot; Boot`), and without space around it."""
    try:
        return html.unescape(title).strip()
    except ValueError:  # An entity's number of thousands of digits: it names no character.
        return title.strip()
