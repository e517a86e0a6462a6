"""What became of every input, read from Kafka, the extractor's tables and the KB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.intention_pb2 import CandidateIntentions, JudgedIntentions

from services.common import dead_letter_queue, kafka, topics
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.common.topics import COBUYS, PRODUCTS, PURCHASES, Topic
from tests.chaos.feeder import Place
from tests.chaos.load import Event
from tests.chaos.pipeline import Pipeline

#: Text and verdict by intention id.
Knowledge = dict[str, tuple[str, bool]]


@dataclass
class Account:
    """Every list is of lines for people; of a sound run all but `again` are empty."""

    #: Inputs and intentions that are nowhere.
    lost: list[str] = field(default_factory=list)
    #: What a stage wrote twice, and what stands in the KB and should not.
    doubled: list[str] = field(default_factory=list)
    #: Same id, another text or verdict.
    different: list[str] = field(default_factory=list)
    #: Dead letters that stand twice with one origin: co-buys' and the sink's are written at least once.
    again: list[str] = field(default_factory=list)
    #: Inputs by what became of them.
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, doubled or different."""
        return not (self.lost or self.doubled or self.different)


def knowledge(pipeline: Pipeline) -> Knowledge:
    """The whole KB."""
    return {
        row[0]: (row[1], row[2]) for row in pipeline.query("SELECT intention_id, text, accepted FROM kb.intentions")
    }


def pairs_expected(events: Iterable[Event]) -> set[str]:
    """Pairs that must be judged."""
    return {pair for event in events if event.fate == "judged" for pair in event.ids}


def taken(pipeline: Pipeline, events: Mapping[Place, Event], quiet: Knowledge | None = None) -> Account:
    """Account for `events`, which Kafka has acknowledged; compare the KB with a quiet run's where there is one."""
    account = Account()
    _inputs(account, pipeline, events)
    _outputs(account, pipeline.settings)
    expected = pairs_expected(events.values())
    counts = dict(pipeline.query("SELECT pair_id, count(*) FROM kb.intentions GROUP BY pair_id"))
    for pair in expected | counts.keys():
        wanted = len(RELATIONS) if pair in expected else 0
        _compare(account, f"intentions of {pair}", counts.get(pair, 0), wanted)
    if quiet is not None:
        found = knowledge(pipeline)
        account.lost += [f"intention {one}" for one in quiet.keys() - found.keys()]
        account.doubled += [f"intention {one}, of which the quiet run knows nothing" for one in found.keys() - quiet]
        both = quiet.keys() & found.keys()
        account.different += [f"{one}: {found[one]}, not {quiet[one]}" for one in both if found[one] != quiet[one]]
    return account


def _compare(account: Account, what: str, found: int, wanted: int) -> None:
    if found != wanted:
        (account.lost if found < wanted else account.doubled).append(f"{what}: {found}, not {wanted}")


def _inputs(account: Account, pipeline: Pipeline, events: Mapping[Place, Event]) -> None:
    """Every record of the ingress topics has one of its fates."""
    settings = pipeline.settings
    letters = _letters(settings)
    judged = {tuple(row) for row in pipeline.query(
        "SELECT DISTINCT source_topic, source_partition, source_offset FROM kb.intentions"
    )}  # fmt: skip
    known = {row[0] for row in pipeline.query("SELECT DISTINCT pair_id FROM kb.intentions")}
    catalogue = {row[0] for row in pipeline.query("SELECT product_id FROM extractor.products")}
    by_bytes = {(event.topic.name(settings), event.key.encode(), event.value): event for event in events.values()}
    for topic in (PURCHASES, PRODUCTS, COBUYS):
        name = topic.name(settings)
        found: dict[Place, Event | None] = {
            (name, one.partition, one.offset): by_bytes.get((name, one.key or b"", one.value))
            for one in kafka.read_all(settings, name)
        }
        acknowledged = {place for place in events if place[0] == name}
        account.lost += [f"{place} was acknowledged and is not in Kafka" for place in acknowledged - found.keys()]
        for place, event in found.items():
            if event is None and topic is not COBUYS:
                account.doubled.append(f"{place} was never sent")
            fate = _fate(place, event, letters, judged, known, catalogue)
            account.counts[fate or "nowhere"] += 1
            # What the co-buy service wrote is to be judged, like what a shop wrote itself.
            wanted = event.fate if event else "judged"
            if not fate or (fate == "dead letter") != (wanted == "dead_letter"):
                reason = ", ".join(letters.get(place, ["no dead letter"]))
                account.lost.append(f"{place}, to be {wanted}: {fate or 'nowhere'} ({reason})")
    for place, reasons in letters.items():
        if len(reasons) > 1:
            account.again.append(f"{place}: {', '.join(reasons)}")


def _fate(
    place: Place,
    event: Event | None,
    letters: Mapping[Place, list[str]],
    judged: set[tuple[Any, ...]],
    known: set[str],
    catalogue: set[str],
) -> str:
    """What became of a record; empty where nobody knows."""
    if place in letters:
        return "dead letter"
    if place in judged:
        return "judged"
    if event is None:
        return "duplicate"  # Of a co-buy: another record of the pair was judged, or the pair is missed in the KB.
    if event.ids and catalogue.issuperset(event.ids):
        return "in the catalogue"
    if event.ids and known.issuperset(event.ids):
        return "counted" if event.topic is PURCHASES else "duplicate"
    return ""


def _letters(settings: Settings) -> dict[Place, list[str]]:
    """Reasons of dead letters by their origin."""
    found: dict[Place, list[str]] = {}
    for queue in dead_letter_queue.queues(settings):
        for letter in dead_letter_queue.letters(settings, queue):
            place = (letter.facts.topic, letter.facts.partition, letter.facts.offset)
            found.setdefault(place, []).append(f"{letter.facts.group}: {letter.reason}: {letter.facts.message}")
    return found


def _outputs(account: Account, settings: Settings) -> None:
    """What transactions wrote stands once."""
    written: list[tuple[Topic, Message]] = [
        (topics.FEATURED, FeaturedCoBuy()),
        (topics.CANDIDATES, CandidateIntentions()),
        (topics.JUDGED, JudgedIntentions()),
        (topics.FEATURES, ProductFeatures()),
    ]
    for topic, message in written:
        counts = Counter(_identity(message, one.value) for one in kafka.read_all(settings, topic.name(settings)))
        account.counts[topic.base] = counts.total()
        account.doubled += [f"{topic.base}: {key} stands {n} times" for key, n in counts.items() if n > 1]


def _identity(message: Any, value: bytes) -> str:
    message.ParseFromString(value)
    if isinstance(message, ProductFeatures):
        return f"{message.product_id}/{message.content_digest}"
    featured = message if isinstance(message, FeaturedCoBuy) else message.featured
    cobuy: CoBuy = featured.cobuy
    return str(cobuy.pair_id)
