"""Rows of Amazon's product metadata, as its two collections have them, into products and co-buys.

2018: Ni, Li and McAuley, "Justifying recommendations using distantly-labeled reviews and fine-grained aspects", EMNLP
2019 (`meta_*.json.gz`). 2023: Hou et al., "Bridging language and items for retrieval and recommendation", arXiv
2403.03952 (`meta_*.jsonl.gz`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mindstream.events.v1.product_pb2 import Product

from services.common import titles
from services.common.records import check_id, invalid

#: Of titles that were cut out of a page: what a script of that page says, as the collection's own notebook tells them.
_SCRIPT = "getTime("
#: Markup that stands in titles; what else is between angle brackets may be meant.
_TAG = re.compile(r"</?(?:a|b|br|div|em|font|i|p|small|span|strong|sub|sup|u)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_HTTP = ("http://", "https://")


class Listed(NamedTuple):
    """A product, and the ids of those that were bought with it: texts, which may be no ids."""

    product: Product
    also: list[str]


Parse = Callable[[dict[str, Any], int], Listed]


def of_2018(row: dict[str, Any], title_max_chars: int) -> Listed:
    """A row of 2018: `asin`, `title`, `imageURLHighRes` (or `imageURL`, `image`), `also_buy`.

    Raises:
        EventFault: a field is missing, of another type, or says what no product may.
    """
    urls = next(filter(None, map(row.get, ("imageURLHighRes", "imageURL", "image"))), "")
    if type(urls) is list:
        urls = urls[0]
    return _listed(row, "asin", urls, "also_buy", title_max_chars)


def of_2023(row: dict[str, Any], title_max_chars: int) -> Listed:
    """A row of 2023: `parent_asin`, `title`, `images` (the one whose `variant` is MAIN), `bought_together`.

    Raises:
        EventFault: as `of_2018`.
    """
    images = row.get("images") or []
    if type(images) is not list or any(type(image) is not dict for image in images):
        raise invalid("images is not a list of objects")
    main = next((image for image in images if image.get("variant") == "MAIN"), images[0] if images else {})
    url = next(filter(None, map(main.get, ("hi_res", "large", "thumb"))), "")
    return _listed(row, "parent_asin", url, "bought_together", title_max_chars)


SOURCES: dict[str, Parse] = {"amazon-2018": of_2018, "amazon-2023": of_2023}


def _listed(row: dict[str, Any], id_name: str, url: Any, also_name: str, title_max_chars: int) -> Listed:
    product_id = row.get(id_name)
    if type(product_id) is not str:
        raise invalid(f"{id_name} is missing or not a text")
    product = Product(product_id=check_id(id_name, product_id), title=_title(row, title_max_chars))
    if url:
        if type(url) is not str or not url.startswith(_HTTP):
            raise invalid("the picture's address is no http(s) URL")
        product.image.url = url
    also = row.get(also_name) or []
    if type(also) is not list:
        raise invalid(f"{also_name} is not a list")
    if not {*map(type, also)} <= {str}:
        raise invalid(f"{also_name} holds something that is not a text")
    return Listed(product, also)


def _title(row: dict[str, Any], max_chars: int) -> str:
    title = row.get("title")
    if type(title) is not str:
        raise invalid("title is missing or not a text")
    if _SCRIPT in title:
        raise invalid("title is a script of the page that it was cut out of")
    if "<" in title:
        title = " ".join(_TAG.sub(" ", title).split())
    return titles.checked(title, max_chars)
