"""Judgements that another one took the place of, and how many of them a release knew of.

The trigger sees what a row was at the moment it is replaced, whatever another sink writes meanwhile.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table, its trigger and the count."""
    op.execute("""
        CREATE TABLE kb.judgements (
            judgement     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            pair_id       text NOT NULL,
            intention_id  text NOT NULL,
            score         double precision NOT NULL,
            accepted      boolean NOT NULL,
            threshold     double precision NOT NULL,
            filter_model  text NOT NULL,
            filter_prompt text NOT NULL,
            judged_at     timestamptz NOT NULL,
            replaced_at   timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX ON kb.judgements (pair_id, intention_id)")
    op.execute("""
        CREATE FUNCTION kb.keep_judgement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO kb.judgements
                (pair_id, intention_id, score, accepted, threshold, filter_model, filter_prompt, judged_at)
            VALUES (OLD.pair_id, OLD.intention_id, OLD.score, OLD.accepted, OLD.threshold, OLD.filter_model,
                OLD.filter_prompt, OLD.judged_at);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER keep_judgement AFTER UPDATE OF score, accepted, threshold, filter_model, filter_prompt
        ON kb.intentions FOR EACH ROW EXECUTE FUNCTION kb.keep_judgement()
    """)
    op.execute("ALTER TABLE kb.releases ADD COLUMN rejudged bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Take them out."""
    op.execute("ALTER TABLE kb.releases DROP COLUMN rejudged")
    op.execute("DROP TRIGGER keep_judgement ON kb.intentions")
    op.execute("DROP FUNCTION kb.keep_judgement")
    op.execute("DROP TABLE kb.judgements")
