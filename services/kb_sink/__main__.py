"""`python -m services.kb_sink`: judged intentions into the knowledge base."""

import sys

from services.common import topics
from services.common.records import Record
from services.common.runtime.main import main
from services.common.runtime.stage import Result, Route, Stage
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.rows import rows


async def handle(record: Record) -> Result:
    """A record's rows; the committer writes them."""
    return Result(rows=rows(record))


if __name__ == "__main__":
    sys.exit(main(lambda settings: Stage("kb_sink", [Route(topics.JUDGED, handle)]), PostgresCommitter))
