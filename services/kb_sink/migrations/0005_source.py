"""Where an intention came from that was not generated here; rows from before are not rewritten."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE kb.intentions ADD COLUMN source text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Take it out."""
    op.execute("ALTER TABLE kb.intentions DROP COLUMN source")
