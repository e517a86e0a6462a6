"""The filter measured against people's thumbs (docs/explorer.md), which the sink keeps in the KB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import psycopg

from services.cli.common import number
from services.cli.rating.agreement import verdicts
from services.common.postgres import world_faults
from services.common.relations import RELATIONS

_JUDGED = """
    SELECT i.relation, i.score, i.accepted, f.up, f.down
    FROM (
        SELECT pair_id, intention_id, count(*) FILTER (WHERE up) AS up, count(*) FILTER (WHERE NOT up) AS down
        FROM kb.feedback GROUP BY pair_id, intention_id
    ) f JOIN kb.intentions i USING (pair_id, intention_id)
"""
_PEOPLE = "SELECT count(DISTINCT who) FROM kb.feedback"
#: Relation, score, whether the filter kept it, people for it and against it.
Judged = tuple[str, float, bool, int, int]


def agreement(connection: psycopg.Connection[Any], threshold: float | None) -> dict[str, Any]:
    """The filter's verdicts, or those that it would give at a threshold, against the majority of people."""
    with world_faults():
        rows = connection.execute(_JUDGED).fetchall()
        people = connection.execute(_PEOPLE).fetchone()
    return {"people": people[0] if people else 0, "threshold": threshold, **compared(rows, threshold)}


def compared(rows: Sequence[Judged], threshold: float | None) -> dict[str, Any]:
    """All in all, and of each relation that somebody has judged something of."""
    by_relation = {one.name: [row for row in rows if row[0] == one.name] for one in RELATIONS}
    return {
        "verdicts": sum(up + down for *_, up, down in rows),
        "filter": _figures(rows, threshold),
        "relations": {name: _figures(found, threshold) for name, found in by_relation.items() if found},
    }


def _figures(rows: Sequence[Judged], threshold: float | None) -> dict[str, Any]:
    found = verdicts(
        (accepted if threshold is None else score >= threshold, [True] * up + [False] * down)
        for _, score, accepted, up, down in rows
    )
    return {
        "n": found.decided,
        "agreement": found.agreeing,
        "kappa": found.kappa,
        "precision": found.precision,
        "recall": found.recall,
        **asdict(found),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    at = "as judged" if found["threshold"] is None else f"at {found['threshold']:g}"
    print(
        f"verdicts: {found['verdicts']}; people: {found['people']}; intentions on which these are even: "
        f"{found['filter']['undecided']}; the filter {at}"
    )
    table = Table("relation", "n", "agree", "kappa", "precision", "recall")
    for name, one in {"all": found["filter"], **found["relations"]}.items():
        shares = [number(one[key]) for key in _SHARES]
        table.add_row(name, str(one["n"]), *shares)
    Console().print(table)


_SHARES = ("agreement", "kappa", "precision", "recall")
