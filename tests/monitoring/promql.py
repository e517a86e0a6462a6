"""Names of metrics in PromQL."""

from __future__ import annotations

import re

#: What is no metric where it stands in an expression alone.
_WORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "inf",
    "nan",
}
#: Strings and braces, label lists, ranges.
_ASIDE = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\[[^\]]*\]|\"[^\"]*\"")
#: Made by Prometheus itself.
_ITS_OWN = {"up", "ALERTS"}


def metrics(expression: str) -> set[str]:
    """Metrics that an expression names, Prometheus' own aside."""
    bare = _ASIDE.sub(" ", expression)
    found = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return {name for name in found if name not in _WORDS} - _ITS_OWN
