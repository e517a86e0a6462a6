"""`python -m services.lvlm`: the model server."""

import asyncio
import sys

from services.common import logs
from services.common.settings import SettingsError, load_settings
from services.lvlm.server import serve


def main() -> int:
    """Serve by the environment's settings; the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure(settings)
    return asyncio.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
