"""Pages: templates that escape every value, and what they share."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from models.demo import NOTICE, speaks_in
from services.common.dead_letters import service_version
from services.common.media import is_digest

HERE = Path(__file__).parent
#: A title on a page; the API gives it whole.
_TITLE_CHARACTERS = 160
#: A page names the same few products in dozens of links.
_quoted = lru_cache(1024)(quote_plus)


def clip(text: str, most: int = _TITLE_CHARACTERS) -> str:
    """A text that a page has room for."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _link(path: str, **values: Any) -> str:
    """A link of ours; what is empty is left out."""
    asked = "&".join(
        f"{name}={_quoted(str(value))}" for name, value in values.items() if value not in ("", None, False)
    )
    return f"{path}?{asked}" if asked else path


def _picture(digest: str) -> str:
    """A picture's address; empty where there is none."""
    return f"/media/{digest}" if is_digest(digest) else ""


def _moment(value: datetime | None) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if value else "not said"


def _ticked(text: str) -> Markup:
    """A text in which what stands between backticks is code."""
    parts = (
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


class _Templates(Environment):
    """Whose `row.title` does not first look for an attribute of a dictionary: most of what a page names are columns."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute as a template names it."""
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)


_templates = _Templates(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.filters.update(clip=clip, moment=_moment, ticked=_ticked, number=lambda value: f"{value:,}")
_templates.globals.update(link=_link, picture=_picture, demo_words=speaks_in, demo_notice=NOTICE)
_templates.globals.update(version=service_version(), retry=0)


def page(
    request: Request, template: str, code: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """A page; `values` are the template's. Pages tell of now: a browser asks again."""
    html = _templates.get_template(template).render(
        path=request.url.path, gated=request.app.state.gate.how == "token", **values
    )
    headers = {"Cache-Control": "no-cache", **(headers or {})}
    return Response(html.encode("utf-8", "replace"), code, headers, "text/html; charset=utf-8")
