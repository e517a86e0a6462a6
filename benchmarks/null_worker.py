"""A stage worker whose model answers at once (or never): the runtime and nothing else. Also a program."""

from __future__ import annotations

import asyncio
import sys

from services.common import topics
from services.common.records import Output, Record
from services.common.runtime.main import run
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings, load_settings


def stage(settings: Settings, *, answers: bool = True) -> Stage:
    """`cobuys` to `cobuys.featured`, the value as it is."""
    name = topics.FEATURED.name(settings)

    async def handle(record: Record) -> Result:
        if not answers:
            await asyncio.Event().wait()
        return Result([Output(name, record.key or b"", record.value)])

    return Stage("extractor", [Route(topics.COBUYS, handle)])


if __name__ == "__main__":
    loaded = load_settings()
    sys.exit(run(stage(loaded, answers="--never" not in sys.argv), loaded))
