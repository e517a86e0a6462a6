"""`python -m benchmarks.null_model`: a gRPC server of the three real contracts that answers at once, without a model.

It is no model and computes nothing: texts and scores are made of hashes of what is asked, of usual length, the same for
the same call. With it a load test measures the pipeline: Kafka, PostgreSQL, the stages and their calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from typing import Any

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mindstream.inference.v1 import feature_extractor_pb2 as extractor
from mindstream.inference.v1 import intention_filter_pb2 as judge
from mindstream.inference.v1 import intention_generator_pb2 as generator
from mindstream.inference.v1.common_pb2 import CallInfo
from mindstream.inference.v1.feature_extractor_pb2_grpc import (
    FeatureExtractorServicer,
    add_FeatureExtractorServicer_to_server,
)
from mindstream.inference.v1.intention_filter_pb2_grpc import (
    IntentionFilterServicer,
    add_IntentionFilterServicer_to_server,
)
from mindstream.inference.v1.intention_generator_pb2_grpc import (
    IntentionGeneratorServicer,
    add_IntentionGeneratorServicer_to_server,
)

from services.common import health
from services.common.process import configured
from services.common.relations import RELATIONS
from services.common.runtime.stage import Health
from services.common.settings import Settings

Context = grpc.aio.ServicerContext[Any, Any]
MODEL_VERSION = "null-model@sha256:000000000000"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _info(job: str) -> CallInfo:
    return CallInfo(model_version=MODEL_VERSION, prompt_version=f"{job}/null")


class NullModel(FeatureExtractorServicer, IntentionGeneratorServicer, IntentionFilterServicer):
    """Answers of the right form and size."""

    async def Extract(self, request: extractor.ExtractRequest, context: Context) -> extractor.ExtractResponse:
        """Features."""
        made = extractor.ExtractResponse(call=_info("extractor"))
        for product in request.products:
            tag = _hash(product.title)
            made.products.add(
                description=f"A thing that is known as {product.title}, number {tag[:8]}.",
                features=[f"part {tag[at : at + 6]}" for at in range(0, 48, 6)],
                uses=[f"use {tag[at : at + 6]}" for at in range(48, 60, 6)],
            )
        return made

    async def Generate(self, request: generator.GenerateRequest, context: Context) -> generator.GenerateResponse:
        """A candidate a relation."""
        made = generator.GenerateResponse(call=_info("generator"))
        for pair in request.pairs:
            candidates = made.pairs.add().candidates
            for relation in RELATIONS:
                tag = _hash(pair.pair_id, relation.name)
                candidates.add(relation=relation.name, text=f"doing what number {tag[:24]} is good for", tokens=9)
        return made

    async def Judge(self, request: judge.JudgeRequest, context: Context) -> judge.JudgeResponse:
        """A score a candidate."""
        made = judge.JudgeResponse(call=_info("filter"))
        for pair in request.pairs:
            made.pairs.add(scores=[int(_hash(asked.text)[:8], 16) / 2**32 for asked in pair.intentions])
        return made


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server, model = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), NullModel()
    add_FeatureExtractorServicer_to_server(model, server)
    add_IntentionGeneratorServicer_to_server(model, server)
    add_IntentionFilterServicer_to_server(model, server)
    checks = grpc_health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(settings.server_bind)
    await server.start()
    health.serve(settings, Health(started=True, assigned=True))
    await stopping.wait()
    await server.stop(settings.server_grace_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(configured())))
