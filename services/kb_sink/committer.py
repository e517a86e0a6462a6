"""Rows and offsets in one database transaction: what was read and what is written cannot part."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.common import kafka, metrics
from services.common.errors import WorldFault
from services.common.kb import SCHEMA
from services.common.postgres import migrate, world_faults
from services.common.runtime.stage import Fenced, Finished, Partition
from services.common.settings import Settings
from services.kb_sink import feedback, rejudged
from services.kb_sink import rows as judged
from services.kb_sink.rows import Rows

_log = logging.getLogger(__name__)
MIGRATIONS = Path(__file__).parent / "migrations"
#: Of every table that is written, in the order in which they are.
_COLUMNS = {**judged.COLUMNS, **rejudged.COLUMNS, **feedback.COLUMNS}
#: Rows that go into a table under another name: they are merged in a way of their own.
_INTO = {"rejudged": "intentions"}
#: Whose rows are there already, nearly always: products come again with every co-buy of theirs.
_KNOWN = ("products", "rejudged")


class PostgresCommitter:
    """The sink's committer; see services/common/runtime/stage.py.

    Dead letters go to Kafka when all rows are written, just before the COMMIT: after a crash between the two one may
    stand twice, with the same origin in its headers. Kafka's own offsets are committed last and only for lag displays.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = kafka.plain_producer(settings)
        self._connection: psycopg.Connection[Any] | None = None
        #: Records whose dead letters Kafka has, while the COMMIT is still owed.
        self._sent: set[tuple[str, int, int]] = set()

    def open(self) -> None:
        """Migrate the KB; waits for nothing: a database that is away stops the process, to be started again."""
        for table in _COLUMNS:  # At zero before the first; see `metrics.begin`.
            for outcome in ("written", "known"):
                metrics.SINK_ROWS.labels(table, outcome)
        try:
            migrate(self._settings.postgres_dsn.get_secret_value(), SCHEMA, MIGRATIONS)
        except WorldFault as fault:
            raise Fenced(str(fault)) from None

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The database's offsets are the truth; a partition that is new starts at its beginning."""
        found = dict.fromkeys(partitions, 0)
        with world_faults():
            connection = self._connect()
            for topic, partition, offset in connection.execute("SELECT topic, partition, next_offset FROM kb.offsets"):
                if (topic, partition) in found:
                    found[topic, partition] = offset
            connection.rollback()
        return found

    def commit(self, batch: Sequence[Finished], offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """One transaction.

        Raises:
            Fenced: another sink has gone further in one of the partitions; nothing is written.
            WorldFault: the database is away, or Kafka, for a dead letter; nothing is written.
        """
        first = {}
        for finished in reversed(batch):
            first[finished.record.topic, finished.record.partition] = finished.record.offset
        try:
            with world_faults(), self._connect().transaction():
                self._advance(first, offsets)
                written = self._write([f.result.rows for f in batch if isinstance(f.result.rows, Rows)])
                self._send(batch)
        except (WorldFault, psycopg.Error):
            self._disconnect()
            raise
        self._sent.difference_update(_place(finished) for finished in batch)
        _count(batch, written)
        positions = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        try:
            consumer.commit(offsets=positions, asynchronous=True)
        except KafkaException as error:
            _log.debug("offsets for lag displays: %s", error)

    def close(self) -> None:
        """Disconnect."""
        self._disconnect()

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._settings.postgres_dsn.get_secret_value(), connect_timeout=5)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _advance(self, first: Mapping[Partition, int], offsets: Mapping[Partition, int]) -> None:
        """Move the offsets, if the database is not past what is written now.

        It is past it when another sink has the partition, or when a commit arrived whose answer was lost. In both the
        window is stale: a new process starts from the database's offsets.
        """
        connection = self._connect()
        for (topic, partition), offset in offsets.items():
            start = first.get((topic, partition), offset)
            moved = connection.execute(
                """
                INSERT INTO kb.offsets AS o (topic, partition, next_offset) VALUES (%s, %s, %s)
                ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
                WHERE o.next_offset <= %s
                """,
                (topic, partition, offset, start),
            )
            if not moved.rowcount:
                raise Fenced(
                    f"the database is past offset {start} of {topic}/{partition} already: another sink has it. If the "  # noqa: S608  (for people)
                    f"topic was made anew, its offsets are void: DELETE FROM kb.offsets WHERE topic = '{topic}'"
                )

    def _send(self, batch: Sequence[Finished]) -> None:
        """Dead letters that Kafka does not have yet; a commit that is tried again sends none twice."""
        owed = [finished for finished in batch if finished.result.outputs and _place(finished) not in self._sent]
        try:
            kafka.send(self._producer, [output for finished in owed for output in finished.result.outputs])
        except WorldFault:
            # What still waits in this producer would be written beside its repeat.
            self._producer = kafka.plain_producer(self._settings)
            raise
        self._sent.update(map(_place, owed))

    def _write(self, batch: Sequence[Rows]) -> dict[str, tuple[int, int]]:
        """Write the rows; by table, how many were new and how many were given."""
        written: dict[str, tuple[int, int]] = {}
        for table in _COLUMNS:
            given = [row for rows in batch for row in rows.tables.get(table, ())]
            if given:
                new = self._insert_new(table, given) if table not in _KNOWN else None
                written[table] = (self._merge(table, given) if new is None else new, len(given))
        return written

    def _insert_new(self, table: str, given: Sequence[tuple[Any, ...]]) -> int | None:
        """COPY straight into the table; None, and nothing written, when one of the rows is there already."""
        connection = self._connect()
        try:
            with connection.transaction():
                self._copy(f"kb.{table}", table, given)
        except psycopg.errors.UniqueViolation:
            return None
        return len(given)

    def _merge(self, table: str, given: Sequence[tuple[Any, ...]]) -> int:
        """COPY into a staging table, then insert what is new; how many rows were written."""
        connection, names, staging = self._connect(), ", ".join(_COLUMNS[table]), f"staging_{table}"
        into = _INTO.get(table, table)
        # Names cannot be parameters; these are `_COLUMNS`' own.
        connection.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS AS SELECT {names} FROM kb.{into} LIMIT 0"  # noqa: S608
        )
        self._copy(staging, table, given)
        update = _UPSERTS.get(table, "DO NOTHING")
        distinct, order = _DISTINCT.get(table, ("*", ""))
        return connection.execute(
            f"INSERT INTO kb.{into} AS t ({names}) SELECT {distinct} FROM {staging} {order} ON CONFLICT {update}"  # noqa: S608
        ).rowcount

    def _copy(self, into: str, table: str, given: Sequence[tuple[Any, ...]]) -> None:
        with self._connect().cursor().copy(f"COPY {into} ({', '.join(_COLUMNS[table])}) FROM STDIN") as copy:
            for row in given:
                copy.write_row(row)


