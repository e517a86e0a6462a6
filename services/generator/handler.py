"""A co-buy with features into candidates: one call for all relations."""

from __future__ import annotations

from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.intention_pb2 import CandidateIntentions, Intention
from mindstream.inference.v1.intention_generator_pb2 import GenerateRequest, GenerateResponse
from mindstream.inference.v1.intention_generator_pb2_grpc import IntentionGeneratorStub

from services.common import topics
from services.common.ids import intention_id
from services.common.media import MediaStore
from services.common.modelcalls import call, open_channel
from services.common.readiness import model_trouble
from services.common.records import Record, decode, output
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings
from services.common.views import checked, model_call, product_pair

NAME = "generator"


class Generator:
    """The stage's handler and its model client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._media = MediaStore(settings.media_url)

    def stage(self) -> Stage:
        """The stage for the runtime."""
        routes = [Route(topics.FEATURED, self.featured)]
        return Stage(NAME, routes, trouble=self._trouble, start=self._start, stop=self._stop)

    async def _start(self) -> None:
        self._channel = open_channel(self._settings.generator_target, self._settings)
        self._stub = IntentionGeneratorStub(self._channel)

    async def _trouble(self) -> str:
        return await model_trouble(self._channel)

    async def _stop(self) -> None:
        await self._channel.close()

    async def featured(self, record: Record) -> Result:
        """Candidates of one co-buy under every relation."""
        featured = checked(decode(record, FeaturedCoBuy, json_allowed=False))
        request = GenerateRequest(
            idempotency_key=record.idempotency_key,
            pairs=[await product_pair(featured, self._media, self._settings)],
            samples=self._settings.samples,
            isolate=ISOLATE.get(),
        )
        answer = await call(
            NAME, self._stub.Generate, request, GenerateResponse, self._settings.call_timeout_seconds, self._media
        )
        pair, info = featured.cobuy.pair_id, answer.call
        made = CandidateIntentions(featured=featured, generated_by=model_call(info))
        for candidate in answer.pairs[0].candidates:
            made.candidates.append(
                Intention(
                    intention_id=intention_id(
                        pair, candidate.relation, info.model_version, info.prompt_version, candidate.sample
                    ),
                    relation=candidate.relation,
                    text=candidate.text,
                    sample=candidate.sample,
                    tokens=candidate.tokens,
                )
            )
        name = topics.CANDIDATES.name(self._settings)
        return Result([output(topics.CANDIDATES, name, pair, made, stage=NAME, cause=record)])
