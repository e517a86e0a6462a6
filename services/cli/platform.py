"""`mindstream up`, `status`, `topics` and `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import DATA_DIR, one_line_errors, platform_state, print_json, settings_for

#: Rooms that own a schema, by its name: their migrations are read, and nothing of theirs is imported.
SCHEMAS = {"extractor": "extractor", "kb": "kb_sink"}
_SERVICES = Path(__file__).parents[1]


@one_line_errors
def up(
    data_dir: Annotated[
        Path, typer.Option(help="All state is here; the same folder goes on where it stopped.")
    ] = DATA_DIR,
    model: Annotated[str, typer.Option(help="Checkpoint: a Hub id or a folder; the demo model where missing.")] = "",
    kafka_port: Annotated[int, typer.Option(help="Kafka's port; 0 takes a free one.")] = 0,
    postgres_port: Annotated[int, typer.Option(help="PostgreSQL's port; 0 takes a free one.")] = 0,
    model_port: Annotated[int, typer.Option(help="The model server's gRPC port; 0 takes a free one.")] = 0,
    explorer_port: Annotated[int, typer.Option(help="The explorer's port; 0 takes a free one.")] = 0,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="A Prometheus beside it, with our rules (docs/monitoring.md).")
    ] = False,
    prometheus_port: Annotated[int, typer.Option(help="Prometheus' port; 0 takes a free one.")] = 0,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, PostgreSQL, the model server and all services."""
    from deploy.local.__main__ import run
    from deploy.local.platform import PlatformOptions

    options = PlatformOptions(
        data_dir,
        model,
        kafka_port,
        postgres_port,
        model_port,
        explorer_port,
        prometheus=prometheus,
        prometheus_port=prometheus_port,
    )
    raise typer.Exit(run(options, lambda line: print(line, flush=True)))


@one_line_errors
def status(
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Processes of the embedded platform, and how far each stage is behind."""
    from deploy.local.platform import explorer_address
    from services.common.lag import lags

    settings = settings_for(data_dir)
    state = platform_state(data_dir or DATA_DIR)
    processes = {name: process["pid"] for name, process in (state or {"processes": {}})["processes"].items()}
    found = [{"stage": lag.group, "topic": lag.topic, "lag": lag.records} for lag in lags(settings)]
    explorer = explorer_address(state["env"]) if state else ""
    if as_json:
        print_json({"processes": processes, "lags": found, "explorer": explorer})
        return
    if explorer:
        print(f"explorer   {explorer}")
    for name, pid in processes.items():
        print(f"{name:10} pid {pid}")
    for row in found:
        print(f"{row['stage']:10} {row['topic']:40} {row['lag']} waiting")


@one_line_errors
def topics(data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None) -> None:
    """Create every topic that is missing; those that exist are left as they are."""
    from services.common import kafka
    from services.common import topics as table

    settings = settings_for(data_dir)
    for name in kafka.create_topics(settings, table.specs(settings)):
        print(f"created {name}")


@one_line_errors
def migrate(
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Bring the database's schemas to their newest migration; services do it too as they start."""
    from services.common import postgres

    dsn = settings_for(data_dir).postgres_dsn.get_secret_value()
    for schema, room in SCHEMAS.items():
        postgres.migrate(dsn, schema, _SERVICES / room / "migrations")
        print(f"{schema}: newest")


def settings() -> None:
    """Every setting as docs/settings.md has it: its environment variable, default and meaning."""
    from pydantic import SecretStr

    from services.common.settings import Settings

    print("| variable | default | meaning |\n| --- | --- | --- |")
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        default = "" if default is None else str(default)
        print(f"| `MINDSTREAM_{name.upper()}` | {f'`{default}`' if default else ''} | {field.description} |")
