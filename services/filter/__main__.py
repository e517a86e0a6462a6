"""`python -m services.filter`: the stage's worker."""

import sys

from services.common.runtime.main import main
from services.filter.handler import Filter

if __name__ == "__main__":
    sys.exit(main(lambda settings: Filter(settings).stage()))