def _place(finished: Finished) -> tuple[str, int, int]:
    return finished.record.topic, finished.record.partition, finished.record.offset


def _count(batch: Sequence[Finished], written: Mapping[str, tuple[int, int]]) -> None:
    """Metrics of what is committed."""
    for table, (new, given) in written.items():
        metrics.SINK_ROWS.labels(table, "written").inc(new)
        metrics.SINK_ROWS.labels(table, "known").inc(given - new)
    now = datetime.now(UTC)
    for finished in batch:
        rows = finished.result.rows
        if isinstance(rows, Rows) and rows.event_time:
            metrics.KB_AGE.observe(max(0.0, (now - rows.event_time).total_seconds()))


#: A pair is judged again under a new pipeline version: its support may have grown, never shrunk.
_UPSERTS = {
    "pairs": "(pair_id) DO UPDATE SET support = excluded.support, first_seen = excluded.first_seen, "
    "last_seen = excluded.last_seen WHERE t.support < excluded.support",
    # By another filter, or at another threshold: the same one says the same, and what is sent again changes nothing.
    # Of one that is not there yet all is written, and its first judgement then finds it there. Whoever follows the
    # KB's changes is told of it as of a new row.
    "rejudged": "(pair_id, intention_id) DO UPDATE SET score = excluded.score, accepted = excluded.accepted, "
    "threshold = excluded.threshold, filter_model = excluded.filter_model, filter_prompt = excluded.filter_prompt, "
    "judged_at = excluded.judged_at, written_xact = DEFAULT WHERE (t.filter_model, t.filter_prompt, t.threshold) "
    "IS DISTINCT FROM (excluded.filter_model, excluded.filter_prompt, excluded.threshold)",
    # The last of a person's verdicts, whichever comes first.
    "feedback": "(pair_id, intention_id, who) DO UPDATE SET up = excluded.up, reason = excluded.reason, "
    "given_at = excluded.given_at, feedback_id = excluded.feedback_id "
    "WHERE (t.given_at, t.feedback_id, t.up, t.reason) "
    "< (excluded.given_at, excluded.feedback_id, excluded.up, excluded.reason)",
}
#: An upsert may not meet the same row twice in one statement.
_DISTINCT = {
    "pairs": ("DISTINCT ON (pair_id) *", "ORDER BY pair_id, support DESC"),
    # A pair's records come in their order, and are copied in it: the last of them counts.
    "rejudged": ("DISTINCT ON (pair_id, intention_id) *", "ORDER BY pair_id, intention_id, ctid DESC"),
    "feedback": (
        "DISTINCT ON (pair_id, intention_id, who) *",
        "ORDER BY pair_id, intention_id, who, given_at DESC, feedback_id DESC, up DESC, reason DESC",
    ),
}
