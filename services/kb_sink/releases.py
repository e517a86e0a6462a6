"""`python -m services.kb_sink.releases`: a release every interval, when there is something new; `--once`: one now."""

from __future__ import annotations

import argparse
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
from services.kb_sink.release import Release, base, make_release

_log = logging.getLogger(__name__)
NAME = "kb_sink"


def new_intentions(settings: Settings) -> int:
    """Intentions since the last release, and judgements that were replaced since then."""
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM kb.intentions) - coalesce(max(intentions), 0) "
            "+ (SELECT count(*) FROM kb.judgements) - coalesce(max(rejudged), 0) FROM kb.releases"
        ).fetchone()
    return int(row[0]) if row else 0


def release(settings: Settings, since: str = "") -> Release | None:
    """Make a release, announce it, and remember it; one at a time, whoever asks.

    `since` names the release that it is a delta to; without it the settings say whether it is one.

    Raises:
        BaseError: no release can be made on that one.
        WorldFault: the database, Kafka or the dataset storage is away.
    """
    with world_faults(), psycopg.connect(settings.postgres_dsn.get_secret_value(), connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('mindstream.release'))")
        # Before the release's own snapshot: what is replaced between the two makes another one due.
        counted = connection.execute("SELECT count(*) FROM kb.judgements").fetchone()
        made = make_release(settings, since or base.due(settings))
        if made is None:
            return None
        _announce(settings, made)
        connection.execute(
            "INSERT INTO kb.releases AS r (release_id, intentions, published_at, rejudged) "
            "VALUES (%s, %s, now(), %s) ON CONFLICT (release_id) DO UPDATE SET rejudged = excluded.rejudged "
            "WHERE r.rejudged < excluded.rejudged",
            (made.release_id, made.kb_intentions, counted[0] if counted else 0),
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


class Keeper:
    """Makes releases when they are due, and looks after the newest one. One turn at every interval."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owed = False
        #: The release that was verified last, and when it is due again, monotonic.
        self._verified, self._again = "", 0.0

    def turn(self, *, due: bool) -> None:
        """Release, where it is due and there is something new; then report and verify.

        Raises:
            WorldFault: the database, Kafka or the dataset storage is away; where it was due, it is owed from now on.
        """
        try:
            if due and new_intentions(self._settings) >= self._settings.release_min_new:
                self._owe()  # Before it is made: it may never return.
                release(self._settings)
            self._owed = False
            metrics.RELEASE_DUE_TIME.set(0)
            report(self._settings)
            self._verify()
        except WorldFault:
            if due:
                self._owe()
            raise

    def _owe(self) -> None:
        if not self._owed:
            metrics.RELEASE_DUE_TIME.set_to_current_time()
        self._owed = True

    def _verify(self) -> None:
        """Compare the newest release with its manifest: a new one at once, and again when it is time."""
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
    parser = argparse.ArgumentParser(prog="python -m services.kb_sink.releases", description="Make dataset releases.")
    parser.add_argument("--once", action="store_true", help="one release now")
    parser.add_argument("--since", default="", help="with --once: the id of the release that it is a delta to")
    # Settings first: what is wrong with them is told whatever is asked.
    settings = configured()
    asked = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        migrate(settings.postgres_dsn.get_secret_value(), SCHEMA, MIGRATIONS)
        if asked.once:
            made = release(settings, asked.since)
            print(made.url if made else "nothing to release")
            return 0
        introduce("releases", settings)
        health = Health(started=True, assigned=True)
        health_endpoints.serve(settings, health)
    except (WorldFault, OSError) as error:
        print(error, file=sys.stderr)
        return 3
    except (SettingsError, datasets.BaseError) as error:
        print(error, file=sys.stderr)
        return 2
    due, keeper = False, Keeper(settings)
    while True:
        try:
            keeper.turn(due=due)
            health.answering = True
        except WorldFault as fault:
            health.answering = False
            _log.warning("release put off: %s", fault)
        due = not stop.wait(settings.release_interval_seconds)
        if not due:
            return 0


if __name__ == "__main__":
    sys.exit(main())
