"""Products into the catalogue; co-buys into co-buys with features."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.product_pb2 import Image, Product
from mindstream.inference.v1.common_pb2 import ProductView
from mindstream.inference.v1.feature_extractor_pb2 import ExtractRequest, ExtractResponse
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub

from services.common import metrics, titles, topics
from services.common.errors import EventFault, Parked, ServerCrashed, WorldFault
from services.common.ids import content_digest
from services.common.media import MediaStore
from services.common.modelcalls import call, open_channel
from services.common.pairs import normalised as normalised_pair
from services.common.postgres import migrate
from services.common.readiness import database_trouble, model_trouble
from services.common.records import Output, Record, check_id, check_outputs, decode, invalid, output
from services.common.runtime.isolation import ISOLATE
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings
from services.common.views import image_ref, model_call, now
from services.extractor import images
from services.extractor.decoders import Decoders
from services.extractor.store import MIGRATIONS, SCHEMA, Store, StoredProduct

NAME = "extractor"


class Extractor:
    """The stage's handlers and what they hold.

    Features are kept per product content and pipeline version: raise the pipeline version when the model changes, and
    every product is described anew by it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._media = MediaStore(settings.media_url)
        self._decoders = Decoders(settings)
        #: One extraction at a time per content, so that co-buys of one product share it.
        self._extracting: dict[str, asyncio.Lock] = {}

    def stage(self) -> Stage:
        """The stage for the runtime."""
        routes = [Route(topics.PRODUCTS, self.product), Route(topics.COBUYS, self.cobuy)]
        return Stage(NAME, routes, trouble=self._trouble, start=self._start, stop=self._stop)

    async def _start(self) -> None:
        for picture in ("with", "without"):  # At zero before the first; see `metrics.begin`.
            metrics.PRODUCTS_FEATURED.labels(picture)
        await asyncio.to_thread(migrate, self._settings.postgres_dsn.get_secret_value(), SCHEMA, MIGRATIONS)
        self._store = Store(self._settings.postgres_dsn.get_secret_value())
        await self._store.open()
        self._channel = open_channel(self._settings.extractor_target, self._settings)
        self._stub = FeatureExtractorStub(self._channel)

    async def _trouble(self) -> str:
        dsn = self._settings.postgres_dsn.get_secret_value()
        return await model_trouble(self._channel) or await database_trouble(dsn)

    async def _stop(self) -> None:
        await self._decoders.close()
        await self._channel.close()
        await self._store.close()

    async def product(self, record: Record) -> Result:
        """Keep a product: its title, and its picture by digest. A tombstone (no value) takes it out."""
        if not record.value:
            return await self._delete(record)
        product = decode(record, Product, json_allowed=True)
        check_id("product_id", product.product_id)
        title = titles.checked(product.title, self._settings.title_max_chars)
        digest = await self._picture(product.image) if product.HasField("image") else ""
        source = record.source
        await self._store.upsert_product(
            StoredProduct(product.product_id, title, digest), source.partition, source.offset
        )
        return Result()

    async def _delete(self, record: Record) -> Result:
        try:
            product_id = check_id("the tombstone's key", (record.key or b"").decode())
        except UnicodeDecodeError:
            raise invalid("the tombstone's key is not UTF-8") from None
        source = record.source
        await self._store.delete_product(product_id, source.partition, source.offset)
        return Result()

    async def _picture(self, image: Image) -> str:
        kind = image.WhichOneof("source")
        if kind == "digest":
            if not await asyncio.to_thread(self._media.has, image.digest):
                raise EventFault(reasons.DEAD_LETTER_REASON_IMAGE, f"no picture {image.digest[:80]} in the media store")
            return image.digest
        if kind is None:
            return ""
        content = image.content if kind == "content" else await images.fetch(image.url, self._settings)
        return await asyncio.to_thread(self._media.put, await self._decoders.normalised(content))

    async def cobuy(self, record: Record) -> Result:
        """Join both products, admit the pair once, and add features."""
        cobuy = normalised_pair(decode(record, CoBuy, json_allowed=True))
        known = await self._store.products(cobuy.product_a, cobuy.product_b)
        for product_id in (cobuy.product_a, cobuy.product_b):
            if product_id not in known:
                raise Parked(reasons.DEAD_LETTER_REASON_UNKNOWN_PRODUCT, f"no product {product_id!r} in the catalogue")
        version, origin = self._settings.pipeline_version, record.idempotency_key
        if not await self._store.admit(cobuy.pair_id, version, origin):
            return Result(outcome="duplicate", count=metrics.ADMISSION_DUPLICATES.labels(NAME).inc)
        try:
            made = await self._both(known[cobuy.product_a], known[cobuy.product_b], origin)
            featured = FeaturedCoBuy(
                cobuy=cobuy,
                product_a=made[0][0],
                product_b=made[1][0],
                source=record.source,
                pipeline_version=version,
                featured_at=now(),
            )
            outputs = [self._published(features, record) for features, first in made if first == origin]
            name = topics.FEATURED.name(self._settings)
            outputs.append(output(topics.FEATURED, name, cobuy.pair_id, featured, stage=NAME, cause=record))
            check_outputs(outputs, self._settings.event_max_bytes)
        except Exception as fault:
            # It may become a dead letter; what waits for the world does not.
            if isinstance(fault, ServerCrashed) or not isinstance(fault, WorldFault):
                await self._store.release(cobuy.pair_id, list(known), version, origin)
            raise
        return Result(outputs, count=lambda: _count(featured))

    def _published(self, features: ProductFeatures, record: Record) -> Output:
        name = topics.FEATURES.name(self._settings)
        return output(topics.FEATURES, name, features.product_id, features, stage=NAME, cause=record)

    async def _both(self, a: StoredProduct, b: StoredProduct, origin: str) -> list[tuple[ProductFeatures, str]]:
        """Features of both; over when both are, so that nothing is kept after a failure was dealt with."""
        made = await asyncio.gather(self._features(a, origin), self._features(b, origin), return_exceptions=True)
        faults = [one for one in made if isinstance(one, BaseException)]
        if faults:
            # What says most of the event: its own fault, then a crash over it, then the world's.
            raise min(faults, key=lambda one: (not isinstance(one, EventFault), not isinstance(one, ServerCrashed)))
        return [one for one in made if not isinstance(one, BaseException)]

    async def _features(self, product: StoredProduct, origin: str) -> tuple[ProductFeatures, str]:
        """A product's features and the event that publishes them."""
        digest, version = content_digest(product.title, product.image_digest), self._settings.pipeline_version
        kept = await self._store.features(product.product_id, digest, version, origin)
        if kept:
            return kept
        async with self._sharing(f"{product.product_id}/{digest}"):
            kept = await self._store.features(product.product_id, digest, version, origin)
            if kept:
                return kept
            features = await self._extract(product, digest)
            await self._store.keep_features(features, version, origin)
            stored = await self._store.features(product.product_id, digest, version, origin)
            assert stored is not None
            return stored

    @contextlib.asynccontextmanager
    async def _sharing(self, key: str) -> AsyncIterator[None]:
        lock = self._extracting.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._extracting.pop(key, None)

    async def _extract(self, product: StoredProduct, digest: str) -> ProductFeatures:
        view = ProductView(product_id=product.product_id, title=product.title)
        if product.image_digest:
            view.image.CopyFrom(await image_ref(product.image_digest, self._media, self._settings))
        request = ExtractRequest(idempotency_key=digest, products=[view], isolate=ISOLATE.get())
        answer = await call(
            NAME, self._stub.Extract, request, ExtractResponse, self._settings.call_timeout_seconds, self._media
        )
        features = ProductFeatures(
            product_id=product.product_id,
            title=product.title,
            image_digest=product.image_digest,
            content_digest=digest,
            description=answer.products[0].description,
            features=answer.products[0].features,
            uses=answer.products[0].uses,
        )
        features.extracted_by.CopyFrom(model_call(answer.call))
        return features


def _count(featured: FeaturedCoBuy) -> None:
    for product in (featured.product_a, featured.product_b):
        metrics.PRODUCTS_FEATURED.labels("with" if product.image_digest else "without").inc()
