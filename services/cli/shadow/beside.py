"""A shadow filter's judgements beside those that count, of the same records: both topics are read, nothing is written.

Both outputs of a candidates' record have its identity in their CloudEvents id, so that the same judgement is compared
with the same, however often a pair came.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, JudgedIntentions

from services.cli.common import number
from services.cli.rating.agreement import Verdicts
from services.common import kafka, topics
from services.common.records import Record
from services.common.relations import PLACES, RELATIONS
from services.common.settings import Settings

#: Clocks of a generator, whose time a message tells, and of Kafka's writers may be so far apart, milliseconds.
_CLOCKS_APART_MS = 3_600_000


class Judged(NamedTuple):
    """What one filter says of a record, in few bytes: of intentions with a text, each in its place."""

    #: Model and prompt version.
    by: str
    relations: bytes
    scores: array[float]
    kept: bytes
    seconds: float
    tokens: int


def judged(value: bytes) -> tuple[Judged, float]:
    """A record of either topic, and when its candidates were generated, seconds since the epoch (0: not said)."""
    made = JudgedIntentions.FromString(value)
    said = [one for one in made.judged if one.intention.text]
    by = f"{made.judged_by.model_version} {made.judged_by.prompt_version}".strip()
    found = Judged(
        by,
        bytes(PLACES.get(one.intention.relation, len(PLACES)) for one in said),
        array("d", (one.score for one in said)),
        bytes(one.verdict == VERDICT_ACCEPTED for one in said),
        made.judged_by.took.ToMicroseconds() / 1e6,
        made.judged_by.tokens,
    )
    return found, made.generated_by.at.ToMicroseconds() / 1e6


@dataclass
class Figures:
    """Of intentions that both have judged."""

    #: Both keep, shadow alone rejects, shadow alone keeps, both reject: by how it stands to the one that counts.
    both: int = 0
    live_alone: int = 0
    shadow_alone: int = 0
    neither: int = 0
    live_scores: float = 0.0
    shadow_scores: float = 0.0
    #: Sum of the distances of both scores.
    apart: float = 0.0

    def add(self, live: float, kept: bool, shadow: float, shadow_kept: bool) -> None:
        """Count one intention."""
        self.both += kept and shadow_kept
        self.live_alone += kept and not shadow_kept
        self.shadow_alone += shadow_kept and not kept
        self.neither += not (kept or shadow_kept)
        self.live_scores += live
        self.shadow_scores += shadow
        self.apart += abs(shadow - live)

    def told(self) -> dict[str, Any]:
        """Agreement, Cohen's kappa, shares kept, mean scores, their mean shift and its size without its sign."""
        verdicts = Verdicts(
            kept_right=self.both,
            kept_wrong=self.shadow_alone,
            rejected_right=self.neither,
            rejected_wrong=self.live_alone,
        )
        n = verdicts.decided
        return {
            "intentions": n,
            "agreement": verdicts.agreeing,
            "kappa": verdicts.kappa,
            "live_kept": (self.both + self.live_alone) / n if n else None,
            "shadow_kept": (self.both + self.shadow_alone) / n if n else None,
            "live_score": self.live_scores / n if n else None,
            "shadow_score": self.shadow_scores / n if n else None,
            "shift": (self.shadow_scores - self.live_scores) / n if n else None,
            "shift_size": self.apart / n if n else None,
        }


