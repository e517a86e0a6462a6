"""`mindstream kb ratings`: sheets for people to rate intentions on, and what comes of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.common import InputError, number, one_line_errors, print_json
from services.cli.kb import DataDirOption, JsonOption, connected
from services.cli.rating import agreement, sheet
from services.cli.rating.sheet import QUESTIONS, Sheet
from services.common.process import BAD_INPUT

app = typer.Typer(no_args_is_help=True, help="Have people rate intentions, and see whether they agree.")


@app.command()
@one_line_errors
def export(
    out: Annotated[Path, typer.Option(help="New file, CSV; a copy of it goes to each rater.")],
    sample: Annotated[int, typer.Option(help="Intentions.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Of the sample: the same KB and seed give the same sheet.")] = 1,
    by: Annotated[str, typer.Option(help="Stratified by relation, verdict, or nothing.")] = "relation",
    accepted: Annotated[bool, typer.Option("--accepted", help="What the filter kept, only.")] = False,
    with_verdict: Annotated[
        bool, typer.Option("--with-verdict", help="Show relation, score and verdict: the sheet is not blind.")
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """A sheet of intentions to rate. Example: kb ratings export --out sheet.csv --sample 200 --seed 1"""
    from services.cli.rating import sample as samples

    if by not in samples.STRATA:
        raise InputError(f"a sample is stratified by {', '.join(samples.STRATA)}, not by {by!r}")
    with connected(data_dir) as connection:
        rows = samples.sample(connection, sample, seed, by, accepted=accepted)
    if not rows:
        raise InputError("the KB holds no such intention yet")
    print(f"{sheet.write(rows, out, verdict=with_verdict)} intentions", file=sys.stderr)


@app.command("import")
@one_line_errors
def import_(
    sheets: Annotated[list[Path], typer.Argument(help="Rated sheets, one a rater.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Agreement of raters, and of the filter with them. Example: kb ratings import anna.csv ben.csv"""
    from services.cli.rating import sample as samples

    if len(set(sheets)) < len(sheets):
        raise InputError("a sheet is given twice: each is one rater's")
    try:
        raters = [sheet.read(path) for path in sheets]
    except sheet.NoSheet as error:
        raise InputError(str(error)) from None
    _refuse(raters)
    with connected(data_dir) as connection:
        kept = samples.kept(connection, {key for rater in raters for key in rater.places})
    for rater in raters:
        for key, place in rater.places.items():
            if key not in kept:
                rater.refuse(place, "the KB has no such intention")
    _refuse(raters)
    found = compared(raters, kept)
    if as_json:
        print_json(found)
    else:
        _print(found)


def compared(raters: Sequence[Sheet], kept: Mapping[sheet.Key, bool]) -> dict[str, Any]:
    """By question, how far raters agree, and how far the filter agrees with their majority on what is plausible."""
    questions = {}
    for question in QUESTIONS:
        units = {key: _ratings(raters, key, question) for key in kept}
        given = [rating for unit in units.values() for rating in unit]
        questions[question] = {
            "intentions": sum(bool(unit) for unit in units.values()),
            "ratings": len(given),
            "yes": sum(given) / len(given) if given else None,
            **_agreement(agreement.agreement(units.values())),
        }
    plausible = {key: _ratings(raters, key, QUESTIONS[0]) for key in kept}
    against = agreement.verdicts((kept[key], unit) for key, unit in plausible.items() if unit)
    return {
        "raters": {rater.name: sum(bool(ratings) for ratings in rater.ratings.values()) for rater in raters},
        "questions": questions,
        "filter": {
            **asdict(against),
            "precision": against.precision,
            "recall": against.recall,
            **_agreement(against.against),
        },
    }


def _agreement(found: agreement.Agreement) -> dict[str, float | None]:
    return {"agree": found.observed, "alpha": found.alpha}


def _ratings(raters: Sequence[Sheet], key: sheet.Key, question: str) -> list[bool]:
    given = (rater.ratings.get(key, {}).get(question) for rater in raters)
    return [rating for rating in given if rating is not None]


def _print(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(", ".join(f"{name}: {count} rated" for name, count in found["raters"].items()), highlight=False)
    table = Table("question", "intentions", "ratings", "yes", "agree", "alpha")
    for question, one in found["questions"].items():
        shares = (_percent(one["yes"]), _percent(one["agree"]), number(one["alpha"]))
        table.add_row(question, str(one["intentions"]), str(one["ratings"]), *shares)
    console.print(table)
    against = found["filter"]
    table = Table(f"by most raters {QUESTIONS[0]}", "yes", "no")
    table.add_row("kept", str(against["kept_right"]), str(against["kept_wrong"]))
    table.add_row("rejected", str(against["rejected_wrong"]), str(against["rejected_right"]))
    console.print(table)
    console.print(
        f"the filter: precision {_percent(against['precision'])}, recall {_percent(against['recall'])}, "
        f"agrees with most raters on {_percent(against['agree'])}, alpha {number(against['alpha'])}; "
        f"raters are even on {against['undecided']}",
        highlight=False,
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _refuse(raters: Sequence[Sheet]) -> None:
    wrong = [line for rater in raters for line in rater.wrong]
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise typer.Exit(BAD_INPUT)
