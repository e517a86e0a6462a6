"""Commits results, dead letters and offsets in one Kafka transaction."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from services.common.errors import TooLarge
from services.common.kafka import existing_topics, producer_config
from services.common.records import Output
from services.common.runtime.stage import Aborted, Fenced, Finished, Partition
from services.common.settings import Settings

_log = logging.getLogger(__name__)

#: One try of a transactional call, seconds; it is repeated while the broker is away.
_TRY_SECONDS = 2.0
#: A connection that is idle for so long is closed, milliseconds.
_IDLE_MS = 5000
#: A call that lasts so long, while the broker answers others, will never return.
_HANG_SECONDS = 10.0


class KafkaCommitter:
    """One transactional producer per worker slot: opening it fences an older worker of the same slot."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        heartbeat: Callable[[], bool],
        client: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """`heartbeat` is called between tries and says whether to go on trying; `client` makes the producer."""
        self._id = f"{settings.topic_prefix}mindstream.{stage}.{settings.worker_slot}"
        self._settings, self._heartbeat, self._client = settings, heartbeat, client
        timeout_ms = int(settings.transaction_timeout_seconds * 1000)
        self._config = producer_config(
            settings,
            **{
                "transactional.id": self._id,
                "transaction.timeout.ms": timeout_ms,
                "delivery.timeout.ms": timeout_ms,
                # Outputs wait here only within one short transaction.
                "queue.buffering.max.kbytes": 131_072,
                "linger.ms": 1,
                "delivery.report.only.error": True,
                # Ends most hangs of librdkafka (see `_returning`): the end of an idle connection is a change of one.
                "connections.max.idle.ms": _IDLE_MS,
            },
        )
        self._producer: Producer | None = None
        #: Why the broker refused a record of the open transaction for its size; empty while it did not.
        self._too_large = ""
        #: Whether a call is still in librdkafka and will stay there.
        self._hung = False

    def open(self) -> None:
        """Register the transactional id."""
        self._producer = self._client(self._config)
        self._attempt(lambda: self._live.init_transactions(_TRY_SECONDS * 5), abort=False)

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Kafka's own offsets are the truth."""
        return {}

    def commit(self, batch: Sequence[Finished], offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """One transaction; see Committer."""
        producer = self._live
        if self._hung:
            raise Fenced(f"transactional id {self._id}: librdkafka does not return")
        self._too_large = ""
        self._attempt(producer.begin_transaction)
        positions = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        try:
            for finished in batch:
                for output in finished.result.outputs:
                    self._produce(output)
            group = consumer.consumer_group_metadata()
            self._attempt(
                lambda: self._returning(lambda: producer.send_offsets_to_transaction(positions, group, _TRY_SECONDS))
            )
            self._attempt(lambda: producer.commit_transaction(_TRY_SECONDS))
            producer.poll(0)  # Lets librdkafka say what it has to say.
        except Aborted:
            producer.poll(0)
            if self._too_large:
                raise TooLarge(self._too_large) from None
            raise

    def close(self) -> None:
        """Let go; an open transaction is aborted by the broker."""
        self._producer = None

    @property
    def _live(self) -> Producer:
        assert self._producer is not None, "open() comes first"
        return self._producer

    def _produce(self, out: Output) -> None:
        while True:
            try:
                self._live.produce(out.topic, out.value, out.key, headers=out.headers, on_delivery=self._refused)  # type: ignore[arg-type]
                return
            except BufferError:
                self._live.poll(0.1)
            except KafkaException as exception:
                self._refused(exception.args[0])
                self._abort()
                raise Aborted(exception.args[0].str()) from None

    def _refused(self, error: KafkaError, _: object = None) -> None:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large = error.str()

    def _attempt(self, call: Callable[[], Any], *, abort: bool = True) -> None:
        """Repeat `call` while its failure is one that passes.

        Raises:
            Aborted: the transaction was aborted, or trying was called off.
            Fenced: this producer can never write again.
        """
        while True:
            try:
                call()
                return
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.fatal() or error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED):
                    raise Fenced(f"transactional id {self._id}: {error.str()}") from None
                if error.retriable() or error.code() == KafkaError._TIMED_OUT:
                    _log.debug("trying again: %s", error.str())
                    self._live.poll(0)
                    if self._heartbeat():
                        continue
                if not abort:
                    raise Fenced(f"transactional id {self._id}: {error.str()}") from None
                self._abort()
                raise Aborted(error.str()) from None

    def _returning(self, call: Callable[[], Any]) -> None:
        """Run a call that librdkafka may never return from, whatever its timeout.

        Offsets that are on their way when the group's coordinator restarts wait for the next change of a connection,
        which may never come where metadata has lost the broker for a moment (librdkafka issues 5511 and 5456).

        Raises:
            Fenced: it does not return, though the broker is there, or this process is to end; nothing can be done with
                this producer any more.
        """
        done, failures = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                call()
            except BaseException as failure:
                failures.append(failure)
            finally:
                done.set()

        threading.Thread(target=run, name="offsets", daemon=True).start()
        there_since = 0.0
        while not done.wait(_TRY_SECONDS):
            wanted = self._heartbeat()
            there_since = (there_since or time.monotonic()) if self._broker_answers() else 0.0
            if not wanted or (there_since and time.monotonic() - there_since > _HANG_SECONDS):
                self._hung = True
                raise Fenced(f"transactional id {self._id}: librdkafka does not return from sending offsets")
        if failures:
            raise failures[0]

    def _broker_answers(self) -> bool:
        try:
            existing_topics(self._settings, timeout=_TRY_SECONDS)
        except KafkaException:
            return False
        return True

    def _abort(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._live.abort_transaction(_TRY_SECONDS)
                return
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                passes = error.retriable() or error.code() == KafkaError._TIMED_OUT
                if error.fatal() or not passes or time.monotonic() > deadline:
                    raise Fenced(f"could not abort a transaction of {self._id}: {error.str()}") from None
                self._heartbeat()
