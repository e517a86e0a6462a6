"""`mindstream doctor`: is everything there, and if not, what to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import PROBLEM, one_line_errors, print_json, settings_for
from services.common.errors import WorldFault
from services.common.settings import Settings, SettingsError

_VERSIONS = ("mindstream", "confluent-kafka", "faust-streaming", "psycopg", "torch", "transformers")


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `mend` says what to do where it is not well."""

    what: str
    well: bool
    detail: str
    mend: str = ""


@one_line_errors
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Check Kafka, topics, workers, the database, model servers, storage and versions. Exit code 1 when one is ill."""
    from rich.console import Console

    settings = settings_for(data_dir)
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console = Console()
        for one in findings:
            mark = "[green]ok  [/green]" if one.well else "[red]ILL [/red]"
            console.print(mark, f"{one.what}: {one.detail}", soft_wrap=True)
            if not one.well:
                console.print(f"     -> {one.mend}", soft_wrap=True)
    if not all(finding.well for finding in findings):
        raise typer.Exit(PROBLEM)


def _kafka(settings: Settings) -> Iterator[Finding]:
    from confluent_kafka import KafkaException

    from services.common import kafka, topics

    where = settings.kafka_bootstrap_servers
    try:
        present = kafka.existing_topics(settings, timeout=5)
    except KafkaException as error:
        yield Finding("Kafka", False, f"{where}: {error.args[0].str()}", "check MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS")
        return
    yield Finding("Kafka", True, f"{where} answers")
    specs = list(topics.specs(settings))
    missing = [spec.name for spec in specs if spec.name not in present]
    shown = f"{len(missing)} of {len(specs)} are missing: {', '.join(missing[:3])}" if missing else f"all {len(specs)}"
    yield Finding("topics", not missing, shown, "run: mindstream topics")
    # Faust's tables and their topics must have the same number of partitions.
    tables = [topics.changelog_name(settings, table) for table in topics.COBUY_TABLES]
    together = [topics.PURCHASES_BY_CUSTOMER.name(settings), topics.OCCURRENCES.name(settings), *tables]
    counts = {name: present[name] for name in together if name in present}
    even = len(set(counts.values())) <= 1
    shown = "the same in all topics of co-buy counting" if even else ", ".join(f"{k}: {v}" for k, v in counts.items())
    yield Finding("partitions", even, shown, "give these topics the same number of partitions")


def _workers(settings: Settings) -> Iterator[Finding]:
    from confluent_kafka import KafkaException

    from services.common import kafka, topics

    groups = sorted({group for topic in topics.ALL for group in topic.readers})
    names = [topics.group_id(settings, group) for group in groups]
    try:
        client = kafka.admin(settings)  # Kept: its futures die with it.
        futures = client.describe_consumer_groups(names, request_timeout=10)
        members = [len(futures[name].result(timeout=15).members) for name in names]
    except (KafkaException, TimeoutError):
        return
    for group, count in zip(groups, members, strict=True):
        mend = f"start one: python -m services.{group} (or mindstream up)"
        yield Finding(f"{group} workers", count > 0, f"{count} in the group", mend)


def _database(settings: Settings) -> Iterator[Finding]:
    import psycopg

    from services.common.kb import SCHEMA
    from services.common.postgres import world_faults

    try:
        with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=5) as connection:
            number = connection.info.server_version
            found = connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.intentions"]).fetchone()
    except (WorldFault, psycopg.Error) as error:
        line = " ".join(str(error).split())[:200]
        yield Finding("PostgreSQL", False, line, "check MINDSTREAM_POSTGRES_DSN, and the rights of its user")
        return
    yield Finding("PostgreSQL", True, f"version {number // 10000}.{number % 10000} answers")
    there = found is not None and found[0] is not None
    yield Finding(
        "knowledge base", there, "its tables are there" if there else "no tables", "start the sink: it makes them"
    )


def _models(settings: Settings) -> Iterator[Finding]:
    jobs = {
        "FeatureExtractor": ("extractor", settings.extractor_target),
        "IntentionGenerator": ("generator", settings.generator_target),
        "IntentionFilter": ("filter", settings.filter_target),
    }
    for service, (job, target) in jobs.items():
        wrong = asyncio.run(_health(f"mindstream.inference.v1.{service}", target, settings))
        mend = f"check MINDSTREAM_{job.upper()}_TARGET, or start: python -m services.lvlm"
        yield Finding(f"{service} server", not wrong, f"{target}: {wrong or 'serving'}", mend)


async def _health(service: str, target: str, settings: Settings) -> str:
    """What is wrong with a model server; empty when it serves."""
    from services.common.modelcalls import open_channel
    from services.common.readiness import model_trouble

    try:
        channel = open_channel(target, settings)
    except SettingsError as error:
        return str(error)
    async with channel:
        return await model_trouble(channel, service)


def _storage(settings: Settings) -> Iterator[Finding]:
    from services.common.datasets import open_store

    for name, url in (("media store", settings.media_url), ("datasets", settings.datasets_url)):
        mend = f"check MINDSTREAM_{'MEDIA' if name == 'media store' else 'DATASETS'}_URL and its rights"
        try:
            store, path = open_store(url)
            store.makedirs(path, exist_ok=True)
            probe = f"{path}/.doctor"
            store.pipe_file(probe, b"")
            store.rm_file(probe)
            yield Finding(name, True, f"{url} takes files")
        except Exception as error:  # Every file system of fsspec has errors of its own.
            yield Finding(name, False, f"{url}: {' '.join(str(error).split())[:200]}", mend)


def _versions(settings: Settings) -> Iterator[Finding]:
    found = [f"Python {sys.version.split()[0]}"]
    for name in _VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    yield Finding("versions", True, ", ".join(found))


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _kafka, _workers, _database, _models, _storage, _versions,
)  # fmt: skip
