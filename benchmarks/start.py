"""From `mindstream up` on an installed machine to all ready, with the demo model."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.parts import Parts
from benchmarks.rows import Row


def _seconds() -> float:
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as tmp:
        Path(tmp).chmod(0o755)
        command = [
            sys.executable,
            "-c",
            "from services.cli.main import main; main()",
            "up",
            "--data-dir",
            f"{tmp}/data",
        ]
        began = time.monotonic()
        up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert up.stdout is not None
        try:
            if not any(line.strip() == "ready" for line in up.stdout):
                raise RuntimeError("the platform ended before it was ready")
            return time.monotonic() - began
        finally:
            up.terminate()
            up.communicate(timeout=120)


def measure(parts: Parts) -> list[Row]:
    """A first start fills the caches of the installation, then the median of the next ones."""
    _seconds()
    taken = statistics.median(_seconds() for _ in range(1 if parts.quick else 3))
    return [Row("pipeline.start", "all ready in at most 25 s", f"{taken:.1f} s", taken <= 25)]
