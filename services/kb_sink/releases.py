"""`python -m services.kb_sink.releases [--once]`: a release every interval, when there is something new."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time

import psycopg
from mindstream.events.v1.dataset_pb2 import DatasetRelease

from services.common import datasets, kafka, metrics, topics
from services.common import health as health_endpoints
from services.common.errors import WorldFault
from services.common.kb import SCHEMA
from services.common.postgres import migrate, world_faults
from services.common.process import configured, introduce
from services.common.records import output
from services.common.runtime.stage import Health
from services.common.settings import Settings, SettingsError
from services.kb_sink.committer import MIGRATIONS
from services.kb_sink.release import Release, make_release

_log = logging.getLogger(__name__)
NAME = "kb_sink"


def new_intentions(settings: Settings) -> int:
    """Intentions since the last release."""
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM kb.intentions) - coalesce((SELECT max(intentions) FROM kb.releases), 0)"
        ).fetchone()
    return int(row[0]) if row else 0


def release(settings: Settings) -> Release | None:
    """Make a release, announce it, and remember it; one at a time, whoever asks.

    Raises:
        WorldFault: the database, Kafka or the dataset storage is away.
    """
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('mindstream.release'))")
        made = make_release(settings)
        if made is None:
            return None
        _announce(settings, made)
        connection.execute(
            "INSERT INTO kb.releases (release_id, intentions, published_at) VALUES (%s, %s, now()) "
            "ON CONFLICT DO NOTHING",
            (made.release_id, made.manifest["intentions"]),
        )
    _log.info("released %s: %s", made.release_id, made.url)
    metrics.RELEASES.inc()
    return made


def report(settings: Settings) -> None:
    """Set the metrics of the newest release, whoever made it and however long ago.

    Raises:
        WorldFault: the database or the dataset storage is away.
    """
    newest = datasets.latest(settings.datasets_url)
    if newest is None:
        return
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM published_at) FROM kb.releases WHERE release_id = %s", [newest["release_id"]]
        ).fetchone()
    if row:
        metrics.RELEASE_TIME.set(float(row[0]))
    metrics.RELEASE_BYTES.set(sum(file["bytes"] for file in newest["files"].values()))
    metrics.RELEASE_ROWS.clear()
    for split in newest["splits"]:
        metrics.RELEASE_ROWS.labels(split["config"], split["split"]).set(split["rows"])


class Verifier:
    """Compares the newest release with its manifest: a new one at once, and again every `release_verify_seconds`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verified, self._again = "", 0.0

    def look(self) -> None:
        """Verify where it is time.

        Raises:
            WorldFault: the dataset storage is away.
        """
        url, now = self._settings.datasets_url, time.monotonic()
        newest = datasets.newest_id(url)
        if not newest or (newest == self._verified and now < self._again):
            return
        wrong = datasets.verify(f"{url.rstrip('/')}/{newest}")
        for line in wrong:
            _log.error("release %s: %s", newest, line)
        metrics.RELEASE_WRONG.set(len(wrong))
        self._verified, self._again = newest, now + self._settings.release_verify_seconds


def _announce(settings: Settings, made: Release) -> None:
    message = DatasetRelease(
        release_id=made.release_id,
        url=made.url,
        manifest_digest=made.manifest_digest,
        intentions=made.manifest["intentions"],
    )
    for split in made.manifest["splits"]:
        message.splits.add(**split)
    message.published_at.GetCurrentTime()
    out = output(topics.DATASETS, topics.DATASETS.name(settings), made.release_id, message, stage=NAME)
    kafka.send(kafka.plain_producer(settings), [out])


def main() -> int:
    """Release now (`--once`), or at every interval until SIGTERM; the exit code."""
    settings = configured()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        migrate(settings.postgres_dsn.get_secret_value(), SCHEMA, MIGRATIONS)
        if "--once" in sys.argv[1:]:
            made = release(settings)
            print(made.url if made else "nothing to release")
            return 0
        introduce("releases", settings)
        health = Health(started=True, assigned=True)
        health_endpoints.serve(settings, health)
    except (WorldFault, OSError) as error:
        print(error, file=sys.stderr)
        return 3
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    due, owed, verifier = False, False, Verifier(settings)
    while True:
        try:
            if due and new_intentions(settings) >= settings.release_min_new:
                if not owed:
                    metrics.RELEASE_DUE_TIME.set_to_current_time()
                owed = True
                release(settings)
            metrics.RELEASE_DUE_TIME.set(0)
            owed = False
            report(settings)
            verifier.look()
            health.answering = True
        except WorldFault as fault:
            health.answering = False
            _log.warning("release put off: %s", fault)
        due = not stop.wait(settings.release_interval_seconds)
        if not due:
            return 0


if __name__ == "__main__":
    sys.exit(main())
