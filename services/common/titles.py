"""Titles as people read them."""

from __future__ import annotations

import html

from services.common.records import has_control_characters, invalid


def readable(title: str) -> str:
    """A title without HTML's entities, which shops' feeds hold (`6&quot; Boot`), and without space around it."""
    try:
        return html.unescape(title).strip()
    except ValueError:  # An entity's number of thousands of digits: it names no character.
        return title.strip()


def checked(title: str, max_chars: int) -> str:
    """A title as people read it, if it is one.

    Raises:
        EventFault: empty, longer than `max_chars`, or with control characters.
    """
    title = readable(title)
    if not title:
        raise invalid("title is empty")
    if len(title) > max_chars:
        raise invalid(f"title is {len(title)} characters long; at most {max_chars}")
    if has_control_characters(title):
        raise invalid("title holds control characters")
    return title
