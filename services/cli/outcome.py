"""What came of a run: counted on Kafka's topics, which remember what a killed worker forgets."""

from __future__ import annotations

import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from services.common.settings import Settings

#: Of every stage, also where nothing happened.
_COUNTS = ("in", "out", "parked", "dead_letter", "duplicate")
#: Ends of partitions, by topic and partition.
Ends = dict[tuple[str, int], int]


@dataclass(frozen=True)
class DeadLetters:
    """Dead letters of one topic, stage and reason; `message` is the first one's."""

    topic: str
    stage: str
    reason: str
    message: str
    count: int


def ends(settings: Settings) -> Ends:
    """Where every topic ends now, so that a later count leaves out what was there before."""
    from confluent_kafka import TopicPartition

    from services.common import kafka, topics

    ours = {spec.name for spec in topics.specs(settings)}
    consumer = kafka.reader(settings, f"{settings.topic_prefix}mindstream.reader")
    try:
        return {
            (name, partition): consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)[1]
            for name, partitions in kafka.existing_topics(settings).items()
            if name in ours
            for partition in range(partitions)
        }
    finally:
        consumer.close()


def stages(settings: Settings, since: Ends, http_ports: list[int]) -> dict[str, dict[str, float]]:
    """By stage: records in, out, parked (each time) and dead letters since then.

    Duplicates and the seconds of model calls are no records: they are what the processes that run now have counted.
    """
    from services.common import dead_letter_queue, kafka, topics

    def records(name: str) -> Iterator[Any]:
        return (one for one in kafka.read_all(settings, name) if one.offset >= since.get((name, one.partition), 0))

    names = sorted({group for topic in topics.ALL for group in topic.readers})
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(_COUNTS, 0) for name in names}
    for topic in topics.ALL:
        name = topic.name(settings)
        # Each record names the stage that wrote it.
        written = Counter(one.text_header("ce_source").removeprefix("mindstream/") for one in records(name))
        for stage in topic.readers:
            found[stage]["in"] += written.total()
            if topic.parks:
                found[stage]["parked"] += sum(1 for _ in records(topics.retry_name(name, stage)))
        for stage in found.keys() & written.keys():
            found[stage]["out"] += written[stage]
    for queue in dead_letter_queue.queues(settings):
        if queue.group not in found:  # A shadow's: nothing comes of what it does.
            continue
        letters = records(queue.name)
        found[queue.group]["dead_letter"] += sum(not dead_letter_queue.is_marker(one) for one in letters)
    for port in http_ports:
        for stage, name, value in _samples(port):
            if stage in found:
                found[stage][name] = found[stage].get(name, 0) + value
    return found


def _samples(port: int) -> Iterator[tuple[str, str, float]]:
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:  # It is being started again.
        return
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            stage = sample.labels.get("stage", "")
            if sample.name == "mindstream_records_done_total" and sample.labels["outcome"] == "duplicate":
                yield stage, "duplicate", sample.value
            elif sample.name == "mindstream_model_call_seconds_sum":
                yield stage, "model_seconds", sample.value


def dead_letters(settings: Settings, since: Ends) -> list[DeadLetters]:
    """Letters set aside since then that still wait, most first."""
    from services.common import dead_letter_queue as dlq

    counts: Counter[tuple[str, str, str]] = Counter()
    messages: dict[tuple[str, str, str], str] = {}
    for queue in dlq.queues(settings):
        for letter in dlq.letters(settings, queue):
            if not letter.replayed and letter.record.offset >= since.get((queue.name, letter.record.partition), 0):
                key = (queue.topic.base, queue.group, letter.reason)
                counts[key] += 1
                messages.setdefault(key, letter.facts.message)
    return [DeadLetters(*key, messages[key], count) for key, count in counts.most_common()]


def versions(connection: Any) -> dict[str, Any]:
    """Of everything that had a part in it; models and prompts as the KB's records name them."""
    from psycopg import sql

    from deploy.local.kafka_install import COORDINATES

    parts = {
        f"{job}_{part}": columns
        for part in ("model", "prompt")
        for job, columns in {
            "extractor": (f"extractor_{part}_a", f"extractor_{part}_b"),
            "generator": (f"generator_{part}",),
            "filter": (f"filter_{part}",),
        }.items()
    }
    distinct = sql.SQL("SELECT DISTINCT {} FROM kb.intentions")
    used = {
        name: sorted(
            {row[0] for column in columns for row in connection.execute(distinct.format(sql.Identifier(column)))}
        )
        for name, columns in parts.items()
    }
    number = connection.info.server_version
    return {
        "mindstream": version("mindstream"),
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("torch", "transformers")},
        "kafka": COORDINATES.rsplit(":", 1)[1],
        "postgresql": f"{number // 10000}.{number % 10000}",
        **used,
    }
