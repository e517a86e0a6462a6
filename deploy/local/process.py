"""Child processes that never outlive the supervisor, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import PlatformError

_PR_SET_PDEATHSIG = 1
#: Ports that a system gives to no outgoing connection: one of them could have a server's port while it starts again,
#: even the connection of a client that looks for that very server.
_PORTS = range(20_000, 32_768)
# Loaded here: nothing may be imported between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Between fork and exec: the kernel kills this child when its parent's main thread is gone (Linux only)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)  # A Ctrl-C at the terminal reaches the supervisor alone, which stops all in order.


def run_step(name: str, command: Sequence[str], *, user: str | None = None, cwd: Path | None = None) -> None:
    """Run a step of the start to its end.

    Raises:
        PlatformError: it cannot run, or failed; with the last line it said.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=cwd,
            preexec_fn=die_with_parent,
            **_as(user),
        )
    except OSError as error:
        raise PlatformError(f"cannot run {name}: {error.strerror or error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise PlatformError(f"{name} failed: {said[:200]}")


def _as(user: str | None) -> dict[str, Any]:
    """Arguments of subprocess that make a child another user's, with none of our groups."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


@dataclass
class Child:
    """One process, its output in a log file."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    user: str | None = None
    cwd: Path | None = None
    stop_signal: int = signal.SIGTERM
    #: When it was started last, monotonic.
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; must be called from the main thread, whose end is the child's end.

        Raises:
            PlatformError: the system refuses.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command,
                    env={**os.environ, **self.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.cwd,
                    preexec_fn=die_with_parent,
                    **_as(self.user),
                )
        except OSError as error:
            raise PlatformError(f"cannot start {self.name}: {error.strerror or error}") from None
        self.started_at = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self) -> None:
        """Send the stop signal."""
        if self.process is not None and self.running:
            self.process.send_signal(self.stop_signal)

    def wait_stopped(self, seconds: float) -> None:
        """Wait for its end; kill it after `seconds`."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_line(self) -> str:
        """The last line it logged, for errors."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def unprivileged_user() -> str | None:
    """Who runs PostgreSQL, which refuses root: None (us) unless we are root.

    Raises:
        PlatformError: we are root and there is nobody else.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_name
    except KeyError:
        raise PlatformError("PostgreSQL refuses root, and there is no user nobody: run mindstream as a user") from None


def free_port(wanted: int = 0) -> int:
    """A free TCP port on loopback; `wanted` itself where it is not 0.

    Raises:
        PlatformError: the wanted port is taken, or every port is.
    """
    if wanted:
        return _bound(wanted)
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(PlatformError):
            return _bound(port)
    raise PlatformError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


def _bound(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PlatformError(f"port {port} is taken ({error.strerror}): choose another or leave it free") from None
    return port


def listens(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
