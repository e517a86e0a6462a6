"""What goes wrong, as the one who asked can read it: problem+json (RFC 9457) for programs, a page for people."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.explorer.rendering import page

API = "/api/"
RETRY_SECONDS = 5


def wants_json(path: str) -> bool:
    """Whether a path is of programs."""
    return path.startswith((API, "/openapi.json", "/media/", "/events"))


def problem(request: Request, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """A refusal with one line for people."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    title = HTTPStatus(status).phrase
    if wants_json(request.url.path):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return Response(content, status, headers, "application/problem+json")
    return page(request, "problem.html", status, headers, title=title, detail=detail, status=status, **more)


def away(request: Request, detail: str) -> Response:
    """Something outside is away: try again soon. A page does so by itself, where it only asked for something."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    if wants_json(request.url.path):
        return problem(request, 503, detail, headers)
    return problem(request, 503, detail, headers, retry=RETRY_SECONDS if request.method == "GET" else 0)
