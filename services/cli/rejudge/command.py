"""`mindstream kb rejudge`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.common import InputError, one_line_errors, print_json, settings_for


@one_line_errors
def rejudge(
    model: Annotated[str, typer.Option(help="Only what this filter model has judged; else whichever did.")] = "",
    prompt: Annotated[str, typer.Option(help="Only what was judged with this prompt version, as filter/v1.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing: say what would be, by filter.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run of the same selection stopped.")] = False,
    ahead: Annotated[
        int, typer.Option(help="Messages that may wait for the filter before more are sent; 0: any number.", min=0)
    ] = 100,
    position: Annotated[Path, typer.Option(help="File in which it stands how far it is.")] = Path(
        "mindstream-rejudge.json"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Have the filter judge what is in the KB once more; nothing is generated again (docs/rollout.md).

    Example: kb rejudge --model mind@sha256:0123456789ab --dry-run
    """
    from services.cli.kb import connected
    from services.cli.progress import shown
    from services.cli.rejudge import sending, stored
    from services.common import kafka, topics
    from services.common.errors import WorldFault

    settings, which = settings_for(data_dir), stored.Which(model, prompt)
    with connected(data_dir) as connection:
        with connection.transaction():
            found = stored.filters(connection, which)
            # Where a run of this selection is gone on with, all may be judged again.
            if not found and (model or prompt) and not (resume and position.exists()):
                known = ", ".join(map(_name, stored.filters(connection, stored.Which()))) or "nothing"
                raise InputError(f"nothing is judged by {_name(_asked(which))}: the KB has {known}")
        if dry_run:
            _say(found, as_json)
            return
        name = topics.AGAIN.name(settings)
        if trouble := kafka.topics_trouble(settings, {name: settings.topic_partitions}):
            raise WorldFault("kafka", trouble)
        # Which KB: a position is of no use in another. A hash, for a DSN may hold a password.
        dsn = hashlib.sha256(settings.postgres_dsn.get_secret_value().encode()).hexdigest()[:12]
        of = {"topic": name, "database": dsn, "model": model, "prompt": prompt}
        at = sending.position(position, of, resume=resume)
        with shown() as show:
            total = sum(one["intentions"] for one in found) if not at.pairs else 0
            run = sending.Run(connection, which, settings, at, position, ahead, _progress(at, total, show))
            run.run()
    if as_json:
        print_json({"pairs": at.pairs, "intentions": at.intentions, "topic": name})
    else:
        print(f"{at.pairs:,} pairs with {at.intentions:,} intentions are sent to {name} (how far: mindstream status)")


def _asked(which: Any) -> dict[str, str]:
    return {"filter_model": which.model, "filter_prompt": which.prompt}


def _name(one: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (one["filter_model"], one["filter_prompt"]))) or "nobody"


def _progress(at: Any, total: int, show: Callable[[str], None]) -> Callable[[int], None]:
    began, before = time.monotonic(), at.intentions

    def progress(waiting: int) -> None:
        rate = (at.intentions - before) / max(1e-9, time.monotonic() - began)
        share = f"{at.intentions / total:4.0%} " if total else ""
        show(f"{share}{at.pairs:,} pairs, {at.intentions:,} intentions sent, {rate:,.0f}/s, {waiting} waiting")

    return progress


def _say(found: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for one in found:
        print(
            f"{_name(one)}: {one['pairs']:,} pairs, {one['intentions']:,} intentions, "
            f"{one['accepted'] / one['intentions']:.0%} kept"
        )
    print(f"{sum(one['intentions'] for one in found):,} intentions would be sent")
