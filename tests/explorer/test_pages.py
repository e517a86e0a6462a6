"""The pages on a real KB, as a program sees them: every value escaped, light, and of use whatever is asked."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import psycopg
import pytest

from services.common.relations import RELATIONS
from tests.explorer.conftest import HOSTILE, SHOP, Explorer, Filled, insert_pair, insert_product

pytestmark = pytest.mark.integration
PAGES = ("/", "/relations", "/relation?name=UsedFor", "/live", "/releases", "/dead-letters", "/docs", "/basket",
         "/product?id=tripod", "/pair?a=tripod&b=scope", "/search?q=birds", "/search?q=the", "/product?id=nobody",
         "/pair?a=tripod&b=nobody", "/relation?name=x", "/nothing")  # fmt: skip
#: What a page may name: all of it ours.
TAGS = {
    "a", "article", "b", "bdi", "body", "button", "code", "dd", "details", "div", "dl", "dt", "em", "fieldset",
    "footer", "form", "h1", "h2", "h3", "head", "header", "html", "img", "input", "label", "legend", "li", "link",
    "main", "meta", "meter", "nav", "noscript", "ol", "output", "p", "pre", "q", "script", "section", "span", "summary",
    "table", "tbody", "td", "textarea", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags, attributes and words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words += data


def check(html: str) -> Seen:
    """A page that runs nothing but our files."""
    seen = Seen(html)
    for tag, attributes in seen.tags:
        assert tag in TAGS, tag
        assert not any(name.startswith("on") or name == "style" for name in attributes), attributes
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")
        for name in ("src", "href", "action"):
            address = attributes.get(name) or "/"
            assert address.startswith(("/", "#")), address
            assert not address.startswith("//")
    return seen


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_light_and_whole(site: Explorer, path: str) -> None:
    answer = site.ask(path)
    assert answer.status == (404 if "nobody" in path or path in ("/nothing", "/relation?name=x") else 200)
    seen = check(answer.text)
    weight = len(answer.body)
    for tag, attributes in seen.tags:
        own = attributes.get("src") if tag == "script" else attributes.get("href") if tag == "link" else None
        weight += len(site.ask(own).body) if own else 0
    assert weight <= 200_000
    names = [tag for tag, _ in seen.tags]
    assert names.count("h1") == names.count("main") == names.count("header") == names.count("footer") == 1
    assert ("html", {"lang": "en"}) in seen.tags
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("product", HOSTILE)
def test_no_value_becomes_markup(site: Explorer, product: str) -> None:
    text = HOSTILE[product]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/product", {"id": product}),
        ("/pair", {"a": "tripod", "b": product}),
        ("/search", {"q": text[:200]}),
        ("/product", {"id": text[:500]}),
        ("/basket", {"items": text[:4000]}),
        ("/relation", {"name": text[:500]}),
        ("/live", {}),
        ("/", {"q": text[:200]}),
    ]
    for path, values in asked:
        answer = site.ask(path, **values)
        assert answer.status in (200, 303, 404, 422), (path, answer.status)
        seen = check(answer.text)
        assert len(answer.body) <= 190_000
        if path == "/product" and values["id"] == "x-template":
            assert HOSTILE["x-template"] in seen.words


def test_a_product_page_leads_to_its_pairs(site: Explorer, filled: Filled) -> None:
    seen = check(site.ask("/product", id="tripod").text)
    links = {attributes.get("href") for tag, attributes in seen.tags if tag == "a"}
    assert "/pair?a=tripod&b=scope" in links
    assert "/pair?a=tripod&b=odd%2Fid%3F%26%7C%25" in links
    assert f"/media/{filled.picture}" in {attributes.get("src") for tag, attributes in seen.tags if tag == "img"}
    assert SHOP["tripod"] in seen.words
    assert "bought together 12 times" in seen.words


def test_a_pair_page_has_all_relations_and_what_stays(site: Explorer) -> None:
    page = site.ask("/pair", a="scope", b="tripod", threshold="0.9")
    seen = check(page.text)
    assert all(relation.phrase in seen.words for relation in RELATIONS)
    assert "3 of 20 stay" in seen.words
    assert "10 of 20" not in seen.words
    assert "cobuys/0/" in seen.words
    assert "generator/v1" in seen.words
    assert "11 of 20 stay" in check(site.ask("/pair", a="scope", b="tripod").text).words


def test_a_pair_is_shown_as_it_was_judged(site: Explorer, filled: Filled) -> None:
    # By a verdict alone, or at a threshold of its own: a score says nothing of it.
    with psycopg.connect(filled.owner) as connection:
        insert_product(connection, "y-a", "Lamp")
        insert_product(connection, "y-b", "Shade")
        pair = insert_pair(connection, "y-a", "y-b", 1, {})
        said = "UPDATE kb.intentions SET score = %s, accepted = %s, threshold = %s WHERE pair_id = %s AND relation = %s"
        connection.execute(said, [0.1, True, 0.5, pair, "UsedFor"])
        connection.execute(said, [0.6, False, 0.7, pair, "IsA"])
        kept = connection.execute(
            "SELECT count(*) FROM kb.intentions WHERE pair_id = %s AND accepted", [pair]
        ).fetchone()
    assert kept
    page = site.ask("/pair", a="y-a", b="y-b").text
    words = " ".join(check(page).words.split())
    assert f"{kept[0]} of 20 stay" in words
    assert "Judged at 0.50 and 0.70" in words
    assert page.count('class="reason kept"') == page.count('<span class="verdict">kept') == kept[0]


def test_a_picture(site: Explorer, filled: Filled) -> None:
    answer = site.ask(f"/media/{filled.picture}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.body.startswith(b"\x89PNG")
    again = site.ask(f"/media/{filled.picture}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    for name in ("sha256:" + "0" * 64, "..%2f..%2fetc%2fpasswd", "sha256:x", filled.picture.upper()):
        assert site.ask(f"/media/{name}").status == 404


def test_unknown_things_lead_on(site: Explorer) -> None:
    assert "Ids are the shop" in site.ask("/product", id="Tripod").text
    page = site.ask("/pair", a="tripod", b="nobody").text
    assert 'href="/product?id=tripod"' in page
    assert "is not known at all" in page
    assert site.ask("/search").status == 303
    assert site.ask("/search", q="x" * 300).status == 422
    assert site.ask("/basket", items="\n".join(map(str, range(200)))).status == 422
    assert site.ask("/basket", items="x\n" * 10_000).status == 422
    assert site.ask("/pair", a="tripod", b="scope", threshold="nan").status == 422
    assert site.ask("/product", id="tripod", cursor="x").status == 400
