"""IntentionGenerator: why two products are bought together, one answer per relation."""

from __future__ import annotations

from typing import Any

import grpc
from mindstream.inference.v1 import intention_generator_pb2 as pb
from mindstream.inference.v1.intention_generator_pb2_grpc import (
    IntentionGeneratorServicer,
    add_IntentionGeneratorServicer_to_server,
)

from services.common.relations import BY_NAME, RELATIONS
from services.lvlm.calls import Calls, Work
from services.lvlm.computation import Asked
from services.lvlm.engine import Branch, Usage
from services.lvlm.pairs import pair_prefix
from services.lvlm.prompts import clean, load
from services.lvlm.statuses import InvalidRequest

PROMPTS = load("generator", "v1")
#: Candidates per relation and call.
_MOST_SAMPLES = 16


class IntentionGenerator(IntentionGeneratorServicer):
    """Serves the job on the process's engine."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GenerateResponse:
        """See the contract."""
        return await self._calls.answer(
            "generator", request.idempotency_key, context, lambda: self._prepare(request), request.isolate
        )

    def _prepare(self, request: pb.GenerateRequest) -> Work[pb.GenerateResponse]:
        if not request.pairs:
            raise InvalidRequest("pairs", "at least one is needed")
        if request.samples > _MOST_SAMPLES:
            raise InvalidRequest("samples", f"at most {_MOST_SAMPLES}")
        names = list(request.relations) or [relation.name for relation in RELATIONS]
        for index, name in enumerate(names):
            if name not in BY_NAME:
                raise InvalidRequest(f"relations[{index}]", f"no relation {name!r}")
        places = [(name, sample) for name in names for sample in range(max(1, request.samples))]
        branches = [branch(name, sample, request.seed) for name, sample in places]
        prefixes = [pair_prefix(self._calls, PROMPTS, pair, f"pairs[{i}]") for i, pair in enumerate(request.pairs)]

        def work(engine: Asked) -> tuple[pb.GenerateResponse, Usage]:
            response = pb.GenerateResponse()
            response.call.prompt_version = PROMPTS.version
            read = generated = 0
            for prefix in prefixes:
                answers, usage = engine.complete(prefix, branches, self._calls.settings.max_new_tokens)
                candidates = response.pairs.add().candidates
                for (name, sample), answer in zip(places, answers, strict=True):
                    candidates.add(relation=name, sample=sample, text=completed(answer.text), tokens=answer.tokens)
                read, generated = read + usage.prompt_tokens, generated + usage.generated_tokens
            return response, Usage(read, generated)

        return work


def branch(relation: str, sample: int, seed: int) -> Branch:
    """The prompt's branch of a relation; sample 0 is greedy, each other has a seed of its own."""
    phrase = BY_NAME[relation].phrase
    own_seed = (seed * 1_000_003 + sample) % 2**63 if sample else None
    return Branch(PROMPTS["question"].format(phrase=phrase), PROMPTS["answer"].format(phrase=phrase), own_seed, "\n")


def completed(text: str) -> str:
    """What completes the phrase: the answer's first line, without its full stop."""
    lines = text.strip().splitlines()
    return clean(lines[0]).rstrip(".").strip() if lines else ""


def register(server: grpc.aio.Server, calls: Calls) -> str:
    """Add the job to a server; its gRPC service's name."""
    add_IntentionGeneratorServicer_to_server(IntentionGenerator(calls), server)
    return str(pb.DESCRIPTOR.services_by_name["IntentionGenerator"].full_name)
