"""What is worked on here and now: which event, in which trace. Logs, records and model calls name both."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar

#: W3C Trace Context, version 00 (w3.org/TR/trace-context): version, trace id, parent id, flags.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Current:
    """An event by its idempotency key, and its place in a trace; each empty where there is none."""

    __slots__ = ("event", "traceparent")

    def __init__(self, event: str = "", traceparent: str = "") -> None:
        self.event, self.traceparent = event, traceparent

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hex digits: what is under way, or who caused it where nothing is traced here."""
        return self.traceparent[36:52]


_NOTHING = Current()
#: Or a function that makes it: most records come and go without anyone who asks.
CURRENT: ContextVar[Current | Callable[[], Current]] = ContextVar("current", default=_NOTHING)


def here() -> Current:
    """What is worked on now."""
    known = CURRENT.get()
    return known if isinstance(known, Current) else known()


def traceparent(text: str) -> str:
    """A header as it came, if it is a traceparent; anyone may have written it."""
    return text if text and _TRACEPARENT.fullmatch(text) else ""
