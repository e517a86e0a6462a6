"""Products as model calls take them, made from what records hold."""

from __future__ import annotations

import asyncio

from google.protobuf.timestamp_pb2 import Timestamp
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.provenance_pb2 import ModelCall
from mindstream.inference.v1.common_pb2 import CallInfo, ImageRef, ProductView
from mindstream.inference.v1.intention_generator_pb2 import ProductPair

from services.common.errors import EventFault
from services.common.media import MediaStore
from services.common.records import invalid
from services.common.settings import Settings


async def image_ref(digest: str, media: MediaStore, settings: Settings) -> ImageRef:
    """A picture for a model call: its digest, and its bytes where the server does not reach the media store."""
    if not settings.send_image_bytes:
        return ImageRef(digest=digest)
    try:
        return ImageRef(digest=digest, content=await asyncio.to_thread(media.get, digest))
    except KeyError:
        raise EventFault(reasons.DEAD_LETTER_REASON_IMAGE, f"no picture {digest} in the media store") from None


def checked(featured: FeaturedCoBuy) -> FeaturedCoBuy:
    """`featured` if it says which pair it is and holds both products' features.

    Raises:
        EventFault: it does not.
    """
    if not (featured.cobuy.pair_id and featured.HasField("product_a") and featured.HasField("product_b")):
        raise invalid("pair id or product features are missing")
    return featured


async def product_pair(featured: FeaturedCoBuy, media: MediaStore, settings: Settings) -> ProductPair:
    """Both products of a co-buy with their features."""
    a, b = [await _view(features, media, settings) for features in (featured.product_a, featured.product_b)]
    return ProductPair(pair_id=featured.cobuy.pair_id, product_a=a, product_b=b)


async def _view(features: ProductFeatures, media: MediaStore, settings: Settings) -> ProductView:
    view = ProductView(
        product_id=features.product_id,
        title=features.title,
        description=features.description,
        features=features.features,
        uses=features.uses,
    )
    if features.image_digest:
        view.image.CopyFrom(await image_ref(features.image_digest, media, settings))
    return view


def model_call(info: CallInfo) -> ModelCall:
    """Who answered, as records keep it."""
    return ModelCall(
        model_version=info.model_version,
        prompt_version=info.prompt_version,
        at=now(),
        took=info.computed,
        tokens=info.prompt_tokens + info.generated_tokens,
    )


def now() -> Timestamp:
    """The wall clock."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
