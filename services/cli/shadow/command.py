"""`mindstream shadow`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import DATA_DIR, InputError, one_line_errors, print_json, settings_for

app = typer.Typer(no_args_is_help=True, help="Try another filter on a share of the co-buys; nothing counts of it.")


@app.command()
@one_line_errors
def run(
    model: Annotated[str, typer.Option(help="Checkpoint on trial: a Hub id or a folder; else the same one.")] = "",
    prompt: Annotated[str, typer.Option(help="Prompt on trial: a version, or a file <version>.toml.")] = "",
    share: Annotated[float, typer.Option(help="Share of the co-buys that is judged.", min=0, max=1)] = 0.1,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Run a shadow filter and its model server on this machine until Ctrl-C. Example: shadow run --model my-model"""
    from services.cli.shadow import running
    from services.common import kafka, topics
    from services.common.errors import WorldFault

    if not (model or prompt):
        raise InputError("what is on trial? --model or --prompt, or both")
    if not share:
        raise InputError("--share 0 judges nothing")
    if prompt.endswith(".toml") and not Path(prompt).is_file():
        raise InputError(f"{prompt}: no such file")
    settings = settings_for(data_dir)
    needed = {topic.name(settings): settings.topic_partitions for topic in (topics.CANDIDATES, topics.SHADOWED)}
    if trouble := kafka.topics_trouble(settings, needed):
        raise WorldFault("kafka", trouble)
    logs = (data_dir or DATA_DIR) / "logs"
    running.run(model, prompt, share, logs, lambda line: print(line, flush=True))


@app.command()
@one_line_errors
def compare(
    last: Annotated[
        int, typer.Option(help="Of the shadow's judgements, the last so many a partition.", min=1)
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Its verdicts beside those that count: agreement, kappa, shift, cost. Example: shadow compare --last 1000"""
    from services.cli.shadow import beside
    from services.common import kafka, topics
    from services.common.errors import WorldFault

    settings = settings_for(data_dir)
    read = {topic.name(settings): 0 for topic in (topics.JUDGED, topics.SHADOWED)}
    if trouble := kafka.topics_trouble(settings, read):
        raise WorldFault("kafka", trouble)
    found = beside.compare(settings, last)
    if as_json:
        print_json(found)
    else:
        beside.show(found)
