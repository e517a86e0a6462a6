"""`mindstream import` of a catalogue against a bare librdkafka produce of its messages; its memory as the file grows.

`python -m benchmarks.importing FILE WORK` is one import in a process of its own: it prints seconds, messages and MiB.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.parts import Parts
from benchmarks.rows import Row
from services.common import kafka, topics
from services.common.records import Record
from services.common.settings import Settings

#: Bytes that a row of 2018 has beside what is imported: description, features, links to what was viewed.
_BESIDE_BYTES = 1200


def _catalogue(path: Path, rows: int) -> None:
    """A file in the form of 2018, gzipped as it is handed out; of each row's eight co-buys half are in the file."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("etaoinshrdlu", k=drawn.randint(2, 9))) for _ in range(5000)]
    text = " ".join(drawn.choices(words, k=200_000))
    packer = ["gzip", "-1"]
    with path.open("wb") as file, subprocess.Popen(packer, stdin=subprocess.PIPE, stdout=file) as packing:
        assert packing.stdin is not None
        for number in range(rows):
            at = drawn.randrange(len(text) - _BESIDE_BYTES)
            near = [f"B{(number + step) % rows:09d}" for step in (1, -1, 17, 4711)]
            far = [f"X{number * 7 + step:09d}" for step in range(4)]
            row = {
                "description": [text[at : at + _BESIDE_BYTES]],
                "title": f"A product of some brand with a title of usual length, number {number}",
                "also_buy": near + far,
                "imageURLHighRes": [f"https://images.example/I/{number:011d}.jpg"],
                "asin": f"B{number:09d}",
            }
            packing.stdin.write(json.dumps(row).encode() + b"\n")


def _imported(settings: Settings, file: Path, work: Path) -> dict[str, float]:
    env = {
        **os.environ,
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MINDSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "MINDSTREAM_IMAGE_ALLOWED_HOSTS": "images.example",
    }
    command = [sys.executable, "-m", "benchmarks.importing", str(file), str(work)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _messages(settings: Settings) -> list[Record]:
    """What an import has sent: its messages, products first as it sends them."""
    names = (topics.PRODUCTS.name(settings), topics.COBUYS.name(settings))
    return [record for name in names for record in kafka.read_all(settings, name)]


def _bare(settings: Settings, messages: Sequence[Record]) -> float:
    """Messages per second of the shortest loop."""
    producer = kafka.plain_producer(settings)
    began = time.monotonic()
    for one in messages:
        while True:
            try:
                producer.produce(one.topic, one.value, one.key, headers=one.headers)  # type: ignore[arg-type]
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(300):
        raise RuntimeError("Kafka did not take the messages")
    return len(messages) / (time.monotonic() - began)


def _installation(parts: Parts) -> Settings:
    made = parts.settings()
    kafka.create_topics(made, topics.specs(made))
    return made


def _speed(parts: Parts, folder: Path) -> Row:
    rows, rounds = (20_000, 3) if parts.quick else (50_000, 5)
    file = folder / "speed.json.gz"
    _catalogue(file, rows)
    first = _installation(parts)
    _imported(first, file, folder / "warm")
    messages = _messages(first)
    pairs = []
    for number in range(rounds):
        found = _imported(_installation(parts), file, folder / str(number))
        pairs.append((found["messages"] / found["seconds"], _bare(first, messages)))
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    rates = [statistics.median(side) for side in zip(*pairs, strict=True)]
    measured = f"{ratio:.2f} ({rates[0]:,.0f} against {rates[1]:,.0f} messages/s)"
    goal = "at least 0.50 of a bare librdkafka produce's messages/s, from gzip"
    return Row("cli.import", goal, measured, ratio >= 0.5)


def _memory(parts: Parts, folder: Path) -> Row:
    sizes = (20_000, 200_000) if parts.quick else (100_000, 1_000_000)
    found = []
    for rows in sizes:
        file = folder / f"{rows}.json.gz"
        _catalogue(file, rows)
        found.append(_imported(_installation(parts), file, folder / f"memory-{rows}"))
        file.unlink()
    growth = found[1]["mib"] / found[0]["mib"] - 1
    peaks = " and ".join(f"{one['mib']:.0f} MiB at {rows:,} rows" for one, rows in zip(found, sizes, strict=True))
    rate = sizes[1] / found[1]["seconds"]
    measured = f"{growth:+.0%}: peak {peaks} ({rate:,.0f} rows/s, {found[1]['messages']:,.0f} messages)"
    return Row("cli.import_memory", "ten times the rows add at most 50 % of peak memory", measured, growth <= 0.5)


def measure(parts: Parts) -> list[Row]:
    """Alternating rounds for the speed; two files for the memory."""
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as folder:
        return [_speed(parts, Path(folder)), _memory(parts, Path(folder))]


def main() -> None:
    """One import."""
    from services.cli.imports.command import Asked, Collection
    from services.cli.imports.session import run

    file, work = map(Path, sys.argv[1:])
    asked = Asked(Collection.AMAZON_2018, [file], False, False, False, False, None, False, [], [], None, 0, work, None)
    began = time.monotonic()
    at = run(asked)
    seconds = time.monotonic() - began
    # Not getrusage's: that knows of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "messages": sum(at.sent.values()), "mib": peak}))


if __name__ == "__main__":
    main()
