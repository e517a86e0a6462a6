"""Candidates into judged intentions: one call for all that have a text."""

from __future__ import annotations

from collections import Counter

from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    CandidateIntentions,
    JudgedIntention,
    JudgedIntentions,
)
from mindstream.inference.v1.intention_filter_pb2 import (
    IntentionToJudge,
    JudgeRequest,
    JudgeResponse,
    PairToJudge,
)
from mindstream.inference.v1.intention_filter_pb2_grpc import IntentionFilterStub

from services.common import metrics, topics
from services.common.ids import share
from services.common.media import MediaStore
from services.common.modelcalls import call, open_channel
from services.common.readiness import model_trouble
from services.common.records import Output, Record, decode, output
from services.common.relations import BY_NAME
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings
from services.common.views import checked, model_call, now, product_pair
from services.filter.quality import Quality

NAME = "filter"
#: The group of a filter that judges for comparison only.
(SHADOW,) = topics.CANDIDATES.shadows


class Filter:
    """The stage's handler and its model client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = SHADOW if settings.shadow_share else NAME
        self._media = MediaStore(settings.media_url)
        self._accepted, self._judged = Counter[str](), Counter[str]()
        self._quality = Quality()

    def stage(self) -> Stage:
        """The stage for the runtime."""
        routes = [Route(topics.CANDIDATES, self.candidates), Route(topics.AGAIN, self.again)]
        if self._name == SHADOW:
            routes = [Route(topics.CANDIDATES, self.shadow)]
        return Stage(self._name, routes, trouble=self._trouble, start=self._start, stop=self._stop)

    async def _start(self) -> None:
        for relation in BY_NAME:  # At zero before the first; see `metrics.begin`.
            for verdict in ("accepted", "rejected"):
                metrics.INTENTIONS_JUDGED.labels(relation, verdict)
            metrics.INTENTIONS_EMPTY.labels(relation)
            metrics.INTENTIONS_REPEATED.labels(relation)
        self._quality.begin()
        self._channel = open_channel(self._settings.filter_target, self._settings)
        self._stub = IntentionFilterStub(self._channel)

    async def _trouble(self) -> str:
        return await model_trouble(self._channel)

    async def _stop(self) -> None:
        await self._channel.close()

    async def candidates(self, record: Record) -> Result:
        """Judge one co-buy's candidates."""
        judged = await self._judge(record)
        return Result([self._output(topics.JUDGED, judged, record)], count=lambda: self._count(judged))

    async def again(self, record: Record) -> Result:
        """Judge what is in the KB once more; what is counted of the filter's work is counted of new intentions."""
        return Result([self._output(topics.REJUDGED, await self._judge(record), record)])

    async def shadow(self, record: Record) -> Result:
        """Judge a share of the pairs, the same in every shadow; the others are passed by."""
        made = decode(record, CandidateIntentions, json_allowed=False)
        if share("shadow", made.featured.cobuy.pair_id) >= self._settings.shadow_share:
            return Result()
        return Result([self._output(topics.SHADOWED, await self._judge(record, made), record)])

    async def _judge(self, record: Record, made: CandidateIntentions | None = None) -> JudgedIntentions:
        """Each candidate with its verdict; one without text is rejected without asking."""
        made = made or decode(record, CandidateIntentions, json_allowed=False)
        asked = [candidate for candidate in made.candidates if candidate.text]
        judged = JudgedIntentions(
            featured=checked(made.featured), generated_by=made.generated_by, threshold=self._settings.filter_threshold
        )
        scores: dict[str, float] = {}
        if asked:
            pair = PairToJudge(
                pair=await product_pair(made.featured, self._media, self._settings),
                intentions=[IntentionToJudge(relation=c.relation, text=c.text) for c in asked],
            )
            request = JudgeRequest(idempotency_key=record.idempotency_key, pairs=[pair], isolate=ISOLATE.get())
            answer = await call(
                self._name, self._stub.Judge, request, JudgeResponse, self._settings.call_timeout_seconds, self._media
            )
            scores = {c.intention_id: s for c, s in zip(asked, answer.pairs[0].scores, strict=True)}
            judged.judged_by.CopyFrom(model_call(answer.call))
        for candidate in made.candidates:
            score = scores.get(candidate.intention_id, 0.0)
            accepted = bool(candidate.text) and score >= judged.threshold
            verdict = VERDICT_ACCEPTED if accepted else VERDICT_REJECTED
            judged.judged.append(JudgedIntention(intention=candidate, score=score, verdict=verdict))
        judged.judged_at.CopyFrom(now())
        return judged

    def _output(self, topic: topics.Topic, judged: JudgedIntentions, cause: Record) -> Output:
        return output(
            topic, topic.name(self._settings), judged.featured.cobuy.pair_id, judged, stage=self._name, cause=cause
        )

    def _count(self, judged: JudgedIntentions) -> None:
        texts = Counter(one.intention.text for one in judged.judged if one.intention.text)
        for one in judged.judged:
            relation, accepted = one.intention.relation, one.verdict == VERDICT_ACCEPTED
            metrics.INTENTIONS_JUDGED.labels(relation, "accepted" if accepted else "rejected").inc()
            if not one.intention.text:
                metrics.INTENTIONS_EMPTY.labels(relation).inc()
            else:
                metrics.INTENTION_SCORES.observe(one.score)
            if texts[one.intention.text] > 1:
                metrics.INTENTIONS_REPEATED.labels(relation).inc()
            self._judged[relation] += 1
            self._accepted[relation] += accepted
            metrics.PRESERVE_RATE.labels(relation).set(self._accepted[relation] / self._judged[relation])
        self._quality.saw(judged)
