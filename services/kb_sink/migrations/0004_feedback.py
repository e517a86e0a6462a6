"""What people say of intentions: of each person on each intention the last verdict."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table. Texts are compared by their bytes: which verdict is the last is no locale's matter."""
    op.execute("""
        CREATE TABLE kb.feedback (
            pair_id      text NOT NULL,
            intention_id text NOT NULL,
            -- A keyed hash of the person's name.
            who          text NOT NULL,
            up           boolean NOT NULL,
            reason       text COLLATE "C" NOT NULL,
            given_at     timestamptz NOT NULL,
            feedback_id  text COLLATE "C" NOT NULL,
            PRIMARY KEY (pair_id, intention_id, who)
        )
    """)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE kb.feedback")
