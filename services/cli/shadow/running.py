"""A shadow filter with a model server of its own, beside an installation, until either ends or Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from deploy.local.process import Child, free_port
from services.common.errors import WorldFault

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 30.0


def run(model: str, prompt: str, share: float, logs: Path, say: Callable[[str], None]) -> None:
    """Run both with the environment's settings, and these.

    Raises:
        WorldFault: one of them ended, with the last line that it said.
    """
    target = f"127.0.0.1:{free_port()}"
    own = {"MINDSTREAM_HTTP_HOST": "127.0.0.1", "MINDSTREAM_HTTP_PORT": "0", "MINDSTREAM_SLOT": "0"}
    served = {"MINDSTREAM_SERVER_JOBS": "filter", "MINDSTREAM_SERVER_BIND": target}
    chosen = {"MINDSTREAM_MODEL": model, "MINDSTREAM_FILTER_PROMPT": prompt}
    judging = {"MINDSTREAM_FILTER_TARGET": target, "MINDSTREAM_SHADOW_SHARE": str(share)}
    children = [
        _child("shadow-model", "services.lvlm", logs, own | served | {k: v for k, v in chosen.items() if v}),
        _child("shadow-filter", "services.filter", logs, own | judging),
    ]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for child in children:
        child.start()
    say(f"a shadow judges {share:.0%} of the co-buys (logs: {logs}; stop: Ctrl-C)")
    try:
        while not stop.wait(_LOOK_SECONDS):
            for child in children:
                if not child.running:
                    raise WorldFault("shadow", f"{child.name} ended: {child.last_line()[:300]} (log: {child.log})")
    finally:
        for child in reversed(children):
            child.ask_to_stop()
        for child in children:
            child.wait_stopped(_STOP_SECONDS)


def _child(name: str, module: str, logs: Path, own: dict[str, str]) -> Child:
    return Child(name, [sys.executable, "-m", module], own, logs / f"{name}.log")
