"""FeatureExtractor: what the model says of a product from its picture and title."""

from __future__ import annotations

import re
from typing import Any

import grpc
from mindstream.inference.v1 import feature_extractor_pb2 as pb
from mindstream.inference.v1.common_pb2 import ProductView
from mindstream.inference.v1.feature_extractor_pb2_grpc import (
    FeatureExtractorServicer,
    add_FeatureExtractorServicer_to_server,
)

from services.lvlm.calls import Calls, Work
from services.lvlm.computation import Asked
from services.lvlm.engine import Branch, Completion, Prefix, Usage
from services.lvlm.prompts import clean, load
from services.lvlm.statuses import InvalidRequest

PROMPTS = load("extractor", "v1")
_QUESTIONS = ("description", "features", "uses")
#: Longest list taken from one answer, and longest entry, characters.
_MOST_ENTRIES, _ENTRY_CHARS = 12, 80


class FeatureExtractor(FeatureExtractorServicer):
    """Serves the job on the process's engine."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Extract(
        self, request: pb.ExtractRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExtractResponse:
        """See the contract."""
        return await self._calls.answer(
            "extractor", request.idempotency_key, context, lambda: self._prepare(request), request.isolate
        )

    def _prepare(self, request: pb.ExtractRequest) -> Work[pb.ExtractResponse]:
        if not request.products:
            raise InvalidRequest("products", "at least one is needed")
        prefixes = [self._prefix(product, f"products[{i}]") for i, product in enumerate(request.products)]
        branches = [Branch(PROMPTS[question]) for question in _QUESTIONS]

        def work(engine: Asked) -> tuple[pb.ExtractResponse, Usage]:
            response = pb.ExtractResponse()
            response.call.prompt_version = PROMPTS.version
            read = generated = 0
            for prefix in prefixes:
                answers, usage = engine.complete(prefix, branches, self._calls.settings.features_max_new_tokens)
                response.products.append(parsed(answers))
                read, generated = read + usage.prompt_tokens, generated + usage.generated_tokens
            return response, Usage(read, generated)

        return work

    def _prefix(self, product: ProductView, place: str) -> Prefix:
        if not product.title.strip():
            raise InvalidRequest(f"{place}.title", "is empty")
        if product.HasField("image"):
            picture = self._calls.picture(product.image, f"{place}.image")
            return Prefix(PROMPTS["with_picture"].format(title=product.title), (picture,))
        return Prefix(PROMPTS["without_picture"].format(title=product.title))


def parsed(answers: list[Completion]) -> pb.ExtractedFeatures:
    """The three answers as features."""
    description, features, uses = (answer.text for answer in answers)
    return pb.ExtractedFeatures(description=clean(description), features=entries(features), uses=entries(uses))


def entries(text: str) -> list[str]:
    """A list as models write it: commas, lines, bullets or numbers; without repeats, in order."""
    parts = (clean(re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", part)) for part in re.split(r"[,;\n]", text))
    kept = dict.fromkeys(part.rstrip(".")[:_ENTRY_CHARS].strip() for part in parts)
    return [part for part in kept if part][:_MOST_ENTRIES]


def register(server: grpc.aio.Server, calls: Calls) -> str:
    """Add the job to a server; its gRPC service's name."""
    add_FeatureExtractorServicer_to_server(FeatureExtractor(calls), server)
    return str(pb.DESCRIPTOR.services_by_name["FeatureExtractor"].full_name)
