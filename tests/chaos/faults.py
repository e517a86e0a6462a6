"""The faults, each a function: it strikes, waits as long as the fault lasts, and heals."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.chaos.pipeline import SERVERS, SERVICES, Pipeline
from tests.chaos.schedule import Fault, Kind

_ALL = (*SERVICES, *SERVERS)


def kill(pipeline: Pipeline, fault: Fault) -> None:
    """SIGKILL; the supervisor starts it again."""
    pipeline.signal(fault.target, signal.SIGKILL)


def terminate(pipeline: Pipeline, fault: Fault) -> None:
    """The signal that asks it to end, which it heeds in its own time; the supervisor starts it again."""
    pipeline.signal(fault.target, pipeline.stop_signal(fault.target))


def kinds() -> dict[str, Kind]:
    """Every kind that works on this machine."""
    return {"kill": Kind(_ALL), "terminate": Kind(_ALL)}


STRIKE: dict[str, Callable[[Pipeline, Fault], None]] = {"kill": kill, "terminate": terminate}
