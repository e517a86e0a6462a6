"""The faults, each a function: it strikes, lasts, and heals. What a fault's name does not tell, its docstring does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from services.common.settings import Settings
from tests.chaos import clock, storm
from tests.chaos.pipeline import DISKS, SERVERS, SERVICES, STAGES, WAYS, Pipeline
from tests.chaos.schedule import Fault, Kind

_ALL = (*SERVICES, *SERVERS)
#: A slow link: seconds that every piece takes, and bytes a second.
_SLOW = (0.15, 100_000.0)
_JUMPS = (3600, -3600)


def kill(pipeline: Pipeline, fault: Fault) -> None:
    """SIGKILL; the supervisor starts it again."""
    pipeline.signal(fault.target, signal.SIGKILL)


def terminate(pipeline: Pipeline, fault: Fault) -> None:
    """The signal that asks it to end, which it heeds in its own time; the supervisor starts it again."""
    pipeline.signal(fault.target, pipeline.stop_signal(fault.target))


def freeze(pipeline: Pipeline, fault: Fault) -> None:
    """SIGSTOP, and SIGCONT when its session is over and another has its partitions."""
    pipeline.signal(fault.target, signal.SIGSTOP)
    try:
        pipeline.pause(fault.seconds)
    finally:
        pipeline.signal(fault.target, signal.SIGCONT)


def away(pipeline: Pipeline, fault: Fault) -> None:
    """A server is killed, and not started again for a while."""
    pipeline.platform.held.add(fault.target)
    try:
        pipeline.signal(fault.target, signal.SIGKILL)
        pipeline.pause(fault.seconds)
    finally:
        pipeline.platform.held.discard(fault.target)


def cut(pipeline: Pipeline, fault: Fault) -> None:
    """A process's connections to a server are reset, old ones and new ones."""
    _through(pipeline, fault, lambda link: link.cut())


def silence(pipeline: Pipeline, fault: Fault) -> None:
    """Nothing comes through between a process and a server, and nobody is told."""
    _through(pipeline, fault, lambda link: link.silence())


def slow(pipeline: Pipeline, fault: Fault) -> None:
    """Between a process and a server everything takes its time."""
    _through(pipeline, fault, lambda link: link.slow(*_SLOW))


def _through(pipeline: Pipeline, fault: Fault, strike: Callable[..., None]) -> None:
    process, _, server = fault.target.partition(">")
    link = pipeline.links[process, server]
    strike(link)
    try:
        pipeline.pause(fault.seconds)
    finally:
        link.heal()


def rebalance(pipeline: Pipeline, fault: Fault) -> None:
    """Workers of a stage join and leave, one every second."""
    with storm.members(fault.target, pipeline.settings) as members:
        for _ in range(round(fault.seconds)):
            members.change()
            pipeline.pause(1)


def full_disk(pipeline: Pipeline, fault: Fault) -> None:
    """Not a byte is free where a server, or the dataset releases, keep their files."""
    ballast = pipeline.folder / fault.target / "ballast"
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        pipeline.pause(fault.seconds)
    finally:
        ballast.unlink()


def clock_jump(pipeline: Pipeline, fault: Fault) -> None:
    """A process's wall clock is an hour ahead, then an hour behind, then right."""
    pid = pipeline.pid(fault.target)
    for seconds in (*_JUMPS, 0):
        with suppress(FileNotFoundError):  # It has ended, and its clock with it.
            clock.jump(pipeline.clocks, pid, seconds)
        if seconds:
            pipeline.pause(fault.seconds / len(_JUMPS))


STRIKE: dict[str, Callable[[Pipeline, Fault], None]] = {
    "kill": kill, "terminate": terminate, "freeze": freeze, "away": away, "cut": cut, "silence": silence,
    "slow": slow, "rebalance": rebalance, "full_disk": full_disk, "clock_jump": clock_jump,
}  # fmt: skip


def here(away_seconds: float) -> dict[str, Kind]:
    """Every kind that works on this machine: disks that can be filled need root, clocks that jump a C compiler."""
    past = Settings().session_timeout_seconds + 2
    found = {
        "kill": Kind(_ALL),
        "terminate": Kind(_ALL),
        "freeze": Kind(_ALL, past),
        "away": Kind((*SERVERS, "model"), away_seconds),
        "cut": Kind(WAYS, 5),
        "silence": Kind(WAYS, past),
        "slow": Kind(WAYS, 8),
        "rebalance": Kind(STAGES, 8),
    }
    if os.geteuid() == 0:
        found["full_disk"] = Kind(tuple(DISKS), 6)
    if clock.compiler():
        found["clock_jump"] = Kind(SERVICES, 6)
    return found
