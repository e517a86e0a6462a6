"""`mindstream demo`: the main job from files to a knowledge base and a dataset, on a platform of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from models.demo import CHECKPOINT, NOTICE, SAMPLE
from services.cli import feed, outcome
from services.cli.common import PROBLEM, InputError, fail, one_line_errors, platform_state, settings_for
from services.cli.kb import connected, export_to
from services.common.process import AWAY, BAD_INPUT
from services.common.settings import Settings
from services.common.topics import COBUYS, PRODUCTS, PURCHASES

Say = Callable[[str], None]
#: Intentions that the demo prints.
_SHOWN = 8


@one_line_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for kb.jsonl, datasets/ and summary.json.")],
    products: Annotated[
        Path | None, typer.Option(help="Products as JSONL; a small made-up shop where missing.")
    ] = None,
    purchases: Annotated[Path | None, typer.Option(help="Purchases as JSONL.")] = None,
    cobuys: Annotated[Path | None, typer.Option(help="Co-buys as JSONL, instead of purchases.")] = None,
    limit: Annotated[int, typer.Option(help="Take the first N co-buys (or purchases) only.", min=0)] = 0,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the platform's data here; else a new one, removed.")
    ] = None,
    model: Annotated[str, typer.Option(help="Checkpoint, a Hub id or a folder; the demo model where missing.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Let it run at the end, and say where to look at it; Ctrl-C ends it.")
    ] = False,
) -> None:
    """Start everything, feed a sample or your files, wait until all is judged, and leave the results.

    Exit code 1 when there are dead letters: they are listed by reason.

    Example: mindstream demo --products p.jsonl --cobuys c.jsonl --limit 50 --out results
    """
    from rich.console import Console

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="mindstream-demo-") as tmp:
        if products is None:
            if purchases or cobuys:
                raise InputError("--purchases and --cobuys need --products")
            products, purchases = SAMPLE / "products.jsonl", SAMPLE / "purchases.jsonl"
        events = _read(products, purchases, cobuys, limit)
        out.mkdir(parents=True, exist_ok=True)  # Before the work, not after it.
        if not os.access(out, os.W_OK | os.X_OK):
            raise InputError(f"{out}: no right to write in it")
        began = time.monotonic()
        with _platform(
            data_dir or Path(tmp) / "data", model, lambda line: console.print(line, style="dim", markup=False)
        ) as (folder, supervisor):
            started = time.monotonic()
            settings = settings_for(folder)
            before = outcome.ends(settings)
            for topic, found in events:
                console.print(f"{feed.send(settings, topic, found)} {topic.base} sent")
            _wait_drained(settings, console)
            drained = time.monotonic()
            letters = outcome.dead_letters(settings, before)
            summary = {
                "seconds": {"start": started - began, "work": drained - started},
                "stages": outcome.stages(settings, before, _http_ports(folder)),
                "dead_letters": [asdict(one) for one in letters],
                **_leave(out, folder, settings),
            }
            (out / "summary.json").write_text(json.dumps(summary, indent=1, default=str))
            console.print(f"{summary['intentions']} intentions of {summary['pairs']} co-buys in {out}", style="bold")
            _say_dead_letters(letters, data_dir, console)
            if keep:
                _stay(settings, supervisor)
    if letters:
        raise typer.Exit(PROBLEM)


def _say_dead_letters(letters: list[outcome.DeadLetters], data_dir: Path | None, console: Any) -> None:
    for one in letters:
        line = f"{one.count} dead letters of {one.topic} in {one.stage}: {one.reason}: {one.message[:200]}"
        console.print(line, style="red", markup=False, soft_wrap=True)
    if letters:
        kept = data_dir or "FOLDER"
        way = f"mindstream up --data-dir {kept}, and beside it mindstream dlq list --data-dir {kept}"
        hint = f"Look at them: {way}" if data_dir else f"To keep and look at them: demo --data-dir {kept}, then {way}"
        console.print(hint, markup=False, soft_wrap=True)


def _read(products: Path, purchases: Path | None, cobuys: Path | None, limit: int) -> list[tuple[Any, list[Any]]]:
    if (purchases is None) == (cobuys is None):
        raise InputError("one of --purchases and --cobuys is needed")
    second, parse, path = (COBUYS, feed.cobuy, cobuys) if cobuys else (PURCHASES, feed.purchase, purchases)
    assert path is not None
    rows = list(feed.lines(path, limit))
    events = [parse(place, row) for place, row in rows]
    named: set[str] = set()
    for _, event in events:
        found: Any = event
        named |= {found.product_a, found.product_b} if cobuys else {item.product_id for item in found.items}
    known = [feed.product(place, row) for place, row in feed.lines(products)]
    missing = named - {key for key, _ in known}
    if missing:
        raise InputError(f"{products} lacks {len(missing)} products that {path} names, such as {min(missing)}")
    return [(PRODUCTS, [one for one in known if one[0] in named]), (second, events)]


def _stay(settings: Settings, supervisor: subprocess.Popen[str] | None) -> None:
    """Say where to look, and wait for Ctrl-C (or SIGTERM) where the platform is ours."""
    address = f"http://{settings.explorer_host}:{settings.explorer_port}"
    print(f"See why they are bought together: {address}" + ("  (Ctrl-C ends it)" if supervisor else ""), flush=True)
    if supervisor is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # It is ignored in what a script starts with "&".
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = supervisor.wait()
    except KeyboardInterrupt:
        return
    fail(f"the platform ended, exit code {code}", AWAY)


@contextmanager
def _platform(folder: Path, model: str, say: Say) -> Iterator[tuple[Path, subprocess.Popen[str] | None]]:
    """A supervisor as a process of its own, until the block ends; None where one runs in the folder already."""
    from deploy.local.process import die_with_parent

    running = platform_state(folder)
    if running and running["state"] == "ready":
        yield folder, None
        return
    command = [sys.executable, "-m", "deploy.local", str(folder), *([model] if model else [])]
    # Its errors go where ours go.
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    output = supervisor.stdout
    assert output is not None
    try:
        for line in output:
            say(line.strip())
            if line.strip() == "ready":
                break
        else:
            code = supervisor.wait()
            if code in (BAD_INPUT, AWAY):  # It has said why.
                raise typer.Exit(code)
            fail(f"the platform ended at its start, exit code {code}", AWAY)
        # What ends and starts again is said meanwhile.
        threading.Thread(target=_repeat, args=(output, say), daemon=True).start()
        yield folder, supervisor
    finally:
        supervisor.terminate()
        supervisor.wait(timeout=120)


def _repeat(lines: Iterable[str], say: Say) -> None:
    for line in lines:
        say(line.strip())


def _wait_drained(settings: Settings, console: Any) -> None:
    """Show what each stage has before it until nothing is left anywhere."""
    from rich.live import Live
    from rich.table import Table

    from services.common.lag import lags

    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            found = lags(settings)
            table = Table("stage", "topic", "records waiting")
            for lag in found:
                table.add_row(lag.group, lag.topic, str(lag.records))
            live.update(table)
            if not any(lag.records for lag in found):
                return
            time.sleep(0.3)


def _varied(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first few rows, each of another pair and another relation."""
    chosen: list[dict[str, Any]] = []
    for row in rows:
        if all(row[name] != other[name] for other in chosen for name in ("pair_id", "relation")):
            chosen.append(row)
        if len(chosen) == _SHOWN:
            break
    return chosen


