"""The extractor's tables in PostgreSQL. Every write may be done again with the same outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindstream.events.v1.features_pb2 import ProductFeatures
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from services.common.postgres import world_faults

SCHEMA = "extractor"
MIGRATIONS = Path(__file__).parent / "migrations"
_CONNECTIONS = 4
_FEATURES = """
    SELECT features, origin FROM extractor.features
    WHERE product_id = %s AND content_digest = %s AND pipeline_version = %s
"""
_CLAIM = """
    UPDATE extractor.features SET origin = %s
    WHERE product_id = %s AND content_digest = %s AND pipeline_version = %s AND origin = ''
"""


@dataclass(frozen=True)
class StoredProduct:
    """A product as the catalogue has it now."""

    product_id: str
    title: str
    image_digest: str


class Store:
    """Products, features and admitted pairs.

    All methods raise WorldFault when the database is away, EventFault for ids that its indexes cannot hold.
    """

    def __init__(self, dsn: str) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            dsn, min_size=1, max_size=_CONNECTIONS, open=False, timeout=5, check=AsyncConnectionPool.check_connection
        )

    async def open(self) -> None:
        """Connect in the background."""
        await self._pool.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        with world_faults():
            async with self._pool.connection() as connection:
                yield connection

    async def upsert_product(self, product: StoredProduct, partition: int, offset: int) -> None:
        """Keep a product, unless a later record of it was kept before."""
        async with self._connection() as connection:
            await connection.execute(
                """
                INSERT INTO extractor.products (product_id, title, image_digest, partition, "offset")
                VALUES (%s, %s, %s, %s, %s)
                ON CONFLICT (product_id) DO UPDATE
                SET title = excluded.title, image_digest = excluded.image_digest, deleted = false,
                    partition = excluded.partition, "offset" = excluded."offset", updated_at = now()
                WHERE products.partition <> excluded.partition OR products."offset" < excluded."offset"
                """,
                (product.product_id, product.title, product.image_digest, partition, offset),
            )

    async def delete_product(self, product_id: str, partition: int, offset: int) -> None:
        """Take a product out, unless a later record of it was kept before; an older one does not bring it back."""
        async with self._connection() as connection:
            await connection.execute(
                """
                INSERT INTO extractor.products (product_id, title, image_digest, deleted, partition, "offset")
                VALUES (%s, '', '', true, %s, %s)
                ON CONFLICT (product_id) DO UPDATE
                SET title = '', image_digest = '', deleted = true,
                    partition = excluded.partition, "offset" = excluded."offset", updated_at = now()
                WHERE products.partition <> excluded.partition OR products."offset" < excluded."offset"
                """,
                (product_id, partition, offset),
            )

    async def products(self, *product_ids: str) -> dict[str, StoredProduct]:
        """Those of the products that are known."""
        async with self._connection() as connection:
            rows = await connection.execute(
                "SELECT product_id, title, image_digest FROM extractor.products "
                "WHERE product_id = ANY(%s) AND NOT deleted",
                (list(product_ids),),
            )
            return {row[0]: StoredProduct(*row) async for row in rows}

    async def admit(self, pair_id: str, pipeline_version: str, origin: str) -> bool:
        """Whether the event at `origin` has the pair: it is the first, or the same again."""
        async with self._connection() as connection:
            await connection.execute(
                "INSERT INTO extractor.admitted (pair_id, pipeline_version, origin) VALUES (%s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                (pair_id, pipeline_version, origin),
            )
            row = await connection.execute(
                "SELECT origin FROM extractor.admitted WHERE pair_id = %s AND pipeline_version = %s",
                (pair_id, pipeline_version),
            )
            held = await row.fetchone()
            return held is not None and held[0] == origin

    async def release(self, pair_id: str, product_ids: Sequence[str], pipeline_version: str, origin: str) -> None:
        """Give back what an event holds that may become a dead letter: another, or its replay, has it next.

        That is the admission of its pair, and the right to publish the features that it extracted.
        """
        async with self._connection() as connection:
            await connection.execute(
                "DELETE FROM extractor.admitted WHERE pair_id = %s AND pipeline_version = %s AND origin = %s",
                (pair_id, pipeline_version, origin),
            )
            await connection.execute(
                "UPDATE extractor.features SET origin = '' "
                "WHERE product_id = ANY(%s) AND pipeline_version = %s AND origin = %s",
                (list(product_ids), pipeline_version, origin),
            )

    async def features(
        self, product_id: str, content_digest: str, pipeline_version: str, origin: str
    ) -> tuple[ProductFeatures, str] | None:
        """Features and the event that publishes them: the one at `origin` where there was none; None without any."""
        key = (product_id, content_digest, pipeline_version)
        async with self._connection() as connection:
            row = await (await connection.execute(_FEATURES, key)).fetchone()
            if row and not row[1]:
                await connection.execute(_CLAIM, (origin, *key))
                row = await (await connection.execute(_FEATURES, key)).fetchone()
            return (ProductFeatures.FromString(bytes(row[0])), row[1]) if row else None

    async def keep_features(self, features: ProductFeatures, pipeline_version: str, origin: str) -> None:
        """Keep features; the first ones stay when another worker was quicker."""
        async with self._connection() as connection:
            await connection.execute(
                "INSERT INTO extractor.features (product_id, content_digest, pipeline_version, features, origin) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (
                    features.product_id,
                    features.content_digest,
                    pipeline_version,
                    features.SerializeToString(deterministic=True),
                    origin,
                ),
            )
