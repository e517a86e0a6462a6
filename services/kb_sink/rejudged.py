"""What the filter judged once more (`mindstream kb rejudge`), as rows."""

from __future__ import annotations

from services.common.records import Record
from services.kb_sink import rows as judged
from services.kb_sink.rows import Rows

#: Columns as in rows.py; the committer knows what becomes of intentions that are there already.
COLUMNS = {"rejudged": judged.COLUMNS["intentions"]}


def rejudged_rows(record: Record) -> Rows:
    """The rows of a record of `intentions.rejudged`: all that a first judgement has.

    Whether its first judgement is in the KB is not asked: two topics have no order between them. When a purchase was
    made is not said: it was no news.

    Raises:
        EventFault: as `rows`.
    """
    tables = dict(judged.rows(record).tables)
    tables["rejudged"] = tables.pop("intentions")
    return Rows(tables)
