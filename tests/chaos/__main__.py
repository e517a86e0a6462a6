"""`python -m tests.chaos --kills 200 --seed 1`: faults by a seed against the whole embedded platform under load.

The last line is JSON; exit code 1 where something is lost, doubled or different. The timeline stands in a file, which
`--replay` runs again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import faults, schedule
from tests.chaos.pipeline import Stuck
from tests.chaos.run import run


def main() -> int:
    """Run by the arguments; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes ended by a signal")
    parser.add_argument("--others", type=int, default=-1, help="faults of every other kind; default: a fortieth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds of faults, comma-separated; default: all")
    parser.add_argument("--timeline", type=Path, default=Path("chaos-timeline.json"), help="where the timeline goes")
    parser.add_argument("--replay", type=Path, help="a timeline to run again, instead of a plan from the seed")
    parser.add_argument("--away", type=float, default=15, help="seconds that a server is away (300: five minutes)")
    arguments = parser.parse_args()
    kinds = faults.here(away_seconds=arguments.away)
    if arguments.only:
        kinds = {name: kinds[name] for name in arguments.only.split(",")}
    others = arguments.others if arguments.others >= 0 else max(1, arguments.kills // 40)
    seed, planned = arguments.seed, schedule.plan(arguments.seed, arguments.kills, kinds, others)
    if arguments.replay:
        seed, planned = schedule.read(arguments.replay)
    began = time.monotonic()
    # Whoever stops the run leaves no process and no mounted disk behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {line}", flush=True)

    say(f"seed {seed}: {len(planned)} faults of {', '.join(sorted({fault.kind for fault in planned}))}")
    with tempfile.TemporaryDirectory(prefix="mindstream-chaos-") as tmp:
        Path(tmp).chmod(0o755)  # PostgreSQL's unprivileged user must be able to pass.
        try:
            outcome = run(Path(tmp), seed, planned, say)
        except (Stuck, AssertionError) as error:
            schedule.write(arguments.timeline, seed, planned, {"failed": str(error)})
            _tell(tmp, arguments.timeline, seed)
            print(json.dumps({"failed": str(error), "seconds": round(time.monotonic() - began, 1)}))
            return 1
        summary = outcome.summary()
        schedule.write(arguments.timeline, seed, planned, summary)
        for name in ("lost", "doubled", "different", "again"):
            for line in getattr(outcome.account, name)[:10]:
                print(f"{name}: {line}")
        print(outcome.table)
        if not outcome.account.sound:
            _tell(tmp, arguments.timeline, seed)
    print(json.dumps(summary))
    return 0 if outcome.account.sound else 1


def _tell(folder: str, timeline: Path, seed: int) -> None:
    """Keep the processes' logs beside the timeline, and say how to see the failure again."""
    kept = timeline.with_suffix(".logs")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(Path(folder, "chaos", "logs"), kept)
    print(f"seed {seed}; logs in {kept}; to see it again: python -m tests.chaos --replay {timeline}")


if __name__ == "__main__":
    sys.exit(main())
