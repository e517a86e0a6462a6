"""What the explorer asks: words, near words, and what is new since a position.

`written_xact` is the transaction that wrote the row. Numbers are given out before commits, so that a reader who only
remembers the largest one would miss what a slower transaction commits later; with the transaction known, a reader takes
what is below every transaction still under way, and misses nothing. Rows from before have 0, told of in the table's
definition alone: no row is rewritten.

Near words (PostgreSQL may be without pg_trgm): each word of a product's title, features and uses once, by its groups
of three letters; descriptions are prose, and would cost the sink more than they find. The trigger writes words that are
new, in order, so that two sinks never wait for each other in a circle.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

#: Grams of the words of products; texts are cut before they are too long for a tsvector.
_REMEMBER = """
    INSERT INTO kb.grams (gram, word)
    SELECT DISTINCT substr(' ' || word || ' ', n, 3), word
    FROM (
        SELECT DISTINCT unnest(tsvector_to_array(to_tsvector('simple', left(
            concat_ws(' ', title, array_to_string(features, ' '), array_to_string(uses, ' ')), 4000
        )))) AS word FROM {products}
    ) AS words, generate_series(1, length(word)) AS n
    WHERE length(word) BETWEEN 3 AND 32
      AND NOT EXISTS (SELECT FROM kb.grams g WHERE g.gram = ' ' || left(words.word, 2) AND g.word = words.word)
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    """Add the column, the indexes and the words."""
    op.execute("SET LOCAL maintenance_work_mem = '256MB'")
    op.execute("ALTER TABLE kb.intentions ADD COLUMN written_xact xid8 NOT NULL DEFAULT '0'")
    op.execute("ALTER TABLE kb.intentions ALTER COLUMN written_xact SET DEFAULT pg_current_xact_id()")
    op.execute("CREATE INDEX ON kb.intentions (written_xact, pair_id, intention_id)")
    op.execute(
        "CREATE INDEX intentions_words ON kb.intentions USING gin (to_tsvector('english', left(text, 2000))) "
        "WHERE accepted"
    )
    op.execute(
        "CREATE INDEX products_words ON kb.products USING gin "
        "((setweight(to_tsvector('english', left(title, 2000)), 'A') "
        "|| to_tsvector('english', left(description, 2000))))"
    )
    op.execute("CREATE TABLE kb.grams (gram text NOT NULL, word text NOT NULL, PRIMARY KEY (gram, word))")
    op.execute(_REMEMBER.format(products="kb.products"))
    op.execute(
        "CREATE FUNCTION kb.remember_words() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        + _REMEMBER.format(products="added")
        + "; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER remember_words AFTER INSERT ON kb.products REFERENCING NEW TABLE AS added "
        "FOR EACH STATEMENT EXECUTE FUNCTION kb.remember_words()"
    )


def downgrade() -> None:
    """Take them out."""
    op.execute("DROP TRIGGER remember_words ON kb.products")
    op.execute("DROP FUNCTION kb.remember_words")
    op.execute("DROP TABLE kb.grams")
    op.execute("DROP INDEX kb.products_words, kb.intentions_words")
    op.execute("ALTER TABLE kb.intentions DROP COLUMN written_xact")
