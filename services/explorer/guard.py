"""What every request passes: host, rate, authentication and size before it, headers behind it, and the count of it."""

from __future__ import annotations

import math
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import metrics
from services.explorer.gate import COOKIE, Gate
from services.explorer.problems import problem, wants_json

#: A basket of the most items with long ids fits.
MAX_BODY_BYTES = 65_536
_TOO_LARGE = f"a request holds at most {MAX_BODY_BYTES} bytes"
#: For anybody: how a page looks, and where the token is shown.
_OPEN = ("/static/", "/login")
#: Methods that change nothing.
_ASKING = ("GET", "HEAD", "OPTIONS")
#: Nothing but what we serve ourselves, and no script within a page: an injected one would not run.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Also what lets a browser say `Origin` of our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


class _TooLarge(HTTPException):
    """Raised to whoever reads the body, who passes on what is HTTP's."""

    def __init__(self) -> None:
        super().__init__(413, _TOO_LARGE)


class Guard:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = time.perf_counter(), 500, 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_RAW_HEADERS]
            await send(message)

        async def receiving() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        request = Request(scope, receiving)
        refusal = self._refusal(request)
        try:
            if refusal is not None:
                await refusal(scope, receiving, sending)
            else:
                await self._app(scope, receiving, sending)
        finally:
            route = getattr(scope.get("route"), "path", "") or "other"
            metrics.EXPLORER_REQUESTS.labels(route, str(status)).inc()
            if route != "/events":  # It lasts as long as somebody looks.
                metrics.EXPLORER_SECONDS.labels(route).observe(time.perf_counter() - began)

    def _refusal(self, request: Request) -> Response | None:
        headers, path = request.headers, request.scope["path"]
        if not self._gate.knows_host(headers.get("host", "")):
            return problem(request, 400, "without authentication this explorer answers to loopback's own names only")
        wait = self._gate.wait(request.client.host if request.client else "")
        if wait:
            return problem(request, 429, "too many requests", {"Retry-After": str(math.ceil(wait))})
        if request.method not in _ASKING and foreign(headers):
            return problem(request, 403, "another site's page asks for this")
        shown = headers.get("authorization", ""), request.cookies.get(COOKIE, "")
        if not path.startswith(_OPEN) and not self._gate.admits(*shown):
            if wants_json(path):
                return problem(request, 401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
            return RedirectResponse("/login", 303)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return problem(request, 413, _TOO_LARGE)
        return None


def foreign(headers: Headers) -> bool:
    """Whether a browser asks on behalf of another site, with whatever lets its user in here.

    `Sec-Fetch-Site` says so, and `Origin` where that is missing (plain HTTP); programs send neither.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
