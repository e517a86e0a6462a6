"""IntentionFilter: the model plays the customer and scores each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from mindstream.inference.v1 import intention_filter_pb2 as pb
from mindstream.inference.v1.intention_filter_pb2_grpc import (
    IntentionFilterServicer,
    add_IntentionFilterServicer_to_server,
)

from services.common.relations import BY_NAME, sentence
from services.common.settings import Settings, SettingsError
from services.lvlm.calls import Calls, Work
from services.lvlm.computation import Asked
from services.lvlm.engine import Branch, Usage
from services.lvlm.pairs import pair_prefix
from services.lvlm.prompts import PromptFile, clean, load
from services.lvlm.statuses import InvalidRequest

PROMPTS, REASONS = load("filter", "v1"), load("filter", "reason-v1")


def prompts(settings: Settings) -> PromptFile:
    """The prompts that the settings name.

    Raises:
        SettingsError: there are none of that name, or the file does not say what these must.
    """
    try:
        found = load("filter", settings.filter_prompt)
    except (OSError, ValueError) as error:
        raise SettingsError(f"MINDSTREAM_FILTER_PROMPT: {settings.filter_prompt}: {error}") from None
    missing = PROMPTS.texts.keys() - found.texts.keys()
    if missing:
        raise SettingsError(f"MINDSTREAM_FILTER_PROMPT: {settings.filter_prompt} lacks {', '.join(sorted(missing))}")
    return found


class IntentionFilter(IntentionFilterServicer):
    """Serves the job on the process's engine."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._prompts = prompts(calls.settings)

    async def Judge(self, request: pb.JudgeRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.JudgeResponse:
        """See the contract."""
        return await self._calls.answer(
            "filter", request.idempotency_key, context, lambda: self._prepare(request), request.isolate
        )

    def _prepare(self, request: pb.JudgeRequest) -> Work[pb.JudgeResponse]:
        if not request.pairs:
            raise InvalidRequest("pairs", "at least one is needed")
        asked = []
        for index, pair in enumerate(request.pairs):
            place = f"pairs[{index}]"
            said = [_sentence(intention, f"{place}.intentions[{i}]") for i, intention in enumerate(pair.intentions)]
            if not said:
                raise InvalidRequest(f"{place}.intentions", "at least one is needed")
            asked.append((pair_prefix(self._calls, self._prompts, pair.pair, f"{place}.pair"), said))

        most = self._calls.settings.max_new_tokens

        def work(engine: Asked) -> tuple[pb.JudgeResponse, Usage]:
            response = pb.JudgeResponse()
            response.call.prompt_version = self._prompts.version
            read = generated = 0
            for prefix, said in asked:
                scores, usage = engine.score(prefix, _branches(self._prompts, said))
                answer = response.pairs.add(scores=scores)
                read += usage.prompt_tokens
                if request.reasons:
                    reasons, usage = engine.complete(prefix, _branches(REASONS, said), most)
                    answer.reasons.extend(clean(reason.text) for reason in reasons)
                    read, generated = read + usage.prompt_tokens, generated + usage.generated_tokens
            return response, Usage(read, generated)

        return work


def _sentence(asked: pb.IntentionToJudge, place: str) -> str:
    if asked.relation not in BY_NAME:
        raise InvalidRequest(f"{place}.relation", f"no relation {asked.relation!r}")
    if not asked.text.strip():
        raise InvalidRequest(f"{place}.text", "is empty")
    return sentence(asked.relation, asked.text)


def _branches(prompts: PromptFile, said: Sequence[str]) -> list[Branch]:
    return [Branch(prompts["question"].format(intention=intention)) for intention in said]


def register(server: grpc.aio.Server, calls: Calls) -> str:
    """Add the job to a server; its gRPC service's name."""
    add_IntentionFilterServicer_to_server(IntentionFilter(calls), server)
    return str(pb.DESCRIPTOR.services_by_name["IntentionFilter"].full_name)
