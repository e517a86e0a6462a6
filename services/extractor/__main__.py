"""`python -m services.extractor`: the stage's worker."""

import sys

from services.common.runtime.main import main
from services.extractor.handler import Extractor

if __name__ == "__main__":
    sys.exit(main(lambda settings: Extractor(settings).stage()))
