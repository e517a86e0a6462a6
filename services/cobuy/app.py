"""Purchases into co-buys: three agents, two tables.

    purchases ─ by customer ─ baskets ─ pair occurrences ─ support ─ cobuys

At least once, by Faust's own offsets: an agent's body never raises (Faust would skip what it was at), a record is done
only when all that it makes is acknowledged and its table updated, and everything that may come again counts once: an
order per pair.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from aiokafka.errors import MessageSizeTooLargeError  # type: ignore[import-untyped]
from confluent_kafka import KafkaException
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy, PairOccurrence
from mindstream.events.v1.purchase_pb2 import Purchase

from services.cobuy import baskets
from services.cobuy.baskets import Basket
from services.cobuy.fetching import BATCH_RECORDS, DownstreamFirstTransport
from services.cobuy.headers import tolerate_any_names
from services.cobuy.purchases import customer_key, pseudonymous, purchase
from services.cobuy.recovery import RestingConsumer, RestingTableManager
from services.cobuy.security import broker_credentials
from services.cobuy.support import Support
from services.common import kafka, metrics, topics, tracing
from services.common.dead_letters import cut, dead_letter
from services.common.delays import Delays
from services.common.errors import EventFault, TooLarge, one_line, reason_label
from services.common.logs import where
from services.common.pairs import pair_id
from services.common.process import BAD_INPUT
from services.common.records import Output, Record, check_record, decode, output, raw_headers
from services.common.runtime.stage import Health
from services.common.settings import Settings

NAME = "cobuy"
_log = logging.getLogger(__name__)
#: Records on their way to Kafka at once, for one order.
_SENT_AT_ONCE = 500
#: Age at which what is known of the topics is asked anew, milliseconds; and between two looks of our own.
_METADATA_MS, _TOPICS_SECONDS = 5000, 5.0


def build(settings: Settings, health: Health) -> Any:
    """The Faust app of the settings."""
    tolerate_any_names()
    brokers = [f"kafka://{address.strip()}" for address in settings.kafka_bootstrap_servers.split(",")]
    largest = topics.letter_max_bytes(settings) + topics.HEADROOM_BYTES
    app = faust.App(
        topics.group_id(settings, NAME),
        broker=brokers,
        broker_credentials=broker_credentials(),
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 4,
        broker_max_poll_interval=300.0,
        broker_max_poll_records=BATCH_RECORDS,
        consumer_auto_offset_reset="earliest",
        # A broker that has just started may know of no topic yet. Faust's leader then gives nobody anything, until it
        # asks again: after minutes by default.
        consumer_metadata_max_age_ms=_METADATA_MS,
        processing_guarantee="at_least_once",
        producer_acks=-1,
        producer_max_request_size=largest,
        # Of each partition at once. The broker hands out a larger record too, by itself.
        consumer_max_fetch_size=settings.event_max_bytes + topics.HEADROOM_BYTES,
        store=settings.cobuy_store,
        datadir=str(settings.state_dir / "faust"),
        topic_partitions=settings.topic_partitions,
        topic_replication_factor=settings.topic_replication,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        web_enabled=False,
        TableManager=RestingTableManager,
    )
    app.transport = DownstreamFirstTransport(app.conf.broker_consumer, app)
    read = (topics.OCCURRENCES, topics.PURCHASES_BY_CUSTOMER, topics.PURCHASES)
    app.transport.downstream_first = [topic.name(settings) for topic in read]
    Cobuy(app, settings, health)
    return app


def topics_needed(settings: Settings) -> dict[str, int]:
    """Topics on the wire without which the service cannot work: Faust would wait for them in silence.

    With the number of partitions that each must have, 0 where any will do: tables and their streams go together.
    """
    read = [topics.PURCHASES, topics.PURCHASES_BY_CUSTOMER, topics.OCCURRENCES]
    tables = [topics.changelog_name(settings, table) for table in topics.COBUY_TABLES]
    together = [*(topic.name(settings) for topic in read if topic.ours), *tables]
    any_will_do = [topics.PURCHASES.name(settings), topics.COBUYS.name(settings)]
    any_will_do += [topics.dlq_name(topic.name(settings), NAME) for topic in read]
    return {**dict.fromkeys(any_will_do, 0), **dict.fromkeys(together, settings.topic_partitions)}


class Cobuy:
    """The agents and what they share."""

    def __init__(self, app: Any, settings: Settings, health: Health) -> None:
        self._app, self._settings, self._health = app, settings, health
        self._customer_key = customer_key(settings)
        self._channels: dict[str, Any] = {}
        #: Writes that Kafka did not take at the first try.
        self._waiting = 0
        self._lag_known: set[Any] = set()
        self._delays = Delays(NAME)
        #: By topic and partition, offset and time of the record that was begun last.
        self._newest: dict[tuple[str, int], tuple[int, int]] = {}
        self._customers = app.Table("customers", default=list, partitions=settings.topic_partitions)
        self._support = app.Table("support", default=dict, partitions=settings.topic_partitions)
        steps: list[tuple[topics.Topic, Callable[[Record], Awaitable[str]]]] = [
            (topics.PURCHASES, self._by_customer),
            (topics.PURCHASES_BY_CUSTOMER, self._occurrences),
            (topics.OCCURRENCES, self._count),
        ]
        for topic, step in steps:
            self._agent(topic, step)
        metrics.begin(NAME, [topic.name(settings) for topic, _ in steps])
        app.task(self._beat)
        app.task(self._watch_topics)

    def _agent(self, topic: topics.Topic, step: Callable[[Record], Awaitable[str]]) -> None:
        channel = self._app.topic(
            topic.name(self._settings), key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw"
        )

        async def agent(stream: Any) -> None:
            # By itself Faust acknowledges an event that is cut short, too: at every end, and every rebalance.
            stream.enable_acks = False
            async for event in stream.events():
                record = _record(event)
                metrics.RECORDS_IN.labels(NAME, record.topic).inc()
                self._newest[record.topic, record.partition] = record.offset, record.timestamp_ms
                with tracing.processing(NAME, record) as span:
                    outcome = await self._guarded(step, record)
                    span.says("mindstream.outcome", outcome)
                metrics.RECORDS_DONE.labels(NAME, record.topic, outcome).inc()
                await stream.ack(event)

        self._app.agent(channel, name=f"cobuy.{topic.base}")(agent)

    async def _guarded(self, step: Callable[[Record], Awaitable[str]], record: Record) -> str:
        """Run a step; what it raises becomes a dead letter, never an exception in Faust."""
        try:
            check_record(record, self._settings.event_max_bytes)
            return await step(record)
        except (EventFault, TooLarge) as fault:
            return await self._set_aside(record, fault.reason, fault)
        except Exception as bug:
            # What a bug says may quote the event too; where it happened does not.
            _log.error("cobuy failed on %s: %s", record.idempotency_key, where(bug))
            return await self._set_aside(record, reasons.DEAD_LETTER_REASON_INTERNAL, bug)

    async def _set_aside(self, record: Record, reason: reasons.DeadLetterReason.ValueType, error: Exception) -> str:
        line, kind, room = one_line(error), type(error).__name__, topics.letter_max_bytes(self._settings)
        # Why stands in the letter alone: it may quote the event, and so its customer.
        _log.warning("dead letter %s (%s)", record.idempotency_key, reason_label(reason))
        letter = dead_letter(record, NAME, reason, line, error_class=kind, attempts=1, room=room)
        try:
            await self._send(letter)
        except TooLarge:
            await self._send(cut(letter, 0), whatever_size=True)
        metrics.DEAD_LETTERS.labels(NAME, record.topic, reason_label(reason)).inc()
        return "dead_letter"

    def _channel(self, topic: str) -> Any:
        """Faust's topic of a name: to make one takes nearly as long as to write to it."""
        if topic not in self._channels:
            self._channels[topic] = self._app.topic(topic, value_serializer="raw", key_serializer="raw")
        return self._channels[topic]

    async def _send(self, out: Output, *, whatever_size: bool = False) -> None:
        """Write a record and wait for the broker's acknowledgement, for as long as it takes.

        Raises:
            TooLarge: Kafka refuses it for its size, unless that too is to be waited out.
        """
        tries = 0
        while True:
            tries += 1
            try:
                await (await self._channel(out.topic).send(key=out.key, value=out.value, headers=out.headers))
                metrics.RECORDS_OUT.labels(NAME, out.topic).inc()
                return
            except Exception as error:
                # Of our own client Faust wraps it, of the broker it does not.
                size = any(isinstance(one, MessageSizeTooLargeError) for one in (error, error.__cause__))
                if size and not whatever_size:
                    raise TooLarge(f"writing to {out.topic}: {error}") from None
                metrics.WORLD_FAULTS.labels(NAME, "kafka").inc()
                level = logging.WARNING if tries in (1, 10, 100, 1000) else logging.DEBUG
                _log.log(level, "writing to %s: %s; trying again", out.topic, error)
                self._waiting += 1
                try:
                    delay = self._settings.backoff_min_seconds * tries
                    await self._app.sleep(min(delay, self._settings.backoff_max_seconds))
                finally:
                    self._waiting -= 1

    # -- the steps ---------------------------------------------------------------------------------------------------

    async def _by_customer(self, record: Record) -> str:
        found = pseudonymous(purchase(record), self._customer_key)
        name = topics.PURCHASES_BY_CUSTOMER.name(self._settings)
        key = f"c/{found.customer_id}" if found.customer_id else f"o/{found.order_id}"
        await self._send(output(topics.PURCHASES_BY_CUSTOMER, name, key, found, stage=NAME, cause=record))
        return "ok"

    async def _occurrences(self, record: Record) -> str:
        found = decode(record, Purchase, json_allowed=False)
        settings = self._settings
        products, left_out = baskets.distinct((item.product_id for item in found.items), settings.cobuy_max_basket)
        if left_out:
            metrics.COBUY_BASKETS_CAPPED.inc()
            metrics.COBUY_ITEMS_LEFT_OUT.inc(left_out)
        order = Basket(found.order_id, found.occurred_at.seconds + found.occurred_at.nanos / 1e9, products)
        window = settings.cobuy_window_seconds if found.customer_id else 0.0
        key = (record.key or b"").decode("utf-8", "replace")
        history = baskets.load(self._customers[key]) if window else []
        name = topics.OCCURRENCES.name(settings)
        completed, left_out = baskets.pairs(history, order, window, settings.cobuy_max_window)
        if left_out:
            metrics.COBUY_WINDOWS_CAPPED.inc()
            metrics.COBUY_ITEMS_LEFT_OUT.inc(left_out)
        occurrences = []
        for pair in completed:
            occurrence = PairOccurrence(
                pair_id=pair_id(pair.first, pair.second),
                product_a=pair.first,
                product_b=pair.second,
                order_id=pair.order_id,
            )
            occurrence.occurred_at.FromMicroseconds(round(pair.at * 1e6))
            occurrences.append(
                output(topics.OCCURRENCES, name, occurrence.pair_id, occurrence, stage=NAME, cause=record)
            )
        for start in range(0, len(occurrences), _SENT_AT_ONCE):
            await asyncio.gather(*map(self._send, occurrences[start : start + _SENT_AT_ONCE]))
        if window:
            self._customers[key] = baskets.dump(baskets.with_order(history, order, settings.event_max_bytes))
        return "ok"

    async def _count(self, record: Record) -> str:
        found = decode(record, PairOccurrence, json_allowed=False)
        at = found.occurred_at.seconds + found.occurred_at.nanos / 1e9
        support = Support(**self._support[found.pair_id]).counted(
            found.order_id, at, self._settings.cobuy_recent_orders
        )
        if support is None:
            metrics.COBUY_REPEATS.inc()
            return "duplicate"
        metrics.COBUY_OCCURRENCES.inc()
        if support.crosses(self._settings.cobuy_min_support):
            await self._send(self._cobuy(found, support, record))
            metrics.COBUY_CROSSINGS.inc()
            support.crossed = True
        # After the acknowledgement: a crash between the two repeats the co-buy, and the extractor admits it once.
        self._support[found.pair_id] = support.dump()
        return "ok"

    def _cobuy(self, found: PairOccurrence, support: Support, record: Record) -> Output:
        cobuy = CoBuy(
            pair_id=found.pair_id, product_a=found.product_a, product_b=found.product_b, support=support.count
        )
        cobuy.first_seen.FromMicroseconds(round(support.first_seen * 1e6))
        cobuy.last_seen.FromMicroseconds(round(support.last_seen * 1e6))
        name = topics.COBUYS.name(self._settings)
        return output(topics.COBUYS, name, cobuy.pair_id, cobuy, stage=NAME, cause=record)

    async def _beat(self) -> None:
        """Tell the health endpoints and the metrics what Faust knows."""
        while not self._app.should_stop:
            consumer: RestingConsumer = self._app.consumer
            now, actives = time.monotonic(), self._app.assignor.assigned_actives()
            # Between partitions, and while Kafka takes no record, nothing is fetched and nothing is wrong here.
            quiet = not consumer.flow_active or self._waiting > 0
            self._health.last_poll = now if quiet else consumer.fetched_at
            recovered = not self._app.rebalancing and self._app.tables.recovery.completed.is_set()
            self._health.started = self._health.started or recovered
            self._health.assigned = bool(actives)
            fetching = now - consumer.fetched_at < self._settings.session_timeout_seconds
            self._health.answering = recovered and fetching and not self._waiting
            metrics.PARTITIONS.labels(NAME).set(len(actives))
            if recovered:
                await self._report_lag(consumer)
            await self._app.sleep(0.2)

    async def _watch_topics(self) -> None:
        """End the service when its topics are not what they must be: a key's records would be counted in two places."""
        while not self._app.should_stop:
            await self._app.sleep(_TOPICS_SECONDS)
            try:
                trouble = await asyncio.to_thread(kafka.topics_trouble, self._settings, topics_needed(self._settings))
            except KafkaException:
                continue  # It is away, which others say.
            if trouble:
                logging.disable()  # aiokafka says without end that a topic is gone.
                print(f"{NAME}: {trouble}", file=sys.stderr, flush=True)
                # Not by a stop: Faust may wait for ever for a topic that is gone. As after a kill, all is read anew.
                os._exit(BAD_INPUT)

    async def _report_lag(self, consumer: RestingConsumer) -> None:
        behind = consumer.behind()
        for tp in self._lag_known - set(behind):
            self._delays.forget(tp.topic, tp.partition)
        for tp, (committed, records) in behind.items():
            offset, written = self._newest.get((tp.topic, tp.partition), (-1, 0))
            if records and offset < committed and await consumer.read_to(tp) >= committed + records:
                records = 0  # All that stands there are markers of its producer's transactions.
            # The oldest that waits is at hand unless all that were begun are committed.
            self._delays.report(tp.topic, tp.partition, records, committed, written if offset >= committed else None)
        self._lag_known = set(behind)


def _record(event: Any) -> Record:
    message = event.message
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers
    value = message.value if isinstance(message.value, bytes) else b""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.key if isinstance(message.key, bytes) else None,
        value,
        raw_headers(list(headers or ())),
        int((message.timestamp or 0) * 1000),
    )
