"""kubectl, kube-apiserver and etcd: found, or built from their Go modules into the cache, once.

The two folders beside this file name the modules; their go.sum holds what they must be. kube-apiserver takes five
minutes on two cores, the others half a minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.cache import cache_dir
from deploy.local.errors import PlatformError
from deploy.local.golang import go_program
from deploy.local.growth import Say

_MODULES = Path(__file__).parent
#: Program, its module's folder, and its package there.
_PROGRAMS = (("etcd", "etcd", "."), ("kube-apiserver", "kubernetes", "./kube-apiserver"))
_KUBECTL = ("kubectl", "kubernetes", "./kubectl")
#: kustomize's components as we use them, and `--validate=strict`, are in kubectl from this minor version on.
_KUBECTL_MINOR = 27


def folder() -> Path:
    """Where the programs are kept: another folder for other modules."""
    digest = hashlib.sha256()
    for path in sorted(_MODULES.glob("*/**/*")):
        if path.name in ("go.mod", "go.sum") or path.suffix == ".go":
            digest.update(path.read_bytes())
    return cache_dir() / f"k8s-{digest.hexdigest()[:12]}"


def kubectl() -> Path | None:
    """kubectl of the machine or of the cache; None where neither is there or the machine's is too old."""
    for found in (shutil.which("kubectl"), shutil.which("kubectl", path=str(folder()))):
        if found and _minor(found) >= _KUBECTL_MINOR:
            return Path(found)
    return None


def servers() -> Path | None:
    """The folder that holds etcd and kube-apiserver; None where they are not built."""
    return folder() if all(os.access(folder() / name, os.X_OK) for name, _, _ in _PROGRAMS) else None


def build(say: Say = print) -> None:
    """Build what is missing.

    Raises:
        PlatformError: no Go, or a build fails; with its last line.
    """
    wanted = [one for one in _PROGRAMS if not os.access(folder() / one[0], os.X_OK)]
    if kubectl() is None:
        wanted.append(_KUBECTL)
    if not wanted:
        return
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder()) as tmp:
        go = go_program(Path(tmp) / "go")
        for name, module, package in wanted:
            say(f"building {name} (once; kube-apiserver takes minutes)")
            made = Path(tmp) / name
            run([go, "build", "-trimpath", "-ldflags=-s -w", "-o", made, package], _MODULES / module, GO_ENV)
            made.rename(folder() / name)


#: No C compiler is needed, and go.sum is not changed.
GO_ENV = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """A command's output.

    Raises:
        PlatformError: it fails; with its last line.
    """
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise PlatformError(f"{Path(command[0]).name} {command[1]}: {lines[-1][:300]}")
    return done.stdout


def _minor(program: str) -> int:
    done = subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True, text=True)
    try:
        return int(json.loads(done.stdout)["clientVersion"]["minor"].rstrip("+"))
    except (ValueError, KeyError):
        return 0
