"""The primary key's index tells what is asked of a pair's rows: the best of a product are found without all of them."""

from alembic import op

revision = "0009"
down_revision = "0008"
_KEY = "ALTER TABLE kb.intentions DROP CONSTRAINT intentions_pkey, ADD PRIMARY KEY (pair_id, intention_id)"


def upgrade() -> None:
    """Add the columns that are asked for."""
    op.execute(f"{_KEY} INCLUDE (relation, score, accepted)")


def downgrade() -> None:
    """Back to the key alone."""
    op.execute(_KEY)
