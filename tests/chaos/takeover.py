"""`python -m tests.chaos.takeover`: how long partitions stand still when their worker is killed.

Two real workers of a stage with a small handler, events for every partition all the time; one is killed and started
again at once, as a supervisor does, or stays away. The longest pause between two results of a partition is what it
cost, the pause that there always is included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from confluent_kafka import KafkaException

from deploy.local.kafka import Kafka
from services.common.settings import Settings
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.model import Model, serve

_EVENTS_A_SECOND = 40


class _Shop(threading.Thread):
    """Sends numbered events at an even pace until told to stop."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self._bench = bench
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(0.5):
            self._bench.send(*({"n": n} for n in range(number, number + _EVENTS_A_SECOND // 2)))
            number += _EVENTS_A_SECOND // 2


def measure(bench: Bench, session_seconds: float, *, again: bool, patience: float) -> float:
    """The longest pause of a partition, seconds, after one of two workers was killed."""
    bench.overrides["MINDSTREAM_SESSION_TIMEOUT_SECONDS"] = str(session_seconds)
    workers = {slot: bench.process(slot) for slot in ("0", "1")}
    shop = _Shop(bench)
    try:
        wait_for(lambda: _members(bench) == 2, "both have partitions")
        shop.start()
        before = bench.committed()
        wait_for(lambda: bench.committed() > before + 2 * _EVENTS_A_SECOND, "they work")
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
            _end(worker)
    shop.join()
    return _pause(bench, killed - 1, until)


def _members(bench: Bench) -> int:
    """Members of the stage's group that have partitions."""
    from services.common import kafka, topics

    settings = bench.settings()
    client = kafka.admin(settings)  # Kept: its futures die with it.
    group = topics.group_id(settings, "extractor")
    try:
        found = client.describe_consumer_groups([group])[group].result(20)
    except (KafkaException, TimeoutError):
        return 0  # Its coordinator is being made.
    return sum(bool(one.assignment and one.assignment.topic_partitions) for one in found.members)


def _end(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(30)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _pause(bench: Bench, since: float, until: float) -> float:
    """The longest pause between two results of a partition, or from its last one to the end."""
    times: dict[int, list[float]] = defaultdict(list)
    for record in bench.read("cobuys.featured"):
        # Both topics have as many partitions, so that a result stands in the partition of its event.
        times[record.partition].append(record.timestamp_ms / 1000)
    return max(
        later - earlier
        for found in times.values()
        for earlier, later in pairwise([*sorted(found), until])
        if later > since
    )


def main() -> int:
    """Print a line a trial, and JSON at last."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover", description=__doc__)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--session", type=float, default=Settings().session_timeout_seconds, help="seconds")
    parser.add_argument("--patience", type=float, default=50, help="seconds that are watched after the kill")
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {"restarted": [], "gone": []}
    with tempfile.TemporaryDirectory(prefix="mindstream-takeover-") as tmp:
        broker = Kafka(Path(tmp, "kafka"), Path(tmp, "kafka.log"))
        broker.start()
        try:
            wait_for(broker.ready, "Kafka")
            model = Model()
            server, target = serve(model)
            for trial in range(arguments.trials):
                for how in found:
                    bench = Bench(broker.bootstrap_servers, model, target, server)
                    bench.create()
                    pause = measure(bench, arguments.session, again=how == "restarted", patience=arguments.patience)
                    found[how].append(round(pause, 1))
                    print(f"trial {trial}, {how}: {pause:.1f} s", flush=True)
            server.stop(0)
        finally:
            broker.child.ask_to_stop()
            broker.child.wait_stopped(30)
    print(json.dumps({"session_seconds": arguments.session, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