def _leave(out: Path, folder: Path, settings: Settings) -> dict[str, Any]:
    """Write kb.jsonl and datasets/, and say some of what was learned."""
    from services.common import datasets, kb

    with connected(folder) as connection:
        count = export_to(connection, out / "kb.jsonl")
        learned = _varied(kb.intentions(connection, kb.Query(accepted_only=True), by_score=True))
        counts = kb.stats(connection)
        versions = outcome.versions(connection)
    for row in learned:
        print(f"{row['score']:.2f}  {row['title_a'][:50]} + {row['title_b'][:50]}: {row['sentence'][:120]}")
    if settings.model == str(CHECKPOINT):
        print(NOTICE)
    done = subprocess.run([sys.executable, "-m", "services.kb_sink.releases", "--once"], capture_output=True, text=True)
    if done.returncode:
        fail(done.stderr.strip().splitlines()[-1], AWAY)
    newest = datasets.latest(settings.datasets_url)
    if newest is not None:
        shutil.rmtree(out / "datasets", ignore_errors=True)
        shutil.copytree(newest["url"].removeprefix("file://"), out / "datasets")
    return {
        **{"intentions": count, "pairs": counts["pairs"], "accepted": counts["accepted"], "model": settings.model},
        "versions": versions,
    }


def _http_ports(folder: Path) -> list[int]:
    state = platform_state(folder) or {"processes": {}}
    return [process["http_port"] for process in state["processes"].values() if process["http_port"]]
