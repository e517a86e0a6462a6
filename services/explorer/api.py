"""The REST API: `/api/v1`. Its document is at /openapi.json, and at /docs for people.

It reads; only people's verdicts are taken, and go to Kafka.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import Response

from services.common import kb
from services.common.relations import BY_NAME
from services.explorer import models
from services.explorer.feedback import Feedback
from services.explorer.guard import MAX_BODY_BYTES
from services.explorer.limits import (
    ID_CHARACTERS,
    MOST_CHARACTERS,
    MOST_FOUND,
    MOST_ITEMS,
    MOST_ROWS,
    PAIR_ID_CHARACTERS,
)
from services.explorer.queries import Queries
from services.explorer.releases import Releases


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


#: Seconds that a program waits for counts of the whole KB.
_COUNTS_WAIT = 10.0
_NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, AfterValidator(_storable)]
Id = Annotated[Text, Query(min_length=1, max_length=ID_CHARACTERS, pattern=_NO_NUL)]
OptionalId = Annotated[Text, Query(max_length=ID_CHARACTERS, pattern=_NO_NUL)]
OptionalPairId = Annotated[Text, Query(max_length=PAIR_ID_CHARACTERS, pattern=_NO_NUL)]
Cursor = Annotated[str, Query(max_length=8192, description="`next` of the page before; leave it out for the first.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Most rows.")]
if TYPE_CHECKING:  # Which names there are is known when it runs.
    RelationName = str
else:
    RelationName = Literal[tuple(BY_NAME)]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    said = {
        400: "The cursor is none of this list, or the body is no UTF-8",
        401: "No bearer token, or a wrong one",
        403: "No verdicts are taken here, or nobody says who judges; or another site's page asks",
        404: "The KB does not know it",
        413: f"More than {MAX_BODY_BYTES} bytes",
        422: "A parameter is missing or not of its form",
        429: "Too many requests; `Retry-After` says when",
        503: "The database is away, or Kafka for a verdict; try again",
    }
    return {
        status: {"description": said[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


router = APIRouter(prefix="/api/v1", responses=_problems(401, 422, 429, 503))


def queries(request: Request) -> Queries:
    """The questions to this explorer's KB. Not by `Depends`: solving that costs a lookup a tenth of its time."""
    found: Queries = request.app.state.queries
    return found


def reply(request: Request, value: Any) -> Response:
    """JSON with an ETag; 304 and no body where the client has it already."""
    content = orjson.dumps(value)
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(request.headers.get("if-none-match", ""), etag):
        return Response(None, 304, headers)
    return Response(content, 200, headers, "application/json")


def matches(asked: str, etag: str) -> bool:
    """Whether `If-None-Match` names a tag (RFC 9110: compared weakly, as a proxy may have weakened it)."""
    given = [one.strip() for one in asked.split(",")]
    return "*" in given or etag in (one.removeprefix("W/") for one in given)


def _known(row: Any, what: str) -> Any:
    if row is None:
        raise HTTPException(404, what)
    return row


@router.get("/product", response_model=models.Product, responses=_problems(404), tags=["products"])
async def product(request: Request, id: Id) -> Response:
    """A product: title, picture, and what the model saw."""
    asked = queries(request)
    return reply(request, _known(await asked.product(id), f"the KB knows no product {id!r}"))


@router.get("/cobought", response_model=models.CoBoughtPage, responses=_problems(400), tags=["products"])
async def cobought(request: Request, product: Id, limit: Limit = 20, cursor: Cursor = "") -> Response:
    """Products bought together with one, best supported first, each with its best accepted reason."""
    asked = queries(request)
    page = await asked.cobought(product, limit, cursor)
    return reply(request, {"items": page.items, "next": page.next})


@router.get("/pair", response_model=models.Pair, responses=_problems(404), tags=["pairs"])
async def pair(request: Request, a: Id, b: Id) -> Response:
    """Two products bought together: both, and every intention kept or rejected with its provenance. In any order."""
    asked = queries(request)
    return reply(request, _known(await asked.pair(a, b), _UNPAIRED))


@router.get("/why", response_model=models.Pair, responses=_problems(404), tags=["pairs"])
async def why(request: Request, a: Id, b: Id) -> Response:
    """Why are these two bought together? The best accepted reason of each relation, best first."""
    asked = queries(request)
    return reply(request, _known(await asked.why(a, b), _UNPAIRED))


_UNPAIRED = "the KB knows no such pair: these two were not bought together often enough, or are not judged yet"


