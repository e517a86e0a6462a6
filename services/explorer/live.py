"""The live page's events: one follower of the KB for all who look, each with a bounded queue of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from services.common.errors import WorldFault
from services.explorer.pipeline import Pipeline
from services.explorer.queries import Queries
from services.explorer.rendering import clip

_log = logging.getLogger(__name__)
_SECONDS = 1.0
#: Intentions of one look, and events that a slow reader may be behind before it loses some.
_AT_ONCE, _BEHIND = 50, 200
#: A line that says nothing, so that a connection that is gone is noticed.
_ALIVE_SECONDS = 15.0


class Live:
    """Who looks, and what is told to all of them."""

    def __init__(self, queries: Queries, pipeline: Pipeline, most: int) -> None:
        self._queries, self._pipeline, self._most = queries, pipeline, most
        self._readers: set[asyncio.Queue[str]] = set()
        self._follower: asyncio.Task[None] | None = None
        #: What was told last of the pipeline, for whoever comes.
        self._flow = ""

    @property
    def full(self) -> bool:
        """Whether nobody more can look."""
        return len(self._readers) >= self._most

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events from now on, until the reader is gone."""
        queue: asyncio.Queue[str] = asyncio.Queue(_BEHIND)
        self._readers.add(queue)
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._follow())
        try:
            yield "retry: 3000\n\n" + self._flow
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _ALIVE_SECONDS)
                except TimeoutError:
                    yield ": \n\n"
        finally:
            self._readers.discard(queue)

    async def close(self) -> None:
        """Follow no more."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower

    async def _follow(self) -> None:
        position = ""
        while self._readers:
            try:
                if not position:
                    position = await self._queries.now()
                rows, position = await self._queries.changes(position, _AT_ONCE)
                for row in rows:
                    if row["text"]:
                        self._tell(_event("intention", _said(row)))
                if len(rows) == _AT_ONCE:  # More comes than can be read: what is shown stays the newest.
                    position = await self._queries.now()
                trouble = ""
            except WorldFault as fault:
                trouble = str(fault)
            answer = await self._pipeline.flow()
            flow = _event("flow", {"stages": answer.found, "trouble": trouble or answer.trouble})
            if flow != self._flow:
                self._flow = flow
                self._tell(flow)
            await asyncio.sleep(_SECONDS)

    def _tell(self, text: str) -> None:
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(text)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _said(row: dict[str, Any]) -> dict[str, Any]:
    names = ("product_a", "product_b", "image_a", "image_b", "relation", "score", "accepted")
    texts = {name: clip(row[name]) for name in ("title_a", "title_b", "sentence")}
    return {**{name: row[name] for name in names}, **texts, "written_at": row["written_at"].isoformat()}
