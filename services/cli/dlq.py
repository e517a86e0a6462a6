"""`mindstream dlq`: what was set aside, why, and the way back."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from mindstream.events.v1.dead_letter_pb2 import DeadLetterReason

from services.cli.common import InputError, one_line_errors, print_json, settings_for
from services.common.errors import printable, reason_label
from services.common.settings import Settings

if TYPE_CHECKING:
    from services.common.dead_letter_queue import Letter, Place

app = typer.Typer(no_args_is_help=True, help="Dead letters: list by reason, show decoded, replay when mended, purge.")
DataDirOption = Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
TopicOption = Annotated[str, typer.Option(help="Only of this topic, such as cobuys.")]
ReasonOption = Annotated[str, typer.Option(help="Only with this reason, such as unknown_product.")]
OffsetOption = Annotated[list[int] | None, typer.Option(help="Only the letter at this offset; may be repeated.")]

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, do nothing.")]


def _chosen(
    settings: Settings, topic: str, reason: str, offsets: list[int] | None = None, *, waiting: bool = False
) -> Iterator[Letter]:
    from services.common import dead_letter_queue as dlq

    reasons = [reason_label(value) for value in DeadLetterReason.values()]
    if reason and reason not in reasons:
        raise InputError(f"no reason {reason!r}: one of {', '.join(sorted(reasons))}")
    known = dlq.queues(settings)
    if topic and topic not in {queue.topic.base for queue in known}:
        raise InputError(f"no topic {topic!r}: one of {', '.join(sorted({queue.topic.base for queue in known}))}")
    for queue in known:
        if topic in ("", queue.topic.base):
            for letter in dlq.letters(settings, queue):
                fits = reason in ("", letter.reason) and (not offsets or letter.record.offset in offsets)
                if fits and not (waiting and letter.replayed):
                    yield letter


@app.command("list")
@one_line_errors
def list_(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """How many letters wait, by topic, stage and reason."""
    from rich.console import Console
    from rich.table import Table

    counts: Counter[tuple[str, str, str]] = Counter()
    replayed: Counter[tuple[str, str, str]] = Counter()
    for letter in _chosen(settings_for(data_dir), "", ""):
        key = (letter.queue.topic.base, letter.queue.group, letter.reason)
        counts[key] += not letter.replayed
        replayed[key] += letter.replayed
    if as_json:
        names = ("topic", "stage", "reason")
        print_json(
            [{**dict(zip(names, k, strict=True)), "waiting": n, "replayed": replayed[k]} for k, n in counts.items()]
        )
        return
    table = Table("topic", "stage", "reason", "waiting", "replayed")
    for key, count in sorted(counts.items()):
        table.add_row(*key, str(count), str(replayed[key]))
    Console().print(table if counts else "no dead letters")


@app.command()
@one_line_errors
def show(
    topic: TopicOption = "",
    reason: ReasonOption = "",
    offset: OffsetOption = None,
    limit: Annotated[int, typer.Option(help="Most letters.", min=1)] = 10,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Letters decoded, with where they stood and why they are here."""
    found: list[dict[str, Any]] = []
    for letter in _chosen(settings_for(data_dir), topic, reason, offset):
        if len(found) == limit:
            break
        found.append(_described(letter))
    if as_json:
        print_json(found)
        return
    for one in found:
        state = " (replayed)" if one["replayed"] else ""
        print(f"{one['queue']}/{one['offset']}{state}: {one['reason']}: {printable(one['message'])}")
        if one["cut_from_bytes"] is not None:
            print(f"  cut: the event was {one['cut_from_bytes']} bytes; replay needs --edit")
        print(f"  stood at {printable(one['origin'])}, tried {one['attempts']} times, set aside {one['at']}")
        print(f"  {printable(json.dumps(one['event'], ensure_ascii=False))[:2000]}")


def _described(letter: Letter) -> dict[str, Any]:
    facts, value = letter.facts, letter.record.value
    event = letter.decoded()
    return {
        "queue": letter.queue.name,
        "offset": letter.record.offset,
        "key": (letter.record.key or b"").decode("utf-8", "backslashreplace"),
        "origin": f"{facts.topic}/{facts.partition}/{facts.offset}",
        "stage": facts.group,
        "reason": letter.reason,
        "message": facts.message,
        "error_class": facts.error_class,
        "attempts": facts.attempts,
        "service_version": facts.service_version,
        "at": facts.at.ToJsonString(),
        "replayed": letter.replayed,
        "cut_from_bytes": letter.cut_from,
        "event": value[:1000].decode("utf-8", "backslashreplace") if event is None else event,
    }


@app.command()
@one_line_errors
def replay(
    topic: TopicOption = "",
    reason: ReasonOption = "",
    offset: OffsetOption = None,
    edit: Annotated[
        str,
        typer.Option(
            help="Command that reads the event as JSON (undecodable: its bytes) and prints it mended, as JSON."
        ),
    ] = "",
    dry_run: DryRunOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Send letters back to where they stood, each at most once. At least one of --topic, --reason, --offset is needed.

    Example: dlq replay --topic cobuys --reason unknown_product
    """
    from services.common import dead_letter_queue as dlq

    _check_said(topic, reason, offset)
    settings = settings_for(data_dir)
    # All are mended before the first is sent: a command that fails on one sends nothing.
    letters = _chosen(settings, topic, reason, offset, waiting=True)
    mended: dict[Place, Message] = {}
    if edit:
        mended = {one.place: _edited(one, edit) for one in letters}
        letters = (one for one in _chosen(settings, topic, reason, offset) if one.place in mended)
    if dry_run:
        print(f"{sum(1 for _ in letters)} would be sent")
        return
    try:
        sent = dlq.replay(settings, letters, (lambda one: mended[one.place]) if edit else None)
    except dlq.CutLetter as cut:
        raise InputError(str(cut)) from None
    print(f"{sent} sent")


@app.command()
@one_line_errors
def purge(
    topic: TopicOption = "",
    reason: ReasonOption = "",
    offset: OffsetOption = None,
    dry_run: DryRunOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Take letters out for good, replayed ones too. At least one of --topic, --reason, --offset is needed.

    Example: dlq purge --topic cobuys --reason undecodable
    """
    from services.common import dead_letter_queue as dlq

    _check_said(topic, reason, offset)
    settings = settings_for(data_dir)
    letters = _chosen(settings, topic, reason, offset)
    print(f"{sum(1 for _ in letters)} would be purged" if dry_run else f"{dlq.purge(settings, letters)} purged")


def _check_said(topic: str, reason: str, offset: list[int] | None) -> None:
    if not (topic or reason or offset):
        raise InputError("say which: --topic, --reason or --offset")
    if offset and not topic:
        raise InputError("--offset needs --topic")


def _edited(letter: Letter, command: str) -> Message:
    event, place = letter.decoded(), f"{letter.queue.name}/{letter.record.offset}"
    given = letter.record.value if event is None else json.dumps(event, ensure_ascii=False).encode()
    try:
        done = subprocess.run(shlex.split(command), input=given, capture_output=True, timeout=60)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise InputError(f"--edit: {error}") from None
    if done.returncode:
        line = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--edit failed on {place}, nothing was sent: {line}")
    try:
        return json_format.Parse(done.stdout, letter.queue.topic.message())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"--edit gave no {letter.queue.topic.base} event for {place}, nothing was sent: {line}"
        ) from None
