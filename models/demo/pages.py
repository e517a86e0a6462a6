"""Pages that people write and programs complete: tables between two marks."""

from __future__ import annotations

from pathlib import Path


class NoMarks(Exception):
    """A page has no place for a table; one line says which marks it lacks."""


def write_into(page: Path, name: str, writer: str, text: str) -> None:
    """Replace what stands between the marks `<!-- NAME: written by WRITER -->` and `<!-- end of NAME -->`.

    Raises:
        NoMarks: the page has them not.
        OSError: there is no such page.
    """
    before, after = around(page, name, writer)
    page.write_text(before + text + after, "utf-8")


def around(page: Path, name: str, writer: str) -> tuple[str, str]:
    """What stands before and behind, with the marks; raises as above."""
    begin, end = f"<!-- {name}: written by {writer} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise NoMarks(f"{page} has no lines {begin.strip()} and {end.strip()}")
    return before + begin, end + after
