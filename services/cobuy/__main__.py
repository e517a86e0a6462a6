"""`python -m services.cobuy`: the co-buy service's worker."""

import sys

from services.common import health as health_endpoints
from services.common.process import configured
from services.common.runtime.stage import Health
from services.common.settings import SettingsError


def main() -> int:
    """Run by the environment's settings; the exit code."""
    settings = configured()
    try:
        from services.cobuy.app import build

        (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
        health = Health()
        app = build(settings, health)
        health_endpoints.serve(settings, health)
    except (SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    from mode import Worker

    Worker(app, loglevel=settings.log_level, override_logging=False, redirect_stdouts=False).execute_from_commandline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
