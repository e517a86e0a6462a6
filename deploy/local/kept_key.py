"""Keys that people's ids and names are hashed with: each made once, and kept in the data folder."""

from __future__ import annotations

import secrets
from pathlib import Path

from deploy.local.errors import PlatformError


def kept_key(folder: Path, whose: str) -> str:
    """A key of a data folder, for its owner alone to read. Another key would make other people of the same ones.

    Raises:
        PlatformError: the file cannot be read or made.
    """
    path, partial = folder / f"{whose}.key", folder / f"{whose}.key.new"
    try:
        if not path.exists():
            # Renamed when whole: half a key would be used for ever.
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_hex(32))
            partial.rename(path)
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(f"cannot use {path}: {error}") from None
