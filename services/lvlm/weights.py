"""`python -m services.lvlm.weights`: has the settings' checkpoint in the Hub's cache, and says where.

For model servers that never reach out: once this has filled the volume, they only read it.
"""

from __future__ import annotations

import sys

from services.common.process import AWAY, configured
from services.lvlm.checkpoint import folder_of
from services.lvlm.engine import EngineError


def main() -> int:
    """Download what is missing; the exit code."""
    settings = configured()
    try:
        print(folder_of(settings))
    except EngineError as error:
        print(error, file=sys.stderr)
        return AWAY
    return 0


if __name__ == "__main__":
    sys.exit(main())
