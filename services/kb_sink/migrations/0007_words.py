"""Words as columns: what a search compares.

With an index over an expression alone, PostgreSQL makes a row's words anew whenever it has the row before it: to go
down the scores until enough rows have a word of middling frequency, and to rank products. It also keeps no numbers of
an index of some rows only, and how common a word is decides which way a search goes.

Every row is written anew, under a lock.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_OF_REASON = "to_tsvector('english', left(text, 2000))"
_OF_PRODUCT = (
    "setweight(to_tsvector('english', left(title, 2000)), 'A') || to_tsvector('english', left(description, 2000))"
)


def upgrade() -> None:
    """Add the columns, and have the indexes over them. Reasons that were rejected are not searched."""
    op.execute("SET LOCAL maintenance_work_mem = '256MB'")
    op.execute("DROP INDEX kb.products_words, kb.intentions_words")
    op.execute(
        "ALTER TABLE kb.intentions ADD COLUMN words tsvector "
        f"GENERATED ALWAYS AS (CASE WHEN accepted THEN {_OF_REASON} END) STORED"
    )
    op.execute(f"ALTER TABLE kb.products ADD COLUMN words tsvector GENERATED ALWAYS AS ({_OF_PRODUCT}) STORED")
    op.execute("CREATE INDEX intentions_words ON kb.intentions USING gin (words) WHERE accepted")
    op.execute("CREATE INDEX products_words ON kb.products USING gin (words)")


def downgrade() -> None:
    """Back to indexes over expressions."""
    op.execute("ALTER TABLE kb.products DROP COLUMN words")
    op.execute("ALTER TABLE kb.intentions DROP COLUMN words")
    op.execute(f"CREATE INDEX intentions_words ON kb.intentions USING gin ({_OF_REASON}) WHERE accepted")
    op.execute(f"CREATE INDEX products_words ON kb.products USING gin (({_OF_PRODUCT}))")
