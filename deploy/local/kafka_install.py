"""Installs Apache Kafka's jars: resolved by jgo, checked against the committed lock, kept in the cache.

`python -m deploy.local.kafka_install` writes the lock anew after the version below was changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from deploy.local import growth
from deploy.local.cache import cache_dir
from deploy.local.errors import PlatformError
from deploy.local.growth import Say

COORDINATES = "org.apache.kafka:kafka_2.13:4.1.0"
LOCK = Path(__file__).with_name("kafka.lock")


def read_lock() -> dict[str, str]:
    """sha256 by jar name."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return {name: digest for digest, name in lines}


def verify(folder: Path, lock: dict[str, str]) -> None:
    """Compare the jars of a folder with the lock.

    Raises:
        PlatformError: one is missing, unknown or different.
    """
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jar")}
    for name in sorted(lock.keys() | found.keys()):
        if found.get(name) != lock.get(name):
            state = "missing" if name not in found else "not in the lock" if name not in lock else "changed"
            raise PlatformError(
                f"Kafka's {name} is {state} against deploy/local/kafka.lock: remove {folder} and try again"
            )


def install(say: Say = print) -> Path:
    """The folder of verified jars; downloads them the first time, and says how far it is.

    Raises:
        PlatformError: offline at the first start, no room, or a checksum that does not match.
    """
    lock = read_lock()
    version = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = cache_dir() / f"kafka-{version}"
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _download(folder, say)
        except OSError as error:
            raise PlatformError(f"cannot keep Kafka in {folder}: {error.strerror or error}") from None
    verify(folder, lock)
    return folder


def _download(folder: Path, say: Say) -> None:
    import jgo
    from jgo.constants import default_maven_repo

    with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        try:
            with growth.told("Kafka", default_maven_repo(), say):
                environment = jgo.build(COORDINATES, cache_dir=Path(tmp) / "jgo")
        except Exception as error:  # jgo has no exception of its own; all of it is the download.
            line = " ".join(str(error).split())[:200]
            raise PlatformError(f"cannot download Kafka (needed once, then kept): {line}") from None
        flat = Path(tmp) / "jars"
        flat.mkdir()
        # jgo sorts modular and plain jars into two folders; the class path needs both.
        for jar in environment.path.glob("*/*.jar"):
            shutil.copy(jar, flat / jar.name)
        verify(flat, read_lock())
        # Another process may have been quicker; its jars were verified too.
        if not folder.exists():
            os.replace(flat, folder)


def write_lock() -> None:
    """Write the lock from what jgo resolves now."""
    import jgo

    with tempfile.TemporaryDirectory() as tmp:
        jars = sorted(jgo.build(COORDINATES, cache_dir=Path(tmp)).path.glob("*/*.jar"), key=lambda path: path.name)
        lines = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in jars]
    LOCK.write_text("\n".join([f"# sha256 sums of {COORDINATES} and all it needs", *lines, ""]))


if __name__ == "__main__":
    write_lock()
