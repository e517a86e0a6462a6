"""A shop's purchases: few products are bought by many."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import accumulate

from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common import kafka, topics
from services.common.records import Output, ce_headers
from services.common.settings import Settings

#: A day's orders come from nearly as many customers: few buy twice in the day over which theirs pair up.
PRODUCTS, CUSTOMERS = 5000, 500_000
#: Zipf's exponent of how often products are bought.
_ZIPF = 1.05


class Shop:
    """Sends purchases at a rate that may change at any time, from a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._chance = settings, random.Random(7)
        self._producer = kafka.plain_producer(settings)
        self._weights = list(accumulate(1 / rank**_ZIPF for rank in range(1, PRODUCTS + 1)))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0

    def stock(self) -> None:
        """Send the catalogue."""
        name = topics.PRODUCTS.name(self._settings)
        for number in range(PRODUCTS):
            made = Product(product_id=_product(number), title=f"A product of some brand, model {number}, as sold here")
            headers = ce_headers(topics.PRODUCTS, "shop", f"p{number}")
            kafka.send(self._producer, [Output(name, made.product_id.encode(), made.SerializeToString(), headers)])

    def start(self, rate: Callable[[], float]) -> None:
        """Send `rate()` purchases a second until `stop`."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(rate,), name="shop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more; what was sent is with Kafka."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        if self._producer.flush(60):
            raise RuntimeError("Kafka did not take all purchases")

    def _run(self, rate: Callable[[], float]) -> None:
        owed, last = 0.0, time.monotonic()
        while not self._stopping.wait(0.05):
            now = time.monotonic()
            owed += rate() * (now - last)
            last = now
            for _ in range(int(owed)):
                self._purchase()
            owed %= 1
            self._producer.poll(0)

    def _purchase(self) -> None:
        made = Purchase(order_id=f"o{self.sent}", customer_id=f"c{self._chance.randrange(CUSTOMERS)}")
        made.occurred_at.GetCurrentTime()
        items = self._chance.choices(range(PRODUCTS), cum_weights=self._weights, k=self._chance.choice((1, 2, 2, 3)))
        for number in items:
            made.items.add(product_id=_product(number), quantity=1)
        headers = ce_headers(topics.PURCHASES, "shop", made.order_id)
        while True:
            try:
                self._producer.produce(
                    topics.PURCHASES.name(self._settings),
                    made.SerializeToString(),
                    made.order_id,
                    headers=headers,  # type: ignore[arg-type]
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self.sent += 1


def _product(number: int) -> str:
    return f"B{number:09d}"
