"""Rating sheets: CSV that goes through people's spreadsheets and comes back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What raters are asked of each intention (MIND and FolkScope, arXiv 2211.08316, ask the same): whether it may be why
#: somebody buys the two together, and whether it is what most would say.
QUESTIONS = ("plausible", "typical")
#: Columns that say which intention it is.
KEY = ("pair_id", "intention_id")
COLUMNS = (*KEY, "title_a", "title_b", "sentence", *QUESTIONS, "comment")
#: Not on a blind sheet.
VERDICT = ("relation", "score", "accepted")
_ANSWERS = {
    **dict.fromkeys(("yes", "y", "1", "true"), True),
    **dict.fromkeys(("no", "n", "0", "false"), False),
    "": None,
}
#: A cell that begins so is a formula to a spreadsheet, and may do what its writer likes (OWASP, CSV Injection): a
#: product's title is anybody's text.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
#: What makes it text. Texts that begin with it get one more, so that taking one away always gives the text.
_GUARD = "'"
_DELIMITERS = (",", ";", "\t")
#: A pair and an intention.
Key = tuple[str, str]


class NoSheet(Exception):
    """A file is no rating sheet; one line says why."""


@dataclass
class Sheet:
    """One rater's sheet."""

    name: str
    #: By intention and question; what was left empty is not there.
    ratings: dict[Key, dict[str, bool]] = field(default_factory=dict)
    #: Where each intention stands, as spreadsheets number rows: the header is 1.
    places: dict[Key, int] = field(default_factory=dict)
    #: What is wrong, a line a row.
    wrong: list[str] = field(default_factory=list)

    def refuse(self, place: int, why: str) -> None:
        """Say what is wrong with a row."""
        self.wrong.append(f"{self.name}: row {place}: {why}")


def write(rows: Iterable[Mapping[str, Any]], path: Path, *, verdict: bool) -> int:
    """A sheet of intentions (as `services.common.kb.intentions` gives them) in a new file; how many.

    In UTF-8 with a mark, lines ended as in RFC 4180: what Excel, LibreOffice and Numbers all read.

    Raises:
        FileExistsError: there is one already, perhaps with ratings.
    """
    columns, count = (*COLUMNS, *(VERDICT if verdict else ())), 0
    with path.open("x", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for count, row in enumerate(rows, 1):  # noqa: B007  (counted)
            writer.writerow([_guarded(row.get(name, "")) for name in columns])
    return count


def read(path: Path) -> Sheet:
    """A sheet that came back; rows that cannot be read are in `wrong`.

    Raises:
        NoSheet: it is no CSV in UTF-8 with the columns of a sheet, or nothing is rated in it.
        OSError: there is no such file.
    """
    sheet = Sheet(path.name)
    rows = _rows(path)
    try:
        names = [name.strip().lower() for name in next(rows)]
        for place, cells in enumerate(rows, 2):
            if any(cell.strip() for cell in cells):
                _take(sheet, place, names, cells)
    except csv.Error as error:
        raise NoSheet(f"{path.name}: no CSV: {error}") from None
    if not sheet.wrong and not any(sheet.ratings.values()):
        raise NoSheet(f"{path.name}: no row is rated")
    return sheet


def _rows(path: Path) -> Iterator[list[str]]:
    content = path.read_bytes()
    if content.startswith(b"PK"):
        raise NoSheet(f"{path.name}: a workbook; save it as CSV (UTF-8)")
    try:
        text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        raise NoSheet(f"{path.name}: not UTF-8; save it as CSV (UTF-8)") from None
    if "\0" in text:
        raise NoSheet(f"{path.name}: no text; save it as CSV (UTF-8)")
    for delimiter in _DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next(rows, [])
        except csv.Error:
            continue
        if {*KEY, *QUESTIONS} <= {name.strip().lower() for name in header}:
            return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    raise NoSheet(f"{path.name}: the first row does not name the columns {', '.join((*KEY, *QUESTIONS))}")


def _take(sheet: Sheet, place: int, names: list[str], cells: list[str]) -> None:
    """Take a row's ratings; spreadsheets leave out empty cells at its end."""
    if any(cell.strip() for cell in cells[len(names) :]):
        sheet.refuse(place, f"{len(cells)} cells, where the first row has {len(names)}")
        return
    row = dict.fromkeys(names, "") | dict(zip(names, cells, strict=False))
    key = (_unguarded(row[KEY[0]]), _unguarded(row[KEY[1]].strip()))
    if not all(key):
        sheet.refuse(place, f"{' or '.join(KEY)} is empty")
        return
    if key in sheet.places:
        sheet.refuse(place, f"the same intention as in row {sheet.places[key]}")
        return
    sheet.places[key] = place
    said = {question: row[question].strip().lower() for question in QUESTIONS}
    unknown = [f"{question} is {text!r}" for question, text in said.items() if text not in _ANSWERS]
    if unknown:
        sheet.refuse(place, f"{' and '.join(unknown)}, not yes, no or empty")
        return
    answers = {question: _ANSWERS[text] for question, text in said.items()}
    sheet.ratings[key] = {question: answer for question, answer in answers.items() if answer is not None}


def _guarded(value: Any) -> str:
    text = str(value)
    return _GUARD + text if text.startswith((*_FORMULA, _GUARD)) else text


def _unguarded(text: str) -> str:
    return text.removeprefix(_GUARD)
