"""What strikes when: a plan from a seed, and the timeline of what was done, each a list of faults."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Fault:
    """One fault. Times in seconds; `began` and `ended` since the epoch, 0 before."""

    kind: str
    target: str
    #: Quiet time before it.
    gap: float
    #: How long it lasts, where it does.
    seconds: float = 0.0
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it may strike, and how long it lasts, seconds."""

    targets: Sequence[str]
    seconds: float = 0.0


#: Kinds that end a process, with their shares of the kills.
KILLS = {"kill": 0.75, "terminate": 0.25}


def plan(seed: int, kills: int, kinds: dict[str, Kind], others: int) -> list[Fault]:
    """A plan of so many kills, and `others` faults of each kind that kills nobody."""
    rng = random.Random(seed)
    struck: list[tuple[str, str]] = []
    for kind, share in KILLS.items():
        if kind in kinds:
            struck += [(kind, target) for target in _dealt(rng, kinds[kind].targets, round(kills * share))]
    # Rounding aside: of as many as were asked for.
    struck += [("kill", target) for target in _dealt(rng, kinds["kill"].targets, kills - len(struck))]
    for kind in kinds:
        if kind not in KILLS:
            struck += [(kind, target) for target in _dealt(rng, kinds[kind].targets, others)]
    rng.shuffle(struck)
    return [Fault(kind, target, round(rng.uniform(0.2, 3.0), 2), kinds[kind].seconds) for kind, target in struck]


def _dealt(rng: random.Random, targets: Sequence[str], count: int) -> list[str]:
    """So many targets, each about as often as the others."""
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += rng.sample(list(targets), len(targets))
    return dealt[: max(0, count)]


def write(file: Path, seed: int, faults: Sequence[Fault], outcome: dict[str, object]) -> None:
    """The timeline, which can be replayed."""
    rows = [asdict(fault) for fault in faults]
    file.write_text(json.dumps({"seed": seed, "faults": rows, "outcome": outcome}, indent=1, default=str))


def read(file: Path) -> tuple[int, list[Fault]]:
    """Seed and faults of a timeline."""
    found = json.loads(file.read_text())
    faults = [Fault(row["kind"], row["target"], row["gap"], row["seconds"]) for row in found["faults"]]
    return found["seed"], faults
