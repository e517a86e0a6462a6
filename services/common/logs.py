"""Logging to stderr: text for people, or one JSON object a line for collectors.

Each line names the event that is worked on and its trace, where there is one. What an event says (payload) is logged at
DEBUG alone.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from services.common.current import here
from services.common.settings import Settings

#: Below these levels they write what they send: records with their customers, SASL's passwords, every prompt and
#: picture; httpx the address of every picture, whose query may be its key.
_TALKATIVE = {"aiokafka": logging.INFO, "faust": logging.INFO, "openai": logging.INFO, "httpx": logging.WARNING}


def _context() -> dict[str, str]:
    known = here()
    named = {"event": known.event, "trace_id": known.trace_id, "span_id": known.span_id}
    return {name: value for name, value in named.items() if value}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        context = " ".join(f"{name}={value}" for name, value in _context().items() if name != "span_id")
        return super().formatMessage(record) + (f" [{context}]" if context else "")


def configure(settings: Settings) -> None:
    """Set the root logger up by the settings."""
    handler = logging.StreamHandler(sys.stderr)
    text = _Text("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if settings.log_format == "json" else text)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name, level in _TALKATIVE.items():
        logging.getLogger(name).setLevel(max(level, logging.getLogger().level))


def where(bug: BaseException) -> str:
    """Where a bug happened; what it says may quote the event."""
    return type(bug).__name__ + "\n" + "".join(traceback.format_tb(bug.__traceback__))
