"""Where downloaded and made things are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`MINDSTREAM_CACHE_DIR`, or mindstream in the user's cache folder."""
    named = os.environ.get("MINDSTREAM_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindstream"


def shared_cache_dir() -> Path:
    """The same for what another user must reach, as root has it: `MINDSTREAM_CACHE_DIR`, or the machine's cache."""
    return cache_dir() if os.environ.get("MINDSTREAM_CACHE_DIR") else Path("/var/cache/mindstream")
