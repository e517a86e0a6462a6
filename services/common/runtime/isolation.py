"""Whether the handler runs for a crash suspect: its model call must then run with nothing else computing."""

from __future__ import annotations

from contextvars import ContextVar

#: True while the runtime retries a suspect; the model client then sets `isolate` on its request.
ISOLATE: ContextVar[bool] = ContextVar("isolate", default=False)
