"""Products that the shop took away: their rows stay, so that an older record does not bring them back."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Mark them."""
    op.execute("ALTER TABLE extractor.products ADD COLUMN deleted boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Delete them."""
    op.execute("DELETE FROM extractor.products WHERE deleted")
    op.execute("ALTER TABLE extractor.products DROP COLUMN deleted")
