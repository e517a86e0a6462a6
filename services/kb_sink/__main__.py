"""`python -m services.kb_sink`: intentions, judged or judged anew, and what people say of them, into the KB."""

import sys
from functools import partial

from services.common import topics
from services.common.readiness import database_trouble
from services.common.records import Record
from services.common.runtime.main import main
from services.common.runtime.stage import Result, Route, Stage
from services.common.settings import Settings
from services.kb_sink.committer import PostgresCommitter
from services.kb_sink.feedback import feedback_rows
from services.kb_sink.rejudged import rejudged_rows
from services.kb_sink.rows import rows


async def handle(record: Record) -> Result:
    """A record's rows; the committer writes them."""
    return Result(rows=rows(record))


async def handle_feedback(record: Record) -> Result:
    """The same of a person's verdict."""
    return Result(rows=feedback_rows(record))


async def handle_rejudged(record: Record) -> Result:
    """The same of what was judged once more."""
    return Result(rows=rejudged_rows(record))


def stage(settings: Settings) -> Stage:
    """The stage for the runtime."""
    trouble = partial(database_trouble, settings.postgres_dsn.get_secret_value())
    routes = [
        Route(topics.JUDGED, handle),
        Route(topics.REJUDGED, handle_rejudged),
        Route(topics.FEEDBACK, handle_feedback),
    ]
    return Stage("kb_sink", routes, trouble=trouble)


if __name__ == "__main__":
    sys.exit(main(stage, PostgresCommitter))
