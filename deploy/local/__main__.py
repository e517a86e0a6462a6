"""`python -m deploy.local DATA_DIR [MODEL]`: the supervisor, as `mindstream up` runs it, one line per step."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from deploy.local.errors import PlatformError
from deploy.local.growth import Say
from deploy.local.platform import Platform, PlatformOptions
from services.common.process import AWAY, exit_code


class _Stop(Exception):
    pass


def run(options: PlatformOptions, say: Say) -> int:
    """Run until SIGINT or SIGTERM; the exit code."""

    def stop(*_: object) -> None:
        raise _Stop

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    platform = Platform(options, say)
    try:
        platform.start()
        while True:
            time.sleep(0.5)
            platform.tick()
    except _Stop:
        return 0
    except PlatformError as error:
        print(error, file=sys.stderr, flush=True)
        return AWAY
    except Exception as error:
        return exit_code("mindstream", error)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        platform.stop()


if __name__ == "__main__":
    model = sys.argv[2] if len(sys.argv) > 2 else ""
    sys.exit(run(PlatformOptions(Path(sys.argv[1]), model), lambda line: print(line, flush=True)))
