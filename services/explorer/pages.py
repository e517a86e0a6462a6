"""The pages. All work without JavaScript; with it the live page and the threshold move by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from services.common import kb
from services.common.errors import WorldFault
from services.common.media import MediaStore, is_digest
from services.common.pairs import pair_id
from services.common.relations import BY_NAME, RELATIONS
from services.explorer.api import Cursor, Text, matches, queries
from services.explorer.feedback import Feedback
from services.explorer.gate import COOKIE, SESSION_SECONDS, Gate
from services.explorer.limits import ID_CHARACTERS, MOST_CHARACTERS, MOST_ITEMS
from services.explorer.live import Live
from services.explorer.pipeline import LETTERS_LOOKED_AT, Pipeline
from services.explorer.releases import Releases
from services.explorer.rendering import page

router = APIRouter(include_in_schema=False)
Id = Annotated[Text, Query(max_length=ID_CHARACTERS)]
_COBOUGHT, _NEWEST, _FOUND, _OF_RELATION = 24, 12, 20, 50
#: Reasons of each relation on a product's page.
_REASONS = 4
_MOST_LETTERS = 200
#: Seconds that a page waits for counts of the whole KB.
_WAIT = 1.5


@router.get("/")
async def home(request: Request, q: Annotated[Text, Query()] = "") -> Response:
    """Search, with some of what is there."""
    asked = queries(request)
    newest = await asked.newest(_NEWEST * len(RELATIONS))
    counts = None  # A large KB is counted for a while.
    with contextlib.suppress(WorldFault):
        counts = await asked.counts(_WAIT)
    return page(request, "home.html", counts=counts, newest=_varied(newest), q=q[:MOST_CHARACTERS])


@router.get("/search")
async def search(request: Request, q: Annotated[Text, Query()] = "") -> Response:
    """What a search has found."""
    asked = queries(request)
    q = q.strip()
    if not q:
        return RedirectResponse("/", 303)
    if len(q) > MOST_CHARACTERS:
        raise HTTPException(422, f"a search has at most {MOST_CHARACTERS} characters; this has {len(q):,}")
    return page(request, "search.html", q=q, found=await asked.search(q, _FOUND))


@router.get("/product")
async def product(request: Request, id: Id, cursor: Cursor = "") -> Response:
    """A product: what it is, what it is bought with, and why."""
    asked = queries(request)
    found, cobought = await asyncio.gather(asked.product(id), asked.cobought(id, _COBOUGHT, cursor))
    if found is None:
        return page(request, "unknown.html", 404, what="product", named=id)
    reasons = await asked.reasons(cobought.items, _REASONS)
    groups = [(BY_NAME[name], rows, rows[0]["count"]) for name, rows in reasons.items()]
    return page(request, "product.html", product=found, cobought=cobought, groups=groups, cursor=cursor)


@router.get("/pair")
async def pair(
    request: Request,
    a: Id,
    b: Id,
    threshold: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
    told: Annotated[Text, Query(max_length=ID_CHARACTERS)] = "",
) -> Response:
    """A pair: both products, and every relation's reasons, kept or rejected; `told` was judged just now."""
    asked = queries(request)
    feedback = _feedback(request)
    who = feedback.person(request)
    found, people = await asyncio.gather(asked.pair(a, b), asked.people(pair_id(a, b), who))
    if found is None:
        titles = await asked.titles([a, b])
        return page(request, "unknown.html", 404, what="pair", named=f"{a} + {b}", titles=titles, a=a, b=b)
    rows: list[dict[str, Any]] = found["intentions"]
    # As each was judged, which may have been at several thresholds or by a verdict alone, until another one is asked.
    stay = {row["intention_id"]: row["accepted"] if threshold is None else row["score"] >= threshold for row in rows}
    judged = sorted({row["threshold"] for row in rows}) or [0.5]
    groups = [
        (relation, [row for row in rows if row["relation"] == relation.name])
        for relation in sorted(RELATIONS, key=lambda one: _first(rows, one.name))
    ]
    return page(
        request, "pair.html", pair=found, groups=groups, stay=stay, kept=sum(stay.values()), judged=judged,
        threshold=judged[0] if threshold is None else threshold,
        people={row["intention_id"]: row for row in people}, told=told, judging=bool(who),
        nameless=feedback.wanted and not who and feedback.by_login, longest=kb.REASON_CHARACTERS,
    )  # fmt: skip


@router.post("/feedback")
async def judge(request: Request) -> Response:
    """A person's verdict from a pair's page, and back to it."""
    asked = queries(request)
    given = _form(await request.body())
    pair, intention, verdict = (given.get(name, "") for name in ("pair", "intention", "verdict"))
    reason = " ".join(given.get("reason", "").replace("\0", "").split())
    if not pair or not intention or "\0" in pair + intention or verdict not in ("up", "down"):
        raise HTTPException(422, "a verdict names a pair and an intention, and is up or down")
    if len(reason) > kb.REASON_CHARACTERS:
        raise HTTPException(422, f"a reason has at most {kb.REASON_CHARACTERS} characters; this has {len(reason):,}")
    _, products = await _feedback(request).take(request, asked, pair, intention, verdict, reason)
    back = {"a": products["product_a"], "b": products["product_b"], "told": intention}
    return RedirectResponse(f"/pair?{urlencode(back)}#told", 303)


