"""The prefix of a pair: both products in words, and their pictures stacked; the generator's and the filter's alike."""

from __future__ import annotations

from mindstream.inference.v1.intention_generator_pb2 import ProductPair

from services.lvlm.calls import Calls
from services.lvlm.engine import Prefix
from services.lvlm.pictures import stacked
from services.lvlm.prompts import PromptFile, described
from services.lvlm.statuses import InvalidRequest


def pair_prefix(calls: Calls, prompts: PromptFile, pair: ProductPair, place: str) -> Prefix:
    """The shared beginning of all of a pair's prompts.

    Raises:
        InvalidRequest: a title is missing; `place` is the pair's path in the request.
        ImageNotFound: a picture is not in the media store.
    """
    for name, product in (("product_a", pair.product_a), ("product_b", pair.product_b)):
        if not product.title.strip():
            raise InvalidRequest(f"{place}.{name}.title", "is empty")
    products = (pair.product_a, pair.product_b)
    pictures = [
        calls.picture(product.image, f"{place}.{name}.image")
        for name, product in zip(("product_a", "product_b"), products, strict=True)
        if product.HasField("image")
    ]
    # One picture alone would not say whose it is: pictures are shown when both have one.
    images = (stacked(pictures),) if len(pictures) == len(products) else ()
    opening = prompts["with_pictures" if images else "without_pictures"]
    names = prompts["products"].format(a=described(pair.product_a), b=described(pair.product_b))
    return Prefix(opening + names, images)
