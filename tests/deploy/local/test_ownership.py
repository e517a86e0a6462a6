"""Whether a supervisor runs is what the kernel says of its lock, not what a file remembers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.errors import PlatformError
from deploy.local.growth import told
from deploy.local.ownership import own, owned
from services.cli.common import platform_state


def test_what_a_killed_supervisor_wrote_is_not_believed(tmp_path: Path) -> None:
    script = f"""
import json, os, signal
from pathlib import Path
from deploy.local.ownership import own
folder = Path({str(tmp_path)!r})
lock = own(folder)
# The pid of a process that goes on: pids are used again.
(folder / "platform.json").write_text(json.dumps({{"state": "ready", "supervisor": {os.getpid()}}}))
print("owns", flush=True)
signal.pause()
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "owns\n"
    assert owned(tmp_path)
    assert platform_state(tmp_path) == {"state": "ready", "supervisor": os.getpid()}
    with pytest.raises(PlatformError, match="in use by another"):
        own(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / "platform.json").read_text())["state"] == "ready"
    assert not owned(tmp_path)
    assert platform_state(tmp_path) is None
    own(tmp_path).close()


def test_a_folder_without_a_platform_is_not_owned(tmp_path: Path) -> None:
    assert not owned(tmp_path)
    assert not owned(tmp_path / "none")


def test_a_download_is_told_by_its_growth(tmp_path: Path) -> None:
    lines: list[str] = []
    with told("model", tmp_path, lines.append, seconds=0.05):
        (tmp_path / "blob.incomplete").write_bytes(b"x" * 3_000_000)
        while not any("still starting" in line for line in lines):
            pass
    assert "model: downloading, 3 MB so far" in lines
