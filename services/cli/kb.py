"""`mindstream kb`: look into the knowledge base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from models.demo import NOTICE, speaks_in
from services.cli.common import InputError, one_line_errors, print_json, settings_for
from services.cli.exports import FORMATS

app = typer.Typer(no_args_is_help=True, help="Query, count and export purchase intentions.")
DataDirOption = Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


@contextmanager
def connected(data_dir: Path | None) -> Iterator[Any]:
    """A connection to the KB's database."""
    import psycopg

    from services.common.errors import WorldFault
    from services.common.postgres import world_faults

    dsn = settings_for(data_dir).postgres_dsn.get_secret_value()
    try:
        with world_faults(), psycopg.connect(dsn, connect_timeout=5) as connection:
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        raise WorldFault("database", "the database holds no KB, or an older one (run: mindstream migrate)") from None


@app.command()
@one_line_errors
def query(
    product: Annotated[str, typer.Option(help="Product id on either side.")] = "",
    pair: Annotated[str, typer.Option(help="Pair id, A|B.")] = "",
    relation: Annotated[str, typer.Option(help="Relation, such as UsedFor.")] = "",
    min_score: Annotated[float, typer.Option(help="Least score.", min=0, max=1)] = 0.0,
    accepted: Annotated[bool, typer.Option("--accepted", help="What the filter kept, only.")] = False,
    limit: Annotated[int, typer.Option(help="Most rows.", min=1)] = 20,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Intentions by product, pair, relation or score, best first. Example: kb query --product B00002N5EX --accepted"""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from services.common import kb
    from services.common.relations import BY_NAME

    if relation and relation not in BY_NAME:
        raise InputError(f"no relation {relation!r}: one of {', '.join(BY_NAME)}")
    asked = kb.Query(product, pair, relation, min_score, accepted, limit)
    with connected(data_dir) as connection:
        rows = list(kb.intentions(connection, asked, by_score=True))
    if as_json:
        print_json(rows)
        return
    table = Table("score", "kept", "first", "second", "because")
    for row in rows:
        kept = "yes" if row["accepted"] else "no"
        # Brackets in a shop's titles are no markup.
        said = Text(row["title_a"][:40]), Text(row["title_b"][:40]), Text(row["sentence"][:100])
        table.add_row(f"{row['score']:.2f}", kept, *said)
    Console().print(table)
    if any(speaks_in(row["generator_model"]) for row in rows):
        print(NOTICE)


@app.command()
@one_line_errors
def stats(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Counts, and per relation what the filter keeps."""
    from rich.console import Console
    from rich.table import Table

    from services.common import kb

    with connected(data_dir) as connection:
        found = kb.stats(connection)
    if as_json:
        print_json(found)
        return
    print(f"{found['pairs']} pairs, {found['products']} products, {found['intentions']} intentions")
    table = Table("relation", "intentions", "kept", "mean score")
    for row in found["relations"]:
        table.add_row(row["relation"], str(row["intentions"]), str(row["accepted"]), f"{row['mean_score']:.2f}")
    Console().print(table)


@app.command()
@one_line_errors
def agreement(
    threshold: Annotated[
        float | None, typer.Option(help="Score from which the filter would keep; else as it has judged.", min=0, max=1)
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """The filter against people's thumbs, all in all and by relation. Example: kb agreement --threshold 0.6"""
    from services.cli import people

    with connected(data_dir) as connection:
        found = people.agreement(connection, threshold)
    if as_json:
        print_json(found)
    else:
        people.show(found)


def export_to(connection: Any, path: Path | None, form: str = "jsonl") -> int:
    """All intentions in a fixed order, in a form of `exports.FORMATS`; how many."""
    from services.common import kb

    with path.open("wb") if path else nullcontext(sys.stdout.buffer) as file:
        return FORMATS[form](kb.intentions(connection, kb.Query()), file)


@app.command()
@one_line_errors
def export(
    out: Annotated[Path | None, typer.Option(help="File; standard output where it is missing.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="jsonl, parquet, ntriples or jsonld (docs/export.md).")
    ] = "jsonl",
    data_dir: DataDirOption = None,
) -> None:
    """Every intention with full provenance. Example: kb export --format parquet --out kb.parquet"""
    if form not in FORMATS:
        raise InputError(f"no format {form!r}: one of {', '.join(FORMATS)}")
    with connected(data_dir) as connection:
        count = export_to(connection, out, form)
    print(f"{count} intentions", file=sys.stderr)