@dataclass
class Comparison:
    """One shadow filter beside one that counts."""

    cobuys: int = 0
    live_seconds: float = 0.0
    shadow_seconds: float = 0.0
    live_tokens: int = 0
    shadow_tokens: int = 0
    all: Figures = field(default_factory=Figures)
    relations: defaultdict[int, Figures] = field(default_factory=lambda: defaultdict(Figures))

    def add(self, live: Judged, shadow: Judged) -> None:
        """Count one record's judgements."""
        self.cobuys += 1
        self.live_seconds, self.shadow_seconds = self.live_seconds + live.seconds, self.shadow_seconds + shadow.seconds
        self.live_tokens, self.shadow_tokens = self.live_tokens + live.tokens, self.shadow_tokens + shadow.tokens
        for place, *both in zip(live.relations, live.scores, live.kept, shadow.scores, shadow.kept, strict=True):
            one, kept, other, other_kept = both
            for figures in (self.all, self.relations[place]):
                figures.add(one, bool(kept), other, bool(other_kept))

    def told(self) -> dict[str, Any]:
        """All of it, by name."""
        return {
            "cobuys": self.cobuys,
            **self.all.told(),
            **{
                f"{who}_{what}_a_cobuy": total / self.cobuys
                for who, what, total in (
                    ("live", "seconds", self.live_seconds),
                    ("shadow", "seconds", self.shadow_seconds),
                    ("live", "tokens", self.live_tokens),
                    ("shadow", "tokens", self.shadow_tokens),
                )
            },
            "relations": {RELATIONS[place].name: self.relations[place].told() for place in sorted(self.relations)},
        }


def compare(settings: Settings, last: int) -> dict[str, Any]:
    """The last so many judgements of each partition of the shadow's topic beside those that count.

    Raises:
        KafkaException: the broker does not answer, or there are no such topics.
    """
    shadows: dict[str, Judged] = {}
    since = float("inf")
    for record in kafka.read_all(settings, topics.SHADOWED.name(settings), last):
        shadows[_cause(record)], at = judged(record.value)
        since = min(since, at)
    found: dict[tuple[str, str], Comparison] = defaultdict(Comparison)
    total = len(shadows)
    if shadows:
        since_ms = max(0, int(since * 1000) - _CLOCKS_APART_MS)
        live = kafka.read_all(settings, topics.JUDGED.name(settings), since_ms=since_ms)
        for one, other in _matched(live, shadows):
            found[one.by, other.by].add(one, other)
    compared = [{"live": live, "shadow": shadow, **one.told()} for (live, shadow), one in sorted(found.items())]
    return {"shadow_cobuys": total, "not_judged_yet": len(shadows), "compared": compared}


def _matched(live: Iterable[Record], shadows: dict[str, Judged]) -> Iterator[tuple[Judged, Judged]]:
    """Both judgements of each record; those that are matched leave `shadows`."""
    for record in live:
        shadow = shadows.pop(_cause(record), None)
        if shadow is not None:
            yield judged(record.value)[0], shadow


def _cause(record: Record) -> str:
    """Which candidates' record it was made of."""
    return record.text_header("ce_id").partition("/")[2]


def show(found: Mapping[str, Any]) -> None:
    """Print it as tables."""
    from rich.console import Console
    from rich.table import Table

    print(
        f"{found['shadow_cobuys']:,} co-buys judged by the shadow, {found['not_judged_yet']:,} of them not by the other"
    )
    for one in found["compared"]:
        print(f"\nlive    {one['live']}\nshadow  {one['shadow']}")
        table = Table("", "n", "agree", "kappa", "kept", "mean score", "shift", "its size")
        for name, row in {"all": one, **one["relations"]}.items():
            figure = {key: number(row[key]) for key in _SHOWN}
            kept, score = (f"{figure['live_' + what]} → {figure['shadow_' + what]}" for what in ("kept", "score"))
            agreed = (figure["agreement"], figure["kappa"])
            table.add_row(name, str(row["intentions"]), *agreed, kept, score, figure["shift"], figure["shift_size"])
        Console().print(table)
        for who in ("live", "shadow"):
            seconds, tokens = one[f"{who}_seconds_a_cobuy"], one[f"{who}_tokens_a_cobuy"]
            print(f"{who + ':':8}{seconds:.3f} s and {tokens:,.0f} tokens a co-buy")


_SHOWN = (
    "agreement", "kappa", "live_kept", "shadow_kept", "live_score", "shadow_score", "shift", "shift_size",
)  # fmt: skip
