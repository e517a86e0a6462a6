"""The best supported pairs of a product by an index: a popular product has thousands, and a page shows the first."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Put the support into the indexes of both sides."""
    op.execute("DROP INDEX kb.pairs_product_a_idx, kb.pairs_product_b_idx")
    op.execute("CREATE INDEX pairs_product_a_idx ON kb.pairs (product_a, support DESC, pair_id)")
    op.execute("CREATE INDEX pairs_product_b_idx ON kb.pairs (product_b, support DESC, pair_id)")


def downgrade() -> None:
    """Back to the products alone."""
    op.execute("DROP INDEX kb.pairs_product_a_idx, kb.pairs_product_b_idx")
    op.execute("CREATE INDEX pairs_product_a_idx ON kb.pairs (product_a)")
    op.execute("CREATE INDEX pairs_product_b_idx ON kb.pairs (product_b)")
