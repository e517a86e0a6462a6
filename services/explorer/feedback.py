"""What people say of intentions, on its way to Kafka: the KB itself is only read here."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from datetime import UTC
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from mindstream.events.v1.feedback_pb2 import THUMB_DOWN, THUMB_UP, IntentionFeedback
from starlette.exceptions import HTTPException
from starlette.requests import Request

from services.common import kafka, metrics
from services.common.errors import WorldFault, printable
from services.common.records import ce_headers
from services.common.settings import Settings, SettingsError
from services.common.topics import FEEDBACK
from services.explorer.gate import COOKIE, Gate
from services.explorer.queries import Queries

#: A person waits: what Kafka has not taken by then is given up, and they are told.
_DELIVERY_MS = 5000
#: Between two looks for Kafka's answer, while one is awaited.
_LOOK_SECONDS = 0.005
_VERDICTS = {"up": THUMB_UP, "down": THUMB_DOWN}


class Feedback:
    """Takes verdicts, where the settings say that they are wanted."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        """Raise where nobody could say who judges.

        Raises:
            SettingsError: one line that says which setting.
        """
        self._key = settings.explorer_feedback_key.get_secret_value().encode()
        self._header = settings.explorer_user_header
        if self.wanted and gate.how == "proxy" and not self._header:
            raise SettingsError(
                "MINDSTREAM_EXPLORER_USER_HEADER is empty: a verdict is a person's, and it names the header in which "
                "the proxy says who comes"
            )
        self._gate, self._settings = gate, settings
        self._producer: Producer | None = None
        for verdict in _VERDICTS:
            metrics.EXPLORER_FEEDBACK.labels(verdict)

    @property
    def wanted(self) -> bool:
        """Whether verdicts are taken."""
        return bool(self._key)

    @property
    def by_login(self) -> bool:
        """Whether people say who they are where they log in."""
        return self._gate.how == "token"

    def hashed(self, name: str) -> str:
        """A person as topics and KB know them; empty for nobody, and where no verdicts are taken."""
        name = name.strip()
        return hmac.digest(self._key, name.encode("utf-8", "replace"), "sha256").hex() if name and self.wanted else ""

    def person(self, request: Request) -> str:
        """Hash of who asks; empty where nobody says who that is, and where no verdicts are taken."""
        if self._gate.how == "proxy":
            # Two of it: one of them did not come from the proxy.
            named = request.headers.getlist(self._header) if self._header else []
            return self.hashed(named[0]) if len(named) == 1 else ""
        if self._gate.how == "token":
            # A session may be from when verdicts were taken.
            return self._gate.person(request.cookies.get(COOKIE, "")) if self.wanted else ""
        return self.hashed("whoever is at this machine")

    async def take(
        self, request: Request, asked: Queries, pair: str, intention: str, verdict: str, reason: str, said: str = ""
    ) -> tuple[str, dict[str, Any]]:
        """Take a verdict, "up" or "down", of who asks, or of whom they speak for (`said`): its id, and both products.

        Raises:
            HTTPException: none is taken here, nobody says who judges, or there is no such intention.
            WorldFault: Kafka is away, or the database.
        """
        if not self.wanted:
            raise HTTPException(403, "this explorer takes no verdicts (MINDSTREAM_EXPLORER_FEEDBACK_KEY)")
        if said and self._gate.how == "proxy":
            raise HTTPException(403, "the proxy says who judges: leave `who` out")
        who = self.hashed(said) or self.person(request)
        if not who:
            raise HTTPException(403, self._unnamed)
        products = await asked.products_of(pair, intention)
        if products is None:
            raise HTTPException(404, "the KB knows no such intention")
        event = IntentionFeedback(
            feedback_id=uuid.uuid4().hex,
            pair_id=pair,
            intention_id=intention,
            who=who,
            verdict=_VERDICTS[verdict],
            reason=" ".join(reason.split()),
        )
        event.given_at.GetCurrentTime()
        await self._send(event)
        metrics.EXPLORER_FEEDBACK.labels(verdict).inc()
        return event.feedback_id, products

    @property
    def _unnamed(self) -> str:
        if self._gate.how == "proxy":
            return f"the proxy does not say who judges, in one header {self._header}"
        return "a verdict is a person's: log in again with a name, or say `who` (a token tells nobody apart)"

    async def _send(self, event: IntentionFeedback) -> None:
        """Write it, and wait for Kafka's word."""
        answer: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

        def answered(error: KafkaError | None, _: Message) -> None:
            if not answer.done():
                answer.set_result(error)

        at = event.given_at.ToDatetime(UTC)
        headers = ce_headers(FEEDBACK, "mindstream/explorer", event.feedback_id, at)
        try:
            if self._producer is None:
                ours = {"delivery.timeout.ms": _DELIVERY_MS, "linger.ms": 0}
                self._producer = Producer(kafka.producer_config(self._settings, **ours))
            self._producer.produce(
                FEEDBACK.name(self._settings),
                event.SerializeToString(deterministic=True),
                event.intention_id.encode(),
                headers=headers,  # type: ignore[arg-type]
                on_delivery=answered,
            )
            while not answer.done():
                self._producer.poll(0)  # Which calls `answered`, in this thread.
                await asyncio.sleep(_LOOK_SECONDS)
            error = answer.result()
        except (BufferError, KafkaException) as refusal:
            error = refusal.args[0] if isinstance(refusal, KafkaException) else KafkaError(KafkaError._QUEUE_FULL)
        if error is not None:
            raise WorldFault("kafka", f"Kafka has not taken your verdict, so send it again: {printable(error.str())}")
