"""Pictures of a release's counts, as SVG: the same counts give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

#: Their files, and what they show.
PLOTS = {"plots/relations.svg": "Kept (blue) and rejected of each relation", "plots/scores.svg": "Scores, P(yes)"}
_WIDTH, _LINE, _NAMES, _COUNTS, _TOP = 720, 22, 150, 150, 34
# A pair that people who see no red and green tell apart (Okabe and Ito).
_KEPT, _REJECTED, _SCORES = "#0072b2", "#e69f00", "#56b4e9"
#: Its name, its parts and their colours, and what stands behind it.
_Bar = tuple[str, Sequence[tuple[int, str]], str]


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write them below a release's folder."""
    kept = manifest["accepted_relations"]
    of_relations: list[_Bar] = [
        (name, ((kept.get(name, 0), _KEPT), (count - kept.get(name, 0), _REJECTED)), f"{kept.get(name, 0)} of {count}")
        for name, count in manifest["relations"].items()
    ]
    of_scores: list[_Bar] = [
        (f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}", ((count, _SCORES),), str(count))
        for tenth, count in enumerate(manifest["scores"])
    ]
    (folder / "plots").mkdir()
    for (name, title), bars in zip(PLOTS.items(), (of_relations, of_scores), strict=True):
        (folder / name).write_text(_bars(title, bars))


def _bars(title: str, bars: Sequence[_Bar]) -> str:
    """A bar a line, of parts one behind another; white below, so that dark pages show it too."""
    height = _TOP + _LINE * len(bars) + 10
    scale = (_WIDTH - _NAMES - _COUNTS) / max((sum(part for part, _ in parts) for _, parts, _ in bars), default=1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, parts, count) in enumerate(bars):
        top, left = _TOP + _LINE * number, float(_NAMES)
        lines.append(f'<text x="{_NAMES - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>')
        for part, colour in parts:
            width = part * scale
            lines.append(
                f'<rect x="{left:.1f}" y="{top + 2}" width="{width:.1f}" height="{_LINE - 6}" fill="{colour}"/>'
            )
            left += width
        lines.append(f'<text x="{left + 8:.1f}" y="{top + 14}">{escape(count)}</text>')
    return "\n".join([*lines, "</svg>", ""])
