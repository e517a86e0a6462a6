"""Indexes that cost an event little however large the KB is, and that `kb query` needs.

The intentions of a co-buy are written together: by pair first, its twenty keys stand side by side in one page of the
primary key, where by their own ids, which are hashes, they were on twenty pages of two indexes. Scores come in the
order in which the best are asked for, so that the first rows are read and not all of them sorted.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Replace the indexes."""
    op.execute("ALTER TABLE kb.intentions DROP CONSTRAINT intentions_pkey, ADD PRIMARY KEY (pair_id, intention_id)")
    op.execute("DROP INDEX kb.intentions_pair_id_idx, kb.intentions_relation_score_idx, kb.intentions_judged_at_idx")
    op.execute("CREATE INDEX ON kb.intentions (relation, score DESC, intention_id)")
    op.execute("CREATE INDEX ON kb.intentions (score DESC, intention_id)")


def downgrade() -> None:
    """Back to the old ones."""
    op.execute("DROP INDEX kb.intentions_relation_score_intention_id_idx, kb.intentions_score_intention_id_idx")
    op.execute("ALTER TABLE kb.intentions DROP CONSTRAINT intentions_pkey, ADD PRIMARY KEY (intention_id)")
    op.execute("CREATE INDEX ON kb.intentions (pair_id)")
    op.execute("CREATE INDEX ON kb.intentions (relation, score DESC)")
    op.execute("CREATE INDEX ON kb.intentions (judged_at)")
