"""The pages in a real Chromium: clicks, the threshold, the live page, nothing that runs, and axe-core."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from services.common import kafka, topics
from services.common.settings import Settings
from tests.explorer.conftest import (
    FEEDBACK_KEY,
    HOSTILE,
    Explorer,
    Filled,
    explorer,
    insert_pair,
    insert_product,
    wait_for,
)
from tests.kb_sink.test_sink import sink

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]
PHONE: ViewportSize = {"width": 360, "height": 740}
PAGES = ("/", "/search?q=birds", "/product?id=tripod", "/pair?a=tripod&b=scope", "/relations", "/relation?name=IsA",
         "/live", "/releases", "/dead-letters", "/basket?items=scope", "/docs", "/product?id=nobody")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root has no sandbox to give; every page here is our own.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page, and what a browser complains of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))


@pytest.fixture(params=["light", "dark"])
def watched(browser: Browser, site: Explorer, request: pytest.FixtureRequest) -> Iterator[Watched]:
    context = browser.new_context(base_url=site.url, color_scheme=request.param, reduced_motion="reduce")
    yield Watched(context.new_page())
    context.close()


@pytest.fixture
def plain(browser: Browser, site: Explorer) -> Iterator[Page]:
    """A page without JavaScript, on a phone."""
    context = browser.new_context(base_url=site.url, java_script_enabled=False, viewport=PHONE, is_mobile=True)
    yield context.new_page()
    context.close()


def test_three_clicks_from_the_first_page_to_where_a_reason_comes_from(watched: Watched) -> None:
    page = watched.page
    page.goto("/")
    page.get_by_role("link", name="Tripod").first.click()
    expect(page.get_by_text("of 20 stay")).to_be_visible()
    page.get_by_text("Where it comes from").first.click()
    expect(page.get_by_text("cobuys/0/0")).to_be_visible()
    page.get_by_role("link", name="Tripod").first.click()
    expect(page.get_by_role("heading", name="Bought together with")).to_be_visible()
    assert watched.said == []


def test_the_threshold_shows_what_would_stay(watched: Watched) -> None:
    page = watched.page
    page.goto("/pair?a=tripod&b=scope")
    expect(page.locator("#kept")).to_have_text("11 of 20 stay")
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("End")
    expect(page.locator("#kept")).to_have_text("1 of 20 stay")
    slider.press("Home")
    expect(page.locator("#kept")).to_have_text("20 of 20 stay")
    assert page.locator(".verdict", has_text="rejected").count() == 0
    assert "threshold=0" in page.url
    assert watched.said == []


def test_a_phone_without_javascript(plain: Page) -> None:
    plain.goto("/")
    plain.get_by_role("searchbox").fill("cameras")
    plain.get_by_role("searchbox").press("Enter")
    plain.get_by_role("link", name="Sturdy Carbon Tripod").first.click()
    plain.get_by_role("link", name="Spotting Scope 60 mm").first.click()
    plain.locator("#threshold").fill("0.9")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_text("3 of 20 stay")).to_be_visible()


def test_a_thumb_by_keyboard_on_a_phone_without_javascript(
    browser: Browser, filled: Filled, settings: Callable[..., Settings]
) -> None:
    made = settings(postgres_dsn=filled.owner)
    ours: dict[str, Any] = {"KAFKA_BOOTSTRAP_SERVERS": made.kafka_bootstrap_servers, "TOPIC_PREFIX": made.topic_prefix}
    process = sink(made)
    try:
        with explorer(filled.reader, filled.folder, EXPLORER_FEEDBACK_KEY=FEEDBACK_KEY, **ours) as site:
            context = browser.new_context(base_url=site.url, java_script_enabled=False, viewport=PHONE, is_mobile=True)
            page = context.new_page()
            page.goto("/pair?a=tripod&b=scope")
            first = page.get_by_role("group", name="Is it a reason that").first
            why = first.get_by_role("textbox", name="Why")
            why.fill("<i>no</i> camera")
            why.press("Enter")  # Which says neither yes nor no.
            no = first.get_by_role("button", name="No reason")
            no.focus()
            no.press("Enter")
            expect(page.get_by_role("status").filter(has_text="taken")).to_be_visible()

            def counted() -> bool:
                page.reload()
                return no.get_attribute("aria-pressed") == "true"

            wait_for(counted, "the verdict is counted")
            expect(no).to_have_text("No reason 1")
            page.get_by_text("Where it comes from").first.click()
            expect(page.get_by_text("<i>no</i> camera")).to_be_visible()
            context.close()
            assert len(list(kafka.read_all(made, topics.FEEDBACK.name(made)))) == 1
    finally:
        process.terminate()
        process.wait(30)
        with psycopg.connect(filled.owner) as owner:
            owner.execute("DELETE FROM kb.feedback")


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_a_phone(plain: Page, path: str) -> None:
    plain.goto(path)
    shown = plain.locator("body").bounding_box()
    assert shown is not None
    assert shown["width"] <= 360


def test_the_keyboard_leads_past_the_navigation(watched: Watched) -> None:
    page = watched.page
    page.goto("/relations")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="RelatedTo")).to_be_focused()


def test_new_intentions_arrive_by_themselves_and_as_text(watched: Watched, filled: Filled) -> None:
    page = watched.page
    page.goto("/live")
    expect(page.locator("#pulse")).to_have_text("following")
    # Kafka is away, which is told once the follower is at work.
    expect(page.locator("#trouble")).to_contain_text("Kafka")
    title = "Live & <img src=x onerror='window.hacked=1'>"
    with psycopg.connect(filled.owner) as owner:
        insert_product(owner, "live-new", title)
        insert_pair(owner, "live-new", "tent", 1, {"IsA": title})
    try:
        expect(page.locator("#newest bdi", has_text=title).first).to_be_visible()
        assert page.evaluate("window.hacked") is None
    finally:
        with psycopg.connect(filled.owner) as owner:
            for table in ("intentions", "pairs"):
                owner.execute(f"DELETE FROM kb.{table} WHERE pair_id LIKE 'live-%%'")
            owner.execute("DELETE FROM kb.products WHERE product_id = 'live-new'")


def test_nothing_that_a_title_says_runs(watched: Watched) -> None:
    page = watched.page
    of_products = [path for product in HOSTILE for path in (f"/product?id={product}", f"/pair?a=tripod&b={product}")]
    for path in (*of_products, "/live", "/"):
        page.goto(path)
        assert page.evaluate("window.hacked") is None
        assert page.locator("svg, style, iframe, [onerror], [onload]").count() == 0
    assert watched.said == []


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(watched: Watched, path: str) -> None:
    watched.page.goto(path)
    found: list[dict[str, Any]] = Axe().run(watched.page).response["violations"]
    assert [(one["id"], one["impact"], [node["target"] for node in one["nodes"]]) for one in found] == []
