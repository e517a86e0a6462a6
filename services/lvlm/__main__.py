"""`python -m services.lvlm`: the model server."""

import asyncio
import sys

from services.common.process import configured
from services.lvlm.memory import few_arenas
from services.lvlm.server import serve

if __name__ == "__main__":
    few_arenas()
    sys.exit(asyncio.run(serve(configured())))
