"""`python -m tests.explorer.pictures http://127.0.0.1:PORT docs/figures`: the pages as docs/explorer.md shows them.

The address is what `make demo KEEP=1` ends with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.explorer.test_browser import CHROMIUM, PHONE

_DESK: ViewportSize = {"width": 1100, "height": 760}
#: File, address, colours and size; of a product and a pair the addresses are those of the first card.
_PICTURES: tuple[tuple[str, str, Literal["light", "dark"], ViewportSize], ...] = (
    ("home", "/", "light", _DESK),
    ("search", "/search?q=picturs", "light", _DESK),
    ("product-dark", "product", "dark", _DESK),
    ("pair", "pair", "light", _DESK),
    ("pair-phone", "pair", "dark", PHONE),
    ("relations", "/relations", "light", _DESK),
    ("live", "/live", "dark", _DESK),
    ("releases", "/releases", "light", _DESK),
    ("dead-letters", "/dead-letters", "light", _DESK),
    ("api", "/docs", "light", _DESK),
)


def take(browser: Browser, address: str, out: Path) -> None:
    """Write all pictures of the explorer at an address."""
    page = browser.new_page(base_url=address)
    page.goto("/")
    pair = page.locator("a.why").first.get_attribute("href") or ""
    page.goto(pair)
    product = page.locator("a[href^='/product?']").first.get_attribute("href") or ""
    page.close()
    for name, path, colours, size in _PICTURES:
        context = browser.new_context(
            base_url=address, color_scheme=colours, viewport=size, is_mobile=size is PHONE, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto({"pair": pair, "product": product}.get(path, path))
        page.wait_for_load_state("load")
        page.screenshot(path=out / f"explorer-{name}.png")
        context.close()


def main() -> int:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer.pictures", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        take(browser, asked.address, asked.out)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
