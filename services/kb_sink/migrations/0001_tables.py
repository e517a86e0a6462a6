"""The knowledge base: product snapshots, pairs, intentions; the sink's offsets; releases."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the KB's tables."""
    op.execute("""
        CREATE TABLE kb.products (
            product_id     text NOT NULL,
            -- sha256 over title and picture: one snapshot per content and model.
            content_digest text NOT NULL,
            model_version  text NOT NULL,
            prompt_version text NOT NULL,
            title          text NOT NULL,
            image_digest   text NOT NULL,
            description    text NOT NULL,
            features       text[] NOT NULL,
            uses           text[] NOT NULL,
            extracted_at   timestamptz NOT NULL,
            PRIMARY KEY (product_id, content_digest, model_version, prompt_version)
        )
    """)
    op.execute("""
        CREATE TABLE kb.pairs (
            pair_id    text PRIMARY KEY,
            product_a  text NOT NULL,
            product_b  text NOT NULL,
            support    bigint NOT NULL,
            first_seen timestamptz,
            last_seen  timestamptz
        )
    """)
    op.execute("CREATE INDEX ON kb.pairs (product_a)")
    op.execute("CREATE INDEX ON kb.pairs (product_b)")
    op.execute("""
        CREATE TABLE kb.intentions (
            intention_id       text PRIMARY KEY,
            pair_id            text NOT NULL,
            relation           text NOT NULL,
            text               text NOT NULL,
            sample             int NOT NULL,
            tokens             int NOT NULL,
            score              double precision NOT NULL,
            accepted           boolean NOT NULL,
            threshold          double precision NOT NULL,
            -- Provenance: the co-buy's record, the contents shown, each model with its prompt and time.
            source_topic       text NOT NULL,
            source_partition   int NOT NULL,
            source_offset      bigint NOT NULL,
            source_event_id    text NOT NULL,
            pipeline_version   text NOT NULL,
            content_digest_a   text NOT NULL,
            content_digest_b   text NOT NULL,
            extractor_model_a  text NOT NULL,
            extractor_prompt_a text NOT NULL,
            extractor_model_b  text NOT NULL,
            extractor_prompt_b text NOT NULL,
            generator_model    text NOT NULL,
            generator_prompt   text NOT NULL,
            filter_model       text NOT NULL,
            filter_prompt      text NOT NULL,
            generated_at       timestamptz NOT NULL,
            judged_at          timestamptz NOT NULL,
            written_at         timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX ON kb.intentions (pair_id)")
    op.execute("CREATE INDEX ON kb.intentions (relation, score DESC)")
    op.execute("CREATE INDEX ON kb.intentions (judged_at)")
    op.execute("""
        CREATE TABLE kb.offsets (
            topic       text NOT NULL,
            partition   int NOT NULL,
            -- The next offset to read.
            next_offset bigint NOT NULL,
            PRIMARY KEY (topic, partition)
        )
    """)
    op.execute("""
        CREATE TABLE kb.releases (
            release_id   text PRIMARY KEY,
            intentions   bigint NOT NULL,
            published_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TABLE kb.releases, kb.offsets, kb.intentions, kb.pairs, kb.products")
