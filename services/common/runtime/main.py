"""What every stage's `__main__` does alike."""

from __future__ import annotations

import sys
from collections.abc import Callable

from services.common import logs
from services.common.runtime.stage import Committer, Stage
from services.common.runtime.worker import run
from services.common.settings import Settings, SettingsError, load_settings


def main(stage: Callable[[Settings], Stage], committer: Callable[[Settings], Committer] | None = None) -> int:
    """Run a stage by the environment's settings; the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure(settings)
    return run(stage(settings), settings, committer(settings) if committer else None)
