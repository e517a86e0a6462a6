"""`python -m tests.chaos.takeover`: how long partitions stand still when their worker is killed.

Two real workers of a stage with a small handler, events for every partition all the time; one is killed and started
again at once, as a supervisor does, or stays away. The longest pause between two results of a partition is what it
cost, the pause that there always is included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from services.common.settings import Settings
from tests.chaos.partitions import EVENTS_A_SECOND, Shop, benches, end, longest_pause, members
from tests.common.runtime.conftest import Bench, wait_for


def measure(bench: Bench, session_seconds: float, *, again: bool, patience: float) -> float:
    """The longest pause of a partition, seconds, after one of two workers was killed."""
    bench.overrides["MINDSTREAM_SESSION_TIMEOUT_SECONDS"] = str(session_seconds)
    workers = {slot: bench.process(slot) for slot in ("0", "1")}
    shop = Shop(bench)
    try:
        wait_for(lambda: members(bench) == 2, "both have partitions")
        shop.start()
        before = bench.committed()
        wait_for(lambda: bench.committed() > before + 2 * EVENTS_A_SECOND, "they work")
        workers["0"].kill()
        workers["0"].wait()
        killed = time.time()
        if again:
            workers["0"] = bench.process("0")
        shop.over.wait(patience)
        until = time.time()
    finally:
        shop.over.set()
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            end(worker)
    shop.join()
    return longest_pause(bench, killed - 1, until)


def main() -> int:
    """Print a line a trial, and JSON at last."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover", description=__doc__)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--session", type=float, default=Settings().session_timeout_seconds, help="seconds")
    parser.add_argument("--patience", type=float, default=50, help="seconds that are watched after the kill")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"restarted": [], "gone": []}
    with benches() as made:
        for trial in range(arguments.trials):
            for how in found:
                bench = next(made)
                pause = measure(bench, arguments.session, again=how == "restarted", patience=arguments.patience)
                found[how].append(round(pause, 1))
                print(f"trial {trial}, {how}: {pause:.1f} s", flush=True)
    print(json.dumps({"session_seconds": arguments.session, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
