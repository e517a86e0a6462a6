"""Clocks that jump: a library preloaded into every service shifts the wall clock of one process.

It is compiled where the machine has a C compiler; elsewhere this fault is left out, and the run says so.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from shutil import which


def compiler() -> str | None:
    """The machine's C compiler."""
    return which("cc") or which("gcc")


def build(folder: Path) -> dict[str, str]:
    """Compile the library; the environment that preloads it, or none where there is no compiler."""
    found = compiler()
    if found is None:
        return {}
    library, clocks = folder / "clock.so", folder / "clocks"
    source = Path(__file__).with_name("clock.c")
    command = [found, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, capture_output=True, check=True)
    clocks.mkdir()
    return {"LD_PRELOAD": str(library), "CHAOS_CLOCKS": str(clocks)}


def jump(env: dict[str, str], pid: int, seconds: int) -> None:
    """Set a process's wall clock off by so much; 0 sets it right."""
    with Path(env["CHAOS_CLOCKS"], str(pid)).open("r+b") as file:
        file.write(struct.pack("l", seconds))
