"""Sends the load at its pace and remembers where every event came to stand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.common import kafka
from services.common.settings import Settings
from tests.chaos.load import Event

#: Topic (on the wire), partition, offset.
Place = tuple[str, int, int]
#: A shop that gives up soon and sends again, more than once if it must: so events may come twice.
_SHOP = {"delivery.timeout.ms": 15_000, "log_level": 0}


class Feeder:
    """A shop: it sends an event until Kafka has it, whatever happens meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(kafka.producer_config(settings, **_SHOP))
        self._owed = 0
        self._again: list[Event] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.places: dict[Place, Event] = {}
        #: Everything that was sent, in order.
        self.events: list[Event] = []

    def start(self, steps: Iterator[list[Event]], pause: float) -> None:
        """Go on in a thread, a step every `pause` seconds, until `stop`."""
        self._thread = threading.Thread(target=self._run, args=(steps, pause), name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more of the load; what was sent is still brought home."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def send(self, events: Iterable[Event]) -> None:
        """Send these, and wait until Kafka has all that was sent."""
        for event in events:
            self._send(event)
        while not self.home():
            self._producer.poll(0.1)

    def home(self) -> bool:
        """Whether Kafka has acknowledged everything; what it refused is sent again."""
        self._producer.poll(0)
        again, self._again = self._again, []
        for event in again:
            self._produce(event)
        return self._owed == 0

    def _run(self, steps: Iterator[list[Event]], pause: float) -> None:
        due = time.monotonic()
        for events in steps:
            for event in events:
                self._send(event)
            due += pause
            while not self._stopping.wait(min(0.05, max(0.0, due - time.monotonic()))):
                self.home()
                if time.monotonic() >= due:
                    break
            if self._stopping.is_set():
                return

    def _send(self, event: Event) -> None:
        self.events.append(event)
        self._owed += 1
        self._produce(event)

    def _produce(self, event: Event) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._again.append(event)
                return
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            self.places[topic, partition, offset] = event
            self._owed -= 1

        headers: Sequence[tuple[str, bytes]] = [("content-type", event.content_type.encode())]
        while True:
            try:
                self._producer.produce(
                    event.topic.name(self._settings),
                    event.value,
                    event.key,
                    headers=list(headers),
                    on_delivery=delivered,
                )
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                # An idempotent producer that cannot go on, after events that timed out: a new one can.
                if not error.args[0].fatal():
                    raise
                self._producer.flush(5)
                self._producer = Producer(kafka.producer_config(self._settings, **_SHOP))
