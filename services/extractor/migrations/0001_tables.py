"""Products, their features, and admitted pairs."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the extractor's tables."""
    op.execute("""
        CREATE TABLE extractor.products (
            product_id   text PRIMARY KEY,
            title        text NOT NULL,
            image_digest text NOT NULL,
            -- Where the newest version stood: an older record never overwrites a newer one.
            partition    int NOT NULL,
            "offset"     bigint NOT NULL,
            updated_at   timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE extractor.features (
            product_id       text NOT NULL,
            content_digest   text NOT NULL,
            pipeline_version text NOT NULL,
            -- A serialized mindstream.events.v1.ProductFeatures.
            features         bytea NOT NULL,
            -- The event whose extraction this was: it publishes the features, also when it is done again.
            origin           text NOT NULL,
            PRIMARY KEY (product_id, content_digest, pipeline_version)
        )
    """)
    op.execute("""
        CREATE TABLE extractor.admitted (
            pair_id          text NOT NULL,
            pipeline_version text NOT NULL,
            -- First offset wins; the same event may come again.
            origin           text NOT NULL,
            admitted_at      timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (pair_id, pipeline_version)
        )
    """)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE extractor.admitted, extractor.features, extractor.products")
