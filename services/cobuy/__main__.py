"""`python -m services.cobuy`: the co-buy service's worker."""

import asyncio
import sys

from services.common import health as health_endpoints
from services.common import kafka
from services.common.process import BAD_INPUT, configured, exit_code, introduce
from services.common.runtime.stage import Health


def main() -> int:
    """Run by the environment's settings; the exit code."""
    settings = configured()
    try:
        import uvloop

        from services.cobuy.app import NAME, build, topics_needed
        from services.cobuy.purchases import customer_key

        introduce(NAME, settings)
        customer_key(settings)  # Before anything is asked of Kafka.
        trouble = kafka.topics_trouble(settings, topics_needed(settings))
        if trouble:
            print(f"{NAME}: {trouble}", file=sys.stderr)
            return BAD_INPUT
        (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
        health = Health()
        # Of an order's time here, most is the loop's; Faust's threads have loops of their own.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        app = build(settings, health)
        health_endpoints.serve(settings, health)
    except Exception as error:
        return exit_code("cobuy", error)
    from mode import Worker

    Worker(app, loglevel=settings.log_level, override_logging=False, redirect_stdouts=False).execute_from_commandline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
