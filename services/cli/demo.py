"""`mindstream demo`: the main job from files to a knowledge base and a dataset, on a platform of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from models.demo import CHECKPOINT, NOTICE, SAMPLE
from services.cli import feed
from services.cli.common import AWAY, InputError, fail, one_line_errors, platform_state, settings_for
from services.cli.kb import connected, export_to
from services.common.settings import Settings
from services.common.topics import COBUYS, PRODUCTS, PURCHASES

Say = Callable[[str], None]
#: Intentions that the demo prints.
_SHOWN = 8
#: Of every stage in summary.json, also where nothing happened.
_COUNTS = ("in", "out", "ok", "parked", "duplicate", "dead_letter")


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
) -> None:
    """Start everything, feed a sample or your files, wait until all is judged, and leave the results.

    Example: mindstream demo --products p.jsonl --cobuys c.jsonl --limit 50 --out results
    """
    from rich.console import Console

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="mindstream-demo-") as tmp:
        # PostgreSQL's unprivileged user must be able to pass.
        Path(tmp).chmod(0o755)
        if products is None:
            if purchases or cobuys:
                raise InputError("--purchases and --cobuys need --products")
            products, purchases = SAMPLE / "products.jsonl", SAMPLE / "purchases.jsonl"
        events = _read(products, purchases, cobuys, limit)
        began = time.monotonic()
        with _platform(
            data_dir or Path(tmp) / "data", model, lambda line: console.print(f"[dim]{line}[/dim]")
        ) as folder:
            started = time.monotonic()
            settings = settings_for(folder)
            for topic, found in events:
                console.print(f"{feed.send(settings, topic, found)} {topic.base} sent")
            _wait_drained(settings, console)
            drained = time.monotonic()
            summary = {
                "seconds": {"start": started - began, "work": drained - started},
                "stages": _stages(folder),
                "versions": {"mindstream": version("mindstream"), "python": sys.version.split()[0]},
                **_leave(out, folder, settings),
            }
        (out / "summary.json").write_text(json.dumps(summary, indent=1, default=str))
    console.print(f"{summary['intentions']} intentions of {summary['pairs']} co-buys in {out}", style="bold")


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


@contextmanager
def _platform(folder: Path, model: str, say: Say) -> Iterator[Path]:
    """A supervisor as a process of its own, until the block ends."""
    from deploy.local.process import die_with_parent

    running = platform_state(folder)
    if running and running["state"] == "ready":
        yield folder
        return
    command = [sys.executable, "-m", "deploy.local", str(folder), *([model] if model else [])]
    supervisor = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    )
    assert supervisor.stdout is not None
    assert supervisor.stderr is not None
    try:
        for line in supervisor.stdout:
            say(line.strip())
            if line.strip() == "ready":
                break
        else:
            fail((supervisor.stderr.read().strip().splitlines() or ["the platform ended"])[-1], AWAY)
        yield folder
    finally:
        supervisor.terminate()
        supervisor.communicate(timeout=120)


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


def _stages(folder: Path) -> dict[str, dict[str, float]]:
    """Counts of each stage since its process started: in, out, by outcome, and seconds of model calls."""
    from prometheus_client.parser import text_string_to_metric_families

    state = platform_state(folder) or {"processes": {}}
    stages: dict[str, Counter[str]] = {}
    for process in state["processes"].values():
        if not process["http_port"]:
            continue
        with urllib.request.urlopen(f"http://127.0.0.1:{process['http_port']}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                stage = sample.labels.get("stage")
                if stage is None:
                    continue
                counts = stages.setdefault(stage, Counter(dict.fromkeys(_COUNTS, 0)))
                if sample.name == "mindstream_records_in_total":
                    counts["in"] += int(sample.value)
                elif sample.name == "mindstream_records_out_total":
                    counts["out"] += int(sample.value)
                elif sample.name == "mindstream_records_done_total":
                    counts[sample.labels["outcome"]] += int(sample.value)
                elif sample.name == "mindstream_model_call_seconds_sum":
                    counts["model_seconds"] += sample.value  # type: ignore[assignment]
    return {stage: dict(counts) for stage, counts in sorted(stages.items())}


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

    out.mkdir(parents=True, exist_ok=True)
    with connected(folder) as connection:
        count = export_to(connection, out / "kb.jsonl")
        learned = _varied(kb.intentions(connection, kb.Query(accepted_only=True), by_score=True))
        counts = kb.stats(connection)
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
    return {"intentions": count, "pairs": counts["pairs"], "accepted": counts["accepted"], "model": settings.model}
