"""The explorer as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from services.common.dead_letters import service_version
from services.common.errors import WorldFault, printable
from services.common.media import MediaStore
from services.common.runtime.stage import Health
from services.common.settings import Settings
from services.explorer import api, models, pages
from services.explorer.cursors import BadCursor
from services.explorer.database import Database
from services.explorer.feedback import Feedback
from services.explorer.gate import Gate
from services.explorer.guard import Guard
from services.explorer.live import Live
from services.explorer.pipeline import Pipeline
from services.explorer.problems import away, problem
from services.explorer.queries import Queries
from services.explorer.releases import Releases
from services.explorer.rendering import HERE

_log = logging.getLogger(__name__)
#: Pictures read at once.
_PICTURES = 8
_HEALTH_SECONDS = 2.0
_DESCRIPTION = (
    "Why are products bought together? Reads the knowledge base; all that is taken is what people say of intentions. "
    "Lists go on with the cursor `next`; answers have an ETag. Ids are the shop's own and stand in parameters, encoded "
    "as any text is."
)


class Explorer(FastAPI):
    """The application, with a document of its own making: how to show the token stands in it."""

    def __init__(self, settings: Settings, health: Health) -> None:
        super().__init__(
            title="Mindstream",
            version=service_version(),
            description=_DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            # Requests are counted and timed by the guard. FastAPI would look for a provider at every one of them.
            telemetry={"tracing": False, "metrics": False, "logs": False},
            lifespan=_lifespan(settings, health),
        )
        self.state.gate = Gate(settings)
        self.state.feedback = Feedback(settings, self.state.gate)
        self.include_router(api.router)
        self.include_router(pages.router)
        self.router.routes.append(Mount("/static", StaticFiles(directory=HERE / "static"), name="static"))
        self.add_middleware(Guard, gate=self.state.gate)
        self.add_exception_handler(HTTPException, _refused)
        self.add_exception_handler(RequestValidationError, _malformed)
        self.add_exception_handler(BadCursor, _bad_cursor)
        self.add_exception_handler(WorldFault, _away)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            components = document["components"]
            components["schemas"]["Problem"] = models.Problem.model_json_schema()
            if self.state.gate.how == "token":
                components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"token": []}]
            self.openapi_schema = document
        return self.openapi_schema


def _lifespan(settings: Settings, health: Health) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: Explorer) -> AsyncIterator[None]:
        database = Database(settings)
        await database.open()
        state = app.state
        state.queries, state.pipeline = Queries(database), Pipeline(settings)
        state.releases, state.media = Releases(settings, state.queries), MediaStore(settings.media_url)
        state.pictures = asyncio.Semaphore(_PICTURES)
        state.live = Live(state.queries, state.pipeline, settings.explorer_streams)
        watching = asyncio.create_task(_watch(database, health))
        try:
            yield
        finally:
            watching.cancel()
            await state.live.close()
            await database.close()

    return lifespan


async def _watch(database: Database, health: Health) -> None:
    """Keep the health endpoints told."""
    health.started = health.assigned = True
    looked = False
    while True:
        try:
            await database.look()
            health.trouble = ""
            if not looked and await database.may_write():
                _log.warning(
                    "its role could write to the KB, which it never does: give it one that reads only "
                    "(MINDSTREAM_EXPLORER_DSN, docs/security.md)"
                )
            looked = True
        except WorldFault as fault:
            health.trouble = str(fault)
        health.answering = not health.trouble
        health.last_poll = time.monotonic()
        await asyncio.sleep(_HEALTH_SECONDS)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "there is nothing here" if error.detail == "Not Found" else str(error.detail)
    return problem(request, error.status_code, detail, dict(error.headers or {}))


async def _malformed(request: Request, error: Exception) -> Response:
    """A parameter is not of its form: the first is told, and nothing of what was sent is repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(printable(str(part))[:100] for part in first["loc"])
    return problem(request, 422, f"{where}: {first['msg'].removeprefix('Value error, ')}"[:500])


async def _bad_cursor(request: Request, error: Exception) -> Response:
    return problem(request, 400, str(error))


async def _away(request: Request, error: Exception) -> Response:
    return away(request, str(error))
