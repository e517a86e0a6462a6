"""`python -m deploy.k8s.check`: has ready what the checks need: programs, and operators' definitions."""

from __future__ import annotations

import sys

from deploy.k8s.check import crds, programs
from deploy.local.errors import PlatformError

if __name__ == "__main__":
    try:
        programs.build()
        crds.definitions()
    except PlatformError as error:
        sys.exit(str(error))
