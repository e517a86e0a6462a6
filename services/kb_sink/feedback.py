"""What people say of intentions, as rows."""

from __future__ import annotations

import re
from datetime import UTC

from mindstream.events.v1.feedback_pb2 import THUMB_DOWN, THUMB_UP, IntentionFeedback

from services.common.kb import REASON_CHARACTERS
from services.common.records import Record, check_id, check_time, decode, invalid
from services.kb_sink.rows import Rows, check_key, check_texts

#: Columns in the order of the tuples below, as in rows.py.
COLUMNS = {"feedback": ("pair_id", "intention_id", "who", "up", "reason", "given_at", "feedback_id")}
_HASH = re.compile("[0-9a-f]{64}")


def feedback_rows(record: Record) -> Rows:
    """The row of a record of `intentions.feedback`. Whether the KB has the intention (yet) is not asked.

    Raises:
        EventFault: not decodable, without what a row needs, or with a name in the place of a hash.
    """
    said = decode(record, IntentionFeedback, json_allowed=False)
    for name in ("feedback_id", "pair_id", "intention_id"):
        if not getattr(said, name):
            raise invalid(f"{name} is empty")
    check_id("feedback_id", said.feedback_id)
    check_key("intention's key", said.pair_id, said.intention_id)
    if not _HASH.fullmatch(said.who):
        raise invalid("who is no hash of 64 hex digits")  # It may be a name: not to be repeated.
    if said.verdict not in (THUMB_UP, THUMB_DOWN):
        raise invalid(f"verdict {said.verdict} is neither up nor down")
    if len(said.reason) > REASON_CHARACTERS:
        raise invalid(f"reason is {len(said.reason)} characters long; at most {REASON_CHARACTERS}")
    check_texts(said.pair_id, said.intention_id, said.reason)
    if not said.HasField("given_at"):
        raise invalid("given_at is not set")
    at = check_time("given_at", said.given_at).ToDatetime(UTC)
    up = said.verdict == THUMB_UP
    row = (said.pair_id, said.intention_id, said.who, up, said.reason, at, said.feedback_id)
    return Rows({"feedback": [row]})
