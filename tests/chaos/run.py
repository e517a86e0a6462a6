"""A run: the load under a plan of faults, then the same load in peace, then the account."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import account, report
from tests.chaos.account import Account, Knowledge
from tests.chaos.faults import STRIKE
from tests.chaos.feeder import Feeder
from tests.chaos.load import Event, Load
from tests.chaos.pipeline import Pipeline, running
from tests.chaos.schedule import KILLS, Fault

#: A new pair every so many seconds, one step in ten aside.
PAUSE_SECONDS = 0.7
#: Between two faults: the longest wait for a row that says that the pipeline goes on.
_RECOVERY_SECONDS = 30.0
_DRAIN_SECONDS = 600.0


@dataclass
class Outcome:
    """What a run found."""

    account: Account
    table: str
    kills: int
    faults: int
    seconds: float
    #: What the account said when the KB was then harmed on purpose.
    harmed: Account

    def summary(self) -> dict[str, Any]:
        """As the last line says it."""
        return {
            "kills": self.kills,
            "faults": self.faults,
            "lost": len(self.account.lost),
            "doubled": len(self.account.doubled),
            "different": len(self.account.different),
            "letters_again": len(self.account.again),
            "seconds": round(self.seconds, 1),
            **{name.replace(" ", "_"): count for name, count in sorted(self.account.counts.items())},
        }


def run(folder: Path, seed: int, faults: Sequence[Fault], say: Callable[[str], None]) -> Outcome:
    """Run the plan; the faults then have their times.

    Raises:
        Stuck: the pipeline does not recover.
    """
    began = time.monotonic()
    with running(folder / "chaos", say) as pipeline:
        feeder, load = Feeder(pipeline.settings), Load(seed)
        feeder.send(load.catalogue())
        feeder.start(load.steps(), PAUSE_SECONDS)
        try:
            pipeline.wait(lambda: pipeline.newest() > 0, "the first intention", 120)
            for number, fault in enumerate(faults, 1):
                strike(pipeline, fault, f"{number}/{len(faults)}", say)
        finally:
            feeder.stop()
        say("all faults are over: draining")
        drain(pipeline, feeder)
        found = report.Recoveries(pipeline)
        table = report.table(faults, found)
        say(table)
        quiet = in_peace(folder / "quiet", feeder.events, say)
        taken = account.taken(pipeline, feeder.places, quiet)
        verify_releases(pipeline)
        harmed = harm(pipeline, feeder, quiet)
    kills = sum(fault.kind in KILLS for fault in faults)
    return Outcome(taken, table, kills, len(faults), time.monotonic() - began, harmed)


def strike(pipeline: Pipeline, fault: Fault, number: str, say: Callable[[str], None]) -> None:
    """One fault, and the wait for a sign of life after it."""
    pipeline.pause(fault.gap)
    pipeline.wait(lambda: _up(pipeline, fault.target), f"{fault.target} runs again", 120)
    fault.began = time.time()
    STRIKE[fault.kind](pipeline, fault)
    fault.ended = time.time()
    end = time.monotonic() + _RECOVERY_SECONDS
    while pipeline.newest() <= fault.ended and time.monotonic() < end:
        pipeline.tick()
    took = time.time() - fault.ended
    say(f"{number} {fault.kind} {fault.target}: next row after {took:.1f} s")


def _up(pipeline: Pipeline, target: str) -> bool:
    return target not in pipeline.platform.children or pipeline.alive(target)


def drain(pipeline: Pipeline, feeder: Feeder) -> None:
    """Wait until everything that was sent has come through.

    Raises:
        Stuck: it does not.
    """
    pipeline.wait(feeder.home, "Kafka's acknowledgement of everything", 120)
    wanted = len(account.pairs_expected(feeder.events))

    def complete() -> bool:
        rows = pipeline.query("SELECT count(DISTINCT pair_id) FROM kb.intentions")
        return bool(rows) and rows[0][0] >= wanted and pipeline.drained()

    end = time.monotonic() + _DRAIN_SECONDS
    settled = 0.0
    while not complete():
        pipeline.tick(0.5)
        # With nothing on its way, what is missing will never come: the account says what it is.
        settled = (settled or time.monotonic()) if pipeline.drained() else 0.0
        if (settled and time.monotonic() - settled > 60) or time.monotonic() > end:
            pipeline.say(f"not complete: {pipeline.lag()} waiting")
            return


def in_peace(folder: Path, events: Sequence[Event], say: Callable[[str], None]) -> Knowledge:
    """The KB that the events give when nothing happens."""
    say(f"the same {len(events)} events in peace")
    with running(folder, say) as pipeline:
        feeder = Feeder(pipeline.settings)
        feeder.send(events)
        drain(pipeline, feeder)
        return account.knowledge(pipeline)


def harm(pipeline: Pipeline, feeder: Feeder, quiet: Knowledge) -> Account:
    """Give an intention another id, change another's text, and take the account again.

    An account that finds nothing wrong must be one that would have.
    """
    renamed, changed = sorted(quiet)[:2]
    update = "UPDATE kb.intentions SET {} WHERE intention_id = %s RETURNING 1"
    pipeline.query(update.format("intention_id = 'again'"), renamed)
    pipeline.query(update.format("text = text || '!'"), changed)
    return account.taken(pipeline, feeder.places, quiet)


def verify_releases(pipeline: Pipeline) -> None:
    """Every dataset release that stands is as its manifest says."""
    from services.common import datasets

    url = pipeline.settings.datasets_url
    releases = datasets.releases(url)
    assert releases, "no dataset release was made"
    for release in releases:
        wrong = datasets.verify(release["url"])
        assert not wrong, f"{release['url']}: {wrong}"
