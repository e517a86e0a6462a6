"""Who runs on a data folder: its supervisor holds the lock file, which the kernel takes back whatever ends it."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from deploy.local.errors import PlatformError

_LOCK_FILE = "lock"
#: A command that looks whether a supervisor runs holds the lock for a moment.
_PATIENCE_SECONDS = 2.0


def own(folder: Path) -> IO[str]:
    """Make the folder and take its lock, held until the file is closed.

    Raises:
        PlatformError: another supervisor has it, or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_FILE).open("w")
    except OSError as error:
        raise PlatformError(f"cannot use {folder}: {error.strerror}") from None
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _taken(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            lock.close()
            raise PlatformError(f"{folder} is in use by another `mindstream up`")
        time.sleep(0.05)
    return lock


def owned(folder: Path) -> bool:
    """Whether a supervisor runs on a folder."""
    try:
        with (folder / _LOCK_FILE).open() as lock:
            return not _taken(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def _taken(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
