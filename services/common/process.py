"""What every process does first."""

from __future__ import annotations

import sys

from services.common import logs
from services.common.settings import Settings, SettingsError, load_settings


def configured() -> Settings:
    """Settings of the environment, with logging set up by them; one line and exit code 2 where one is wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    logs.configure(settings)
    return settings
