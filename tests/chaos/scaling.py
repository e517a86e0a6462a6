"""`python -m tests.chaos.scaling`: what it costs when workers come and go under load, as an autoscaler has them do.

Ordinals as a StatefulSet gives them: the next one up is started, the highest is asked to stop. What a change cost is
the longest pause between two results of a partition during it, the pause that there always is included; and every
event must have come out once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.chaos.partitions import EVENTS_A_SECOND, Shop, benches, end, longest_pause, members
from tests.common.runtime.conftest import Bench, wait_for


@dataclass(frozen=True)
class Found:
    """The longest pauses of a partition, seconds, while workers came and while they went; events lost and doubled."""

    out: float
    back: float
    lost: int
    doubled: int


def measure(bench: Bench, most: int, watched: float) -> Found:
    """One worker, then `most`, then one again; each state is watched for some seconds."""
    workers = [bench.process("0")]
    leaving: list[subprocess.Popen[bytes]] = []
    shop = Shop(bench)

    def settled(count: int) -> None:
        wait_for(lambda: members(bench) == count, f"{count} have partitions")
        before = bench.committed()
        wait_for(lambda: bench.committed() > before + 2 * EVENTS_A_SECOND, "they work")
        shop.over.wait(watched)

    try:
        shop.start()
        settled(1)
        began = time.time()
        while len(workers) < most:
            workers.append(bench.process(str(len(workers))))
        settled(most)
        between = time.time()
        while len(workers) > 1:
            leaving.append(workers.pop())
            leaving[-1].terminate()
        settled(1)
        over = time.time()
        shop.over.set()
        shop.join()
        wait_for(lambda: bench.committed() == shop.sent, "all is done")
    finally:
        shop.over.set()
        for worker in workers:
            worker.terminate()
        for worker in [*workers, *leaving]:
            end(worker)
    numbers = bench.numbers()
    once = set(numbers)
    return Found(
        longest_pause(bench, began, between),
        longest_pause(bench, between, over),
        len(set(range(shop.sent)) - once),
        len(numbers) - len(once),
    )


def main() -> int:
    """Print a line a trial, and JSON at last."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--most", type=int, default=4, help="workers, of a stage with four partitions")
    parser.add_argument("--watched", type=float, default=10, help="seconds that each state is watched")
    arguments = parser.parse_args()
    found: list[Found] = []
    with benches() as made:
        for trial in range(arguments.trials):
            one = measure(next(made), arguments.most, arguments.watched)
            found.append(one)
            print(f"trial {trial}: out {one.out:.1f} s, in {one.back:.1f} s, {one.lost} lost, {one.doubled} doubled")
    total = {"lost": sum(one.lost for one in found), "doubled": sum(one.doubled for one in found)}
    pauses = {"out": [round(one.out, 1) for one in found], "in": [round(one.back, 1) for one in found]}
    print(json.dumps({"most": arguments.most, **pauses, **total}))
    return 1 if any(total.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