@router.get("/intentions", response_model=models.IntentionPage, responses=_problems(400), tags=["intentions"])
async def intentions(
    request: Request,
    product: OptionalId = "",
    pair: OptionalPairId = "",
    relation: RelationName | None = None,
    min_score: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.0,
    accepted: Annotated[bool, Query(description="Only what the filter kept.")] = False,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Intentions by product, pair id, relation or score, best first."""
    asked = queries(request)
    query = kb.Query(product, pair, relation or "", min_score, accepted)
    page = await asked.intentions(query, limit, cursor)
    return reply(request, {"items": page.items, "next": page.next})


@router.get("/newest", response_model=models.Newest, tags=["intentions"])
async def newest(request: Request, limit: Limit = 20) -> Response:
    """The newest intentions that have a text."""
    asked = queries(request)
    return reply(request, {"items": await asked.newest(limit)})


@router.get("/changes", response_model=models.Changes, responses=_problems(400), tags=["intentions"])
async def changes(
    request: Request,
    after: Annotated[
        str, Query(max_length=8192, description="`position` of the answer before; leave it out for the beginning.")
    ] = "",
    limit: Limit = 100,
) -> Response:
    """Follow the KB: intentions in the order in which they were written, each once and none left out.

    When `items` is empty you are at the end: ask again later with the same position.
    """
    asked = queries(request)
    items, position = await asked.changes(after, limit)
    return reply(request, {"items": items, "position": position})


@router.get("/search", response_model=models.SearchResult, tags=["intentions"])
async def search(
    request: Request,
    q: Annotated[Text, Query(min_length=1, max_length=MOST_CHARACTERS, pattern=_NO_NUL)],
    limit: Annotated[int, Query(ge=1, le=MOST_FOUND)] = 20,
) -> Response:
    """Products and accepted intentions by words; words that nothing has are read as the nearest that something has."""
    asked = queries(request)
    found = await asked.search(q, limit)
    return reply(request, vars(found))


@router.get("/stats", response_model=models.Counts, tags=["the KB"])
async def stats(request: Request) -> Response:
    """Counts of the whole KB, and by relation how many are kept."""
    asked = queries(request)
    return reply(request, await asked.counts(_COUNTS_WAIT))


class Basket(BaseModel):
    """Products in a basket."""

    items: list[Annotated[Text, Field(min_length=1, max_length=ID_CHARACTERS, pattern=_NO_NUL)]] = Field(
        min_length=1, max_length=MOST_ITEMS
    )
    limit: int = Field(10, ge=1, le=MOST_FOUND, description="Most products to suggest.")


@router.post("/basket", response_model=models.Suggestions, responses=_problems(400, 403, 413), tags=["products"])
async def basket(request: Request, basket: Basket) -> Response:
    """What goes with these products, and why."""
    asked = queries(request)
    return reply(request, await asked.basket(basket.items, basket.limit))


class Verdict(BaseModel):
    """What a person says of an intention."""

    pair_id: Annotated[Text, Field(min_length=1, max_length=PAIR_ID_CHARACTERS, pattern=_NO_NUL)]
    intention_id: Annotated[Text, Field(min_length=1, max_length=ID_CHARACTERS, pattern=_NO_NUL)]
    verdict: Literal["up", "down"] = Field(description="Whether it is a reason for somebody to buy the two together.")
    reason: Annotated[
        Text,
        Field(
            max_length=kb.REASON_CHARACTERS,
            pattern=_NO_NUL,
            description="Why, in their own words; whoever may read here can read it.",
        ),
    ] = ""
    who: Annotated[
        Text,
        Field(
            max_length=ID_CHARACTERS,
            pattern=_NO_NUL,
            description="Any lasting name of whoever judges, of which a keyed hash is kept. Empty: who asks, as the "
            "session, or the proxy, knows them.",
        ),
    ] = ""


@router.post(
    "/feedback",
    status_code=202,
    response_model=models.Taken,
    responses={202: {"description": "Kafka has it, and the KB soon"}, **_problems(400, 403, 404, 413)},
    tags=["intentions"],
)
async def judge(request: Request, said: Verdict) -> Response:
    """Thumb up or down on an intention. A person's last verdict on it is the one that counts."""
    asked = queries(request)
    feedback: Feedback = request.app.state.feedback
    found, _ = await feedback.take(request, asked, said.pair_id, said.intention_id, said.verdict, said.reason, said.who)
    return Response(orjson.dumps({"feedback_id": found}), 202, {"Cache-Control": "no-store"}, "application/json")


@router.get("/feedback", response_model=models.Feedback, tags=["intentions"])
async def people(
    request: Request,
    pair: Annotated[Text, Query(min_length=1, max_length=PAIR_ID_CHARACTERS, pattern=_NO_NUL)],
) -> Response:
    """What people say of a pair's intentions, of those that anybody has judged."""
    asked = queries(request)
    found = await asked.people(pair)
    return reply(request, {"items": [{name: row[name] for name in models.Judged.model_fields} for row in found]})


@router.get("/releases", response_model=models.Releases, tags=["the KB"])
async def list_releases(request: Request) -> Response:
    """Dataset releases, newest first."""
    found: Releases = request.app.state.releases
    return reply(request, {"items": await found.newest_first()})