@router.get("/relations")
async def relations(request: Request) -> Response:
    """All relations with their counts."""
    asked = queries(request)
    return page(request, "relations.html", counts=await asked.counts(_WAIT))


@router.get("/relation")
async def relation(request: Request, name: Annotated[str, Query()], cursor: Cursor = "") -> Response:
    """The best of one relation."""
    asked = queries(request)
    if name not in BY_NAME:
        return page(request, "unknown.html", 404, what="relation", named=name)
    found = await asked.intentions(kb.Query(relation=name, accepted_only=True), _OF_RELATION, cursor)
    return page(request, "relation.html", relation=BY_NAME[name], found=found)


@router.get("/live")
async def live(request: Request) -> Response:
    """The pipeline as it runs."""
    asked = queries(request)
    pipeline: Pipeline = request.app.state.pipeline
    newest, flow = await asyncio.gather(asked.newest(_NEWEST), pipeline.flow())
    return page(request, "live.html", newest=newest, flow=flow)


@router.get("/events")
async def events(request: Request) -> Response:
    """What the live page follows."""
    live: Live = request.app.state.live
    if live.full:
        raise HTTPException(503, "as many as may are looking already", {"Retry-After": "30"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(live.events(), 200, headers, "text/event-stream")


@router.get("/releases")
async def releases(request: Request) -> Response:
    """Dataset releases, with the newest one's card."""
    known: Releases = request.app.state.releases
    found = await known.newest_first()
    card = await known.card(found[0]["release_id"]) if found else ""
    return page(request, "releases.html", releases=found, card=card)


@router.get("/releases/{release}/{name:path}")
async def download(request: Request, release: str, name: str) -> Response:
    """A file of a release."""
    known: Releases = request.app.state.releases
    found = await known.file(release, name)
    if found is None:
        return page(request, "unknown.html", 404, what="file", named=f"{release}/{name}")
    size, content = found
    file = name.rpartition("/")[2]
    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{release}-{file}"'}
    return StreamingResponse(content, 200, headers, "application/octet-stream")


@router.get("/dead-letters")
async def dead_letters(request: Request) -> Response:
    """What was set aside, and why."""
    pipeline: Pipeline = request.app.state.pipeline
    answer = await pipeline.dead_letters()
    rows = (answer.found or [])[:_MOST_LETTERS]
    return page(request, "letters.html", answer=answer, rows=rows, looked_at=LETTERS_LOOKED_AT)


@router.get("/basket")
async def basket(request: Request, items: Annotated[Text, Query(max_length=4000)] = "") -> Response:
    """What goes with a basket."""
    asked = queries(request)
    named = [item.strip() for item in items.splitlines() if item.strip()]
    if len(named) > MOST_ITEMS:
        raise HTTPException(422, f"a basket has at most {MOST_ITEMS} products; this has {len(named):,}")
    found = await asked.basket(named, 20) if named else None
    return page(request, "basket.html", items=items, found=found)


@router.get("/media/{digest}")
async def media(request: Request, digest: str) -> Response:
    """A picture. What has a digest never changes."""
    store: MediaStore = request.app.state.media
    etag = f'"{digest}"'
    if is_digest(digest) and matches(request.headers.get("if-none-match", ""), etag):
        return Response(None, 304, {"ETag": etag})
    try:
        async with request.app.state.pictures:  # So many are in memory at once.
            content = await asyncio.to_thread(store.get, digest)
    except KeyError:
        raise HTTPException(404, "the media store has no such picture") from None
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(content, 200, headers, "image/png")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's document, for people."""
    return page(request, "docs.html", document=request.app.openapi())


@router.get("/login")
async def login(request: Request) -> Response:
    """Where a browser shows the token."""
    return page(request, "login.html", wrong=False, named=_feedback(request).wanted)


@router.post("/login")
async def enter(request: Request) -> Response:
    """Take the token, give a session."""
    gate: Gate = request.app.state.gate
    feedback, given = _feedback(request), _form(await request.body())
    if not gate.is_token(given.get("token", "")):
        return page(request, "login.html", 401, wrong=True, named=feedback.wanted)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE,
        gate.session(feedback.hashed(given.get("name", ""))),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


def _feedback(request: Request) -> Feedback:
    found: Feedback = request.app.state.feedback
    return found


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form, each once."""
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _varied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some of the rows: accepted ones, each of another pair."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["accepted"] and row["score"] > chosen.get(row["pair_id"], {"score": 0.0})["score"]:
            chosen[row["pair_id"]] = row
    return list(chosen.values())[:_NEWEST]


def _first(rows: list[dict[str, Any]], relation: str) -> int:
    """Where a relation's best stands among all; behind all where it has none."""
    return next((place for place, row in enumerate(rows) if row["relation"] == relation), len(rows))
