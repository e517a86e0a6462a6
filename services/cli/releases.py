"""`mindstream datasets`: releases of fine-tuning data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from services.cli.common import PROBLEM, InputError, fail, one_line_errors, print_json, settings_for
from services.common.process import AWAY, BAD_INPUT

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="List, make, verify and compare dataset releases.")
UrlArgument = Annotated[str, typer.Argument(help="Folder of a release; the latest one where it is missing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
DataDirOption = Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")]


@app.command("list")
@one_line_errors
def list_(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Finished releases, oldest first."""
    from services.common import datasets

    found = datasets.releases(settings_for(data_dir).datasets_url)
    if as_json:
        print_json(found)
        return
    for release in found:
        rows = sum(split["rows"] for split in release["splits"])
        delta = f"  delta of {release['base']['release_id']}" if "base" in release else ""
        print(f"{release['release_id']}  {rows} rows of {release['accepted']} accepted  {release['url']}{delta}")


@app.command()
@one_line_errors
def release(
    since: Annotated[str, typer.Option(help="A release, by its id or folder: make a delta of what it has not.")] = "",
    data_dir: DataDirOption = None,
) -> None:
    """Make a release of the KB as it is now; prints its URL."""
    settings_for(data_dir)
    named = since.rstrip("/").rsplit("/", 1)[-1]
    # The sink's room makes releases; commands ask it as a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "services.kb_sink.releases", "--once", "--since", named], capture_output=True, text=True
    )
    if done.returncode:
        fail(done.stderr.strip().splitlines()[-1], BAD_INPUT if done.returncode == BAD_INPUT else AWAY)
    print(done.stdout.strip())


@app.command()
@one_line_errors
def verify(url: UrlArgument = "", data_dir: DataDirOption = None) -> None:
    """Compare a release's files with its manifest, and its splits with each other; exit code 1 where one is wrong."""
    from services.common import datasets

    url = url or _newest(data_dir)["url"]
    wrong = _asked(url, datasets.verify)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise typer.Exit(PROBLEM)
    print(f"{url}: every file is as its manifest says")


@app.command()
@one_line_errors
def stats(url: UrlArgument = "", as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Rows by configuration and split, and what was kept of each relation."""
    from rich.console import Console
    from rich.table import Table

    manifest = _manifest(url) if url else _newest(data_dir)
    if as_json:
        print_json({name: value for name, value in manifest.items() if name != "files"})
        return
    rows = {(one["config"], one["split"]): one["rows"] for one in manifest["splits"]}
    splits = list(dict.fromkeys(split for _, split in rows))
    table = Table("configuration", *splits)
    for config in dict.fromkeys(config for config, _ in rows):
        table.add_row(config, *(f"{rows.get((config, split), 0):,}" for split in splits))
    relations = Table("relation", "intentions", "accepted")
    for relation, count in manifest["relations"].items():
        relations.add_row(relation, f"{count:,}", f"{manifest.get('accepted_relations', {}).get(relation, 0):,}")
    console = Console()
    for shown in (manifest["release_id"], table, relations):
        console.print(shown, highlight=False)
    for why, count in manifest.get("left_out", {}).items():
        console.print(f"left out, {why}: {count:,}", highlight=False)


@app.command()
@one_line_errors
def diff(
    old: Annotated[str, typer.Argument(help="Folder of a release.")],
    new: Annotated[str, typer.Argument(help="Folder of another; the latest one where it is missing.")] = "",
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """What a release has otherwise than another: counts, models, prompts, thresholds, settings."""
    from rich.console import Console
    from rich.table import Table

    from services.common import datasets

    changed = datasets.differences(_manifest(old), _manifest(new) if new else _newest(data_dir))
    if as_json:
        print_json({name: {"old": before, "new": after} for name, (before, after) in changed.items()})
        return
    table = Table("of", "old", "new")
    for name, (before, after) in changed.items():
        table.add_row(name, *("" if value is None else str(value) for value in (before, after)))
    Console().print(table if changed else "the releases are the same")


def _newest(data_dir: Path | None) -> dict[str, Any]:
    from services.common import datasets

    newest = datasets.latest(settings_for(data_dir).datasets_url)
    if newest is None:
        fail("there is no release yet", PROBLEM)
    return newest


def _manifest(url: str) -> dict[str, Any]:
    from services.common import datasets

    manifest = _asked(url, datasets.manifest)
    if not manifest:
        raise InputError(f"{url} is no release: it has no manifest that can be read")
    return manifest


def _asked(url: str, ask: Callable[[str], T]) -> T:
    """What is asked of a URL that a person has given."""
    from services.common import datasets

    try:
        datasets.open_store(url)
    except (ValueError, ImportError) as error:  # No such kind of storage, or its driver is not installed.
        raise InputError(f"{url}: {error}") from None
    return ask(url)
