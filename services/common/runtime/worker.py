"""The worker: one thread for Kafka (poll, window, commit), one for the handlers.

Polling never waits for a model call, so a slow model costs no rebalance; a commit takes the finished prefix of every
partition. Results of partitions that are still ours survive an aborted transaction: they stay in the window.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.common import kafka, metrics, topics, tracing
from services.common.delays import Delays
from services.common.errors import EventFault, TooLarge, WorldFault
from services.common.records import Record
from services.common.runtime.dispatch import Dispatcher, not_before
from services.common.runtime.routes import handlers, topics_needed
from services.common.runtime.stage import Aborted, Committer, Fenced, Finished, Health, Partition, Refused, Stage
from services.common.runtime.transactions import KafkaCommitter
from services.common.runtime.window import Window
from services.common.settings import Settings

_log = logging.getLogger(__name__)

#: Exit codes: stopped as asked; the topics are wrong; fenced (the supervisor may start a new process).
EXIT_OK, EXIT_REFUSED, EXIT_FENCED = 0, 2, 3
#: What a consumer says of a topic that is gone; and of one that a starting broker does not know yet.
_TOPIC_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_COMMIT_RECORDS = 500
_MOST_COMMIT_RECORDS = 2 * _COMMIT_RECORDS
_CONSUME_RECORDS = 500
#: Between two reports of lag, and the longest that one waits for Kafka.
_LAG_SECONDS, _LAG_TIMEOUT = 5.0, 1.0
#: A window that stays full so long is paused. Not at once: librdkafka throws away what it fetched ahead of a pause.
_PAUSE_SECONDS = 0.5


class Worker:
    """One process's share of a stage."""

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        committer: Committer | None = None,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.health = Health()
        self._stage = stage
        self._settings = settings
        self._handlers = handlers(stage, settings)
        self._needed = topics_needed(stage, settings)
        self._committer = committer or KafkaCommitter(settings, stage.name, self._heartbeat)
        self._dispatcher = dispatcher or Dispatcher(stage, self._handlers, settings)
        self._window = Window(settings.window_records, settings.window_bytes)
        self._stop_at: float | None = None
        self._assigned: set[Partition] = set()
        self._paused = False
        #: Since when the window is full; 0 while it is not.
        self._full_since = 0.0
        #: Parked partitions, with the time from which their head may be tried, milliseconds.
        self._held: dict[Partition, int] = {}
        #: Ends of partitions as librdkafka reports them; transaction markers make gaps that no record fills.
        self._ends: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        #: The committer keeps places of its own, and Kafka's are for lag displays.
        self._tells = False
        self._delays = Delays(stage.name)
        self._last_commit = self._last_lag = 0.0
        self._committed = 0
        self._retry_commit_at = 0.0
        self._commit_failures = 0
        #: Most records in the next commit; small after one that was refused for what a record holds.
        self._commit_limit = _MOST_COMMIT_RECORDS

    def stop(self) -> None:
        """Stop intake, drain for the grace, commit and leave; safe in a signal handler."""
        self._stop_at = self._stop_at or time.monotonic() + self._settings.drain_seconds

    def run(self) -> int:
        """Work until stopped; the exit code."""
        try:
            self._dispatcher.start()
        except WorldFault as fault:
            _log.error("cannot start: %s: %s", fault.kind, fault)
            return EXIT_FENCED
        consumer = kafka.reader(
            self._settings, topics.group_id(self._settings, self._stage.name), **{"enable.partition.eof": True}
        )
        try:
            self.join(consumer)
            while self._stop_at is None:
                self.step(consumer)
            self.drain(consumer)
            return EXIT_OK
        except Refused as refused:
            _log.error("stopping: %s", refused)
            return EXIT_REFUSED
        except Fenced as fenced:
            _log.error("stopping: %s", fenced)
            return EXIT_FENCED
        except WorldFault as fault:
            # Before the first record, or while partitions come: nothing is in flight, so start anew.
            _log.error("stopping: %s: %s", fault.kind, fault)
            return EXIT_FENCED
        finally:
            self.health.assigned = False
            self.close(consumer)

    def join(self, consumer: Consumer) -> None:
        """Fence an older worker of the slot, and join the group."""
        self._committer.open()
        consumer.subscribe(
            list(self._handlers), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        name = self._stage.name
        metrics.begin(name, self._handlers)
        # Read when they are scraped: the loop turns a thousand times as often.
        metrics.PAUSED.labels(name).set_function(lambda: self._paused)
        metrics.WINDOW_RECORDS.labels(name).set_function(lambda: self._window.records)
        metrics.WINDOW_BYTES.labels(name).set_function(lambda: self._window.bytes)
        self.health.started = True

    def close(self, consumer: Consumer) -> None:
        """Leave the group, and end the handlers."""
        try:
            consumer.close()
        except Fenced as fenced:
            _log.error("while leaving the group: %s", fenced)
        except WorldFault as fault:
            _log.error("while leaving the group: %s", fault)
        self._committer.close()
        self._dispatcher.stop()

    def _heartbeat(self) -> bool:
        """Called while a commit is tried again: Kafka being away is no reason to kill the process."""
        self.health.last_poll = time.monotonic()
        return self._stop_at is None or time.monotonic() < self._stop_at

    def step(self, consumer: Consumer) -> None:
        """Poll once; commit what is finished, where it is due."""
        self._regulate(consumer)
        if self._full_since and not self._paused:
            self._dispatcher.wait_progress(0.02)
            messages = []
        else:
            # While something is in flight, look soon for what has finished.
            wait = 0.02 if self._window.records else 0.2
            messages = consumer.consume(max(1, min(self._window.room, _CONSUME_RECORDS)), wait)
        self.health.last_poll = time.monotonic()
        trouble = self._dispatcher.trouble
        self.health.answering = self._dispatcher.answering and not trouble and not self._commit_failures
        self.health.trouble = trouble
        if messages:
            self._take(consumer, messages)
        now = time.monotonic()
        due = now - self._last_commit >= self._settings.commit_interval_seconds
        enough = self._dispatcher.finished - self._committed >= _COMMIT_RECORDS
        if (due or enough) and now >= self._retry_commit_at:
            self._commit(consumer)
        if now - self._last_lag >= _LAG_SECONDS:
            self._last_lag = now
            self._report_lag(consumer)

    # -- intake ------------------------------------------------------------------------------------------------------

    def _regulate(self, consumer: Consumer) -> None:
        """Pause and resume by the window, and wake parked partitions whose time has come."""
        now_ms = int(time.time() * 1000)
        due = [p for p, at in self._held.items() if at <= now_ms]
        for partition in due:
            del self._held[partition]
        if not self._window.full:
            self._full_since = 0.0
        elif not self._full_since:
            self._full_since = time.monotonic()
        long_full = self._full_since > 0 and time.monotonic() - self._full_since >= _PAUSE_SECONDS
        stop = long_full or not self._dispatcher.answering
        if stop and not self._paused:
            consumer.pause(_positions(self._assigned))
            self._paused = True
        elif self._paused and not stop and self._window.roomy:
            consumer.resume(_positions(self._assigned - set(self._held)))
            self._paused = False
        elif due and not self._paused:
            consumer.resume(_positions(due))

    def _take(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        entries, read = [], Counter[str]()
        now_ms = int(time.time() * 1000)
        for message in messages:
            error = message.error()
            if error is not None:
                self._consumer_error(message, error)
                continue
            record = kafka.to_record(message)
            partition = (record.topic, record.partition)
            if partition not in self._assigned or partition in self._held:
                continue
            due = not_before(record, now_ms, self._settings)
            if due > now_ms:
                self._hold(consumer, record, due)
                continue
            entries.append(self._window.add(record))
            read[record.topic] += 1
        if entries:
            self._dispatcher.submit(entries)
        for topic, count in read.items():
            metrics.RECORDS_IN.labels(self._stage.name, topic).inc(count)

    def _hold(self, consumer: Consumer, record: Record, due: int) -> None:
        """Wait with a parked partition until its head is due: read it again from there."""
        position = TopicPartition(record.topic, record.partition, record.offset)
        consumer.seek(position)
        consumer.pause([position])
        self._held[record.topic, record.partition] = due
        self._ends.pop((record.topic, record.partition), None)

    def _consumer_error(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            if (topic, partition) not in self._held:
                self._ends[topic, partition] = offset
        elif error.fatal():
            raise Fenced(f"consumer: {error.str()}")
        else:
            _log.warning("consumer: %s", error.str())
            if error.code() in _TOPIC_GONE:
                self._check_topics()

    def _check_topics(self) -> None:
        try:
            trouble = kafka.topics_trouble(self._settings, self._needed)
        except KafkaException:
            return  # It says the same again.
        if trouble:
            raise Refused(trouble)

    # -- commit ------------------------------------------------------------------------------------------------------

    def _commit(self, consumer: Consumer) -> None:
        """Commit the finished prefix; on an abort it stays and is tried again."""
        self._last_commit = time.monotonic()
        entries = self._window.finished(self._commit_limit)
        offsets = {e.partition: e.record.offset + 1 for e in entries}
        remaining = Counter(e.partition for e in entries)
        for partition, end in self._ends.items():
            # Past the last record there may be transaction markers: without them lag would never be zero.
            if self._window.count(partition) == remaining[partition] and end > self._next.get(partition, -1):
                offsets[partition] = max(end, offsets.get(partition, 0))
        if not offsets:
            self._commit_failures = 0
            return
        batch = [Finished(e.record, e.result) for e in entries if e.result is not None]
        began = time.time()
        try:
            with metrics.COMMIT_SECONDS.labels(self._stage.name).time():
                self._committer.commit(batch, offsets, consumer)
        except Aborted as aborted:
            metrics.TRANSACTION_ABORTS.labels(self._stage.name).inc()
            self._put_off(f"transaction aborted: {aborted}")
            return
        except (TooLarge, EventFault) as refused:
            metrics.TRANSACTION_ABORTS.labels(self._stage.name).inc()
            # One record a commit, until it is known whose output it is.
            self._commit_limit = 1
            if len(entries) == 1:
                self._dispatcher.refused(entries[0], refused)
            self._put_off(str(refused))
            return
        except WorldFault as fault:
            metrics.WORLD_FAULTS.labels(self._stage.name, fault.kind).inc()
            self._put_off(f"{fault.kind}: {fault}")
            return
        self._commit_failures = 0
        self._commit_limit = min(2 * self._commit_limit, _MOST_COMMIT_RECORDS)
        self._committed += len(entries)
        self._window.remove(entries)
        self._next.update(offsets)
        tracing.committed(self._stage.name, (e.traceparent for e in entries), began)
        self._count(batch)

    def _put_off(self, why: str) -> None:
        self._commit_failures += 1
        top = self._settings.backoff_min_seconds * 2 ** min(self._commit_failures - 1, 20)
        self._retry_commit_at = time.monotonic() + min(top, self._settings.backoff_max_seconds)
        _log.warning("commit put off (try %d): %s", self._commit_failures, why)

    def _count(self, batch: Sequence[Finished]) -> None:
        name = self._stage.name
        metrics.COMMIT_RECORDS.labels(name).observe(len(batch))
        done = Counter((f.record.topic, f.result.outcome) for f in batch)
        out = Counter(o.topic for f in batch for o in f.result.outputs)
        for (topic, outcome), count in done.items():
            kind, _, reason = outcome.partition(":")
            metrics.RECORDS_DONE.labels(name, topic, kind).inc(count)
            if kind == "dead_letter":
                metrics.DEAD_LETTERS.labels(name, topic, reason).inc(count)
        for finished in batch:
            if finished.result.count:
                finished.result.count()
        for topic, count in out.items():
            metrics.RECORDS_OUT.labels(name, topic).inc(count)

    # -- rebalancing (called within consume) ---------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ours = [(p.topic, p.partition) for p in partitions]
        for topic, partition in ours:
            if 0 < self._needed[topic] <= partition:
                raise Refused(kafka.repartitioned(topic, partition + 1, self._needed[topic]))
        known = self._committer.positions(ours) if ours else {}
        for position in partitions:
            position.offset = known.get((position.topic, position.partition), OFFSET_INVALID)
        consumer.incremental_assign(partitions)
        self._tells = self._tells or bool(known)
        self._assigned.update(ours)
        self._next.update(known)
        if self._paused and partitions:
            consumer.pause(partitions)
        self._rebalanced()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Still ours until this returns: what is finished need not be done again by the next owner.
        if partitions:
            self._commit(consumer)
        self._release(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        _log.warning("lost %d partitions; their results are dropped", len(partitions))
        self._release(consumer, partitions)

    def _release(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka keeps a partition paused that goes while it is paused, and comes back: nothing would be read of it.
        paused = [p for p in partitions if self._paused or (p.topic, p.partition) in self._held]
        if paused:
            consumer.resume(paused)
        for position in partitions:
            partition = (position.topic, position.partition)
            self._assigned.discard(partition)
            self._delays.forget(*partition)
            self._window.drop(partition)
            for known in (self._held, self._ends, self._next):
                known.pop(partition, None)
        self._rebalanced()

    def _rebalanced(self) -> None:
        # A worker beyond the number of partitions has none and is a ready spare all the same.
        self.health.assigned = True
        metrics.PARTITIONS.labels(self._stage.name).set(len(self._assigned))

    # -- the end -------------------------------------------------------------------------------------------------------

    def drain(self, consumer: Consumer) -> None:
        """Finish what is in flight within the grace, staying in the group."""
        consumer.pause(_positions(self._assigned))
        while self._window.unfinished and self._heartbeat():
            consumer.consume(1, 0.05)
            self._commit(consumer)
        self._commit(consumer)
        _log.info("stopped; %d records left for the next owner", self._window.records)

    def _report_lag(self, consumer: Consumer) -> None:
        self._learn_positions(consumer)
        told = [TopicPartition(*one, self._next[one]) for one in self._assigned & set(self._next)]
        if self._tells and told:
            # Of a committer with places of its own: that Kafka was told of them may be lost at a kill or a rebalance,
            # and on a topic that rests others would see lag for ever.
            with suppress(KafkaException):
                consumer.commit(offsets=told, asynchronous=True)
        for topic, partition in self._assigned:
            try:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            except KafkaException:
                continue
            # Nothing committed yet: all that there is waits.
            done = self._next.get((topic, partition), max(0, low))
            if high >= 0:
                oldest = self._window.oldest_ms((topic, partition))
                self._delays.report(topic, partition, high - done, done, oldest)

    def _learn_positions(self, consumer: Consumer) -> None:
        """Committed offsets of partitions in which this worker has committed nothing yet."""
        unknown = self._assigned - set(self._next)
        if not unknown:
            return
        try:
            for place in consumer.committed(_positions(unknown), timeout=_LAG_TIMEOUT):
                if place.offset >= 0 and not place.error:
                    self._next[place.topic, place.partition] = place.offset
        except KafkaException as error:
            _log.debug("committed offsets: %s", error.args[0].str())


def _positions(partitions: set[Partition] | Sequence[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in partitions]
