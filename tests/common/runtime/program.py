"""A stage for the runtime's tests: `cobuys` to `cobuys.featured` through a real gRPC call, as any stage does.

The value is JSON: `n` numbers the record, `mode` may be `poison` or `park`. Run as a process it is a real worker.
"""

from __future__ import annotations

import json
import logging
import sys

import grpc
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common import topics
from services.common.errors import EventFault, Parked, ServerCrashed, WorldFault
from services.common.readiness import model_trouble
from services.common.records import Output, Record
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.main import run
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings, load_settings

METHOD = "/test.Model/Answer"


def stage(settings: Settings) -> Stage:
    """The stage, calling the server at `extractor_target`."""
    channels: list[grpc.aio.Channel] = []

    async def start() -> None:
        # A model server that comes back must be noticed soon, whatever gRPC's own back-off.
        options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
        channels.append(grpc.aio.insecure_channel(settings.extractor_target, options=options))

    async def stop() -> None:
        await channels[0].close()

    async def trouble() -> str:
        return await model_trouble(channels[0])

    async def handle(record: Record) -> Result:
        event = json.loads(record.value)
        if event.get("mode") == "poison":
            raise EventFault(reasons.DEAD_LETTER_REASON_INVALID, "poison")
        if event.get("mode") == "park":
            raise Parked(reasons.DEAD_LETTER_REASON_UNKNOWN_PRODUCT, "unknown product")
        request = json.dumps({**event, "isolate": ISOLATE.get()}).encode()
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channels[0].unary_unary(METHOD)
        call = method(request, timeout=10)
        began = False
        try:
            began = bool(await call.initial_metadata())
            answer = await call
        except grpc.aio.AioRpcError as error:
            if began:
                raise ServerCrashed(error.details() or "") from None
            raise WorldFault("model", error.details() or "") from None
        return Result([Output(topics.FEATURED.name(settings), record.key or b"", answer)])

    return Stage("extractor", [Route(topics.COBUYS, handle)], trouble=trouble, start=start, stop=stop)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    loaded = load_settings()
    sys.exit(run(stage(loaded), loaded))
