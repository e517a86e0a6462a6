"""`mindstream datasets`: releases of fine-tuning data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import PROBLEM, InputError, fail, one_line_errors, print_json, settings_for
from services.common.process import AWAY

app = typer.Typer(no_args_is_help=True, help="List, make and verify dataset releases.")
DataDirOption = Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")]


@app.command("list")
@one_line_errors
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False, data_dir: DataDirOption = None
) -> None:
    """Finished releases, oldest first."""
    from services.common import datasets

    found = datasets.releases(settings_for(data_dir).datasets_url)
    if as_json:
        print_json(found)
        return
    for release in found:
        rows = sum(split["rows"] for split in release["splits"])
        print(f"{release['release_id']}  {rows} rows of {release['accepted']} accepted intentions  {release['url']}")


@app.command()
@one_line_errors
def release(data_dir: DataDirOption = None) -> None:
    """Make a release of the KB as it is now; prints its URL."""
    settings_for(data_dir)
    # The sink's room makes releases; commands ask it as a process of its own.
    done = subprocess.run([sys.executable, "-m", "services.kb_sink.releases", "--once"], capture_output=True, text=True)
    if done.returncode:
        fail(done.stderr.strip().splitlines()[-1], AWAY)
    print(done.stdout.strip())


@app.command()
@one_line_errors
def verify(
    url: Annotated[str, typer.Argument(help="Folder of a release; the latest one where it is missing.")] = "",
    data_dir: DataDirOption = None,
) -> None:
    """Compare every file of a release with its manifest; exit code 1 where one differs."""
    from services.common import datasets

    if not url:
        newest = datasets.latest(settings_for(data_dir).datasets_url)
        if newest is None:
            fail("there is no release yet", PROBLEM)
        url = newest["url"]
    try:
        datasets.open_store(url)
    except (ValueError, ImportError) as error:  # No such kind of storage, or its driver is not installed.
        raise InputError(f"{url}: {error}") from None
    wrong = datasets.verify(url)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise typer.Exit(PROBLEM)
    print(f"{url}: every file is as its manifest says")
