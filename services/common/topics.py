"""Every topic, defined once: what it holds, how it is kept, who reads it.

Names here are without the prefix; `Topic.name(settings)` is what goes on the wire. Everyone writes with the
`murmur2_random` partitioner, so that librdkafka, Java and Faust agree on a key's partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import Message
from mindstream.events.v1.cobuy_pb2 import CoBuy, PairOccurrence
from mindstream.events.v1.dataset_pb2 import DatasetRelease
from mindstream.events.v1.features_pb2 import FeaturedCoBuy, ProductFeatures
from mindstream.events.v1.feedback_pb2 import IntentionFeedback
from mindstream.events.v1.intention_pb2 import CandidateIntentions, JudgedIntentions
from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common.settings import Settings

#: Room for key and headers beside a value of the largest size: half is the event's, half is ours.
HEADROOM_BYTES = 65_536
_RETRY = ".retry"


@dataclass(frozen=True)
class Topic:
    """One topic. `readers` are consumer groups; each has `<topic>.<group>.dlq`, and `.retry` where it parks.

    `shadows` are groups that may read it beside them: they have their dead letters too, and nobody waits for them.
    """

    base: str
    message: type[Message]
    readers: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    parks: bool = False
    compacted: bool = False
    json_allowed: bool = False
    #: Co-partitioned topics must all have the same number of partitions (Faust's tables).
    extra_config: dict[str, str] = field(default_factory=dict)

    def name(self, settings: Settings) -> str:
        """The topic's name on the wire."""
        return settings.topic_prefix + self.base

    @property
    def ours(self) -> bool:
        """Whether only Mindstream writes it. A shop's own topic may have any number of partitions."""
        return not self.json_allowed

    @property
    def ce_type(self) -> str:
        """The CloudEvents type of its records: the message's full protobuf name."""
        return str(self.message.DESCRIPTOR.full_name)


PURCHASES = Topic("purchases", Purchase, readers=("cobuy",), json_allowed=True)
PRODUCTS = Topic("products", Product, readers=("extractor",), parks=True, compacted=True, json_allowed=True)
#: Purchases re-keyed by customer; internal to the cobuy service.
PURCHASES_BY_CUSTOMER = Topic("purchases.by-customer", Purchase, readers=("cobuy",))
#: Pair occurrences keyed by pair; internal to the cobuy service.
OCCURRENCES = Topic("cobuys.occurrences", PairOccurrence, readers=("cobuy",))
COBUYS = Topic("cobuys", CoBuy, readers=("extractor",), parks=True, json_allowed=True)
FEATURES = Topic("features", ProductFeatures, compacted=True)
FEATURED = Topic("cobuys.featured", FeaturedCoBuy, readers=("generator",))
CANDIDATES = Topic("intentions.candidates", CandidateIntentions, readers=("filter",), shadows=("filter_shadow",))
JUDGED = Topic("intentions.judged", JudgedIntentions, readers=("kb_sink",))
#: What a shadow filter says of a share of the candidates: for comparison only (docs/rollout.md).
SHADOWED = Topic("intentions.judged.shadow", JudgedIntentions)
#: Intentions out of the KB, to be judged once more (`mindstream kb rejudge`), and what becomes of them: apart from new
#: ones, which neither wait behind them nor are counted with them.
AGAIN = Topic("intentions.again", CandidateIntentions, readers=("filter",))
REJUDGED = Topic("intentions.rejudged", JudgedIntentions, readers=("kb_sink",))
#: What people say of intentions, keyed by intention: the explorer writes it.
FEEDBACK = Topic("intentions.feedback", IntentionFeedback, readers=("kb_sink",))
DATASETS = Topic("datasets", DatasetRelease)

#: Tables of the cobuy service; each has a changelog, which is what survives of it.
COBUY_TABLES = ("customers", "support")

ALL = (
    PURCHASES, PRODUCTS, PURCHASES_BY_CUSTOMER, OCCURRENCES, COBUYS, FEATURES, FEATURED, CANDIDATES, JUDGED, SHADOWED,
    AGAIN, REJUDGED, FEEDBACK, DATASETS,
)  # fmt: skip


def group_id(settings: Settings, group: str) -> str:
    """Consumer group on the wire."""
    return f"{settings.topic_prefix}mindstream.{group}"


def dlq_name(topic: str, group: str) -> str:
    """Dead-letter topic of one reader; `topic` with its prefix, `group` without."""
    return f"{topic}.{group}.dlq"


def retry_name(topic: str, group: str) -> str:
    """Topic of a reader's parked records."""
    return f"{topic}.{group}{_RETRY}"


def is_retry(topic: str, of: str = "") -> bool:
    """Whether a topic holds parked records (of the topic `of`); only the runtime writes to these."""
    return topic.endswith(_RETRY) and (not of or topic.startswith(f"{of}."))


def letter_max_bytes(settings: Settings) -> int:
    """Largest event that a dead letter carries whole: one that was refused for its size should fit."""
    return 16 * settings.event_max_bytes


def changelog_name(settings: Settings, table: str) -> str:
    """Changelog of a table of the cobuy service, as Faust names it."""
    return f"{group_id(settings, 'cobuy')}-{table}-changelog"


@dataclass(frozen=True)
class TopicSpec:
    """A topic to create."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


def specs(settings: Settings) -> Iterator[TopicSpec]:
    """Every topic an installation needs, dead-letter and retry topics included."""
    size = str(settings.event_max_bytes + HEADROOM_BYTES)
    for topic in ALL:
        name = topic.name(settings)
        config = {"max.message.bytes": size, **topic.extra_config}
        if topic.compacted:
            config["cleanup.policy"] = "compact"
        yield TopicSpec(name, settings.topic_partitions, settings.topic_replication, config)
        for group in (*topic.readers, *topic.shadows):
            # Dead letters stay until someone has looked: no retention limit.
            dlq = {"max.message.bytes": str(letter_max_bytes(settings) + HEADROOM_BYTES), "retention.ms": "-1"}
            yield TopicSpec(dlq_name(name, group), 1, settings.topic_replication, dlq)
            if topic.parks:
                retry = retry_name(name, group)
                yield TopicSpec(
                    retry, settings.topic_partitions, settings.topic_replication, {"max.message.bytes": size}
                )
    for table in COBUY_TABLES:
        config = {"max.message.bytes": size, "cleanup.policy": "compact"}
        yield TopicSpec(changelog_name(settings, table), settings.topic_partitions, settings.topic_replication, config)
