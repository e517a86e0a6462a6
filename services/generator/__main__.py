"""`python -m services.generator`: the stage's worker."""

import sys

from services.common.runtime.main import main
from services.generator.handler import Generator

if __name__ == "__main__":
    sys.exit(main(lambda settings: Generator(settings).stage()))
