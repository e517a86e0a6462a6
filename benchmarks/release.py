"""A dataset release of a large KB: how long, in how much memory, and against a bare read of the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.kb_growth import Size
from benchmarks.parts import Parts
from benchmarks.rows import Row
from services.common import kafka, topics

_ROWS, _QUICK_ROWS = 1_000_000, 50_000
_SECONDS_A_MILLION, _MIB = 180, 1024


def measure(parts: Parts) -> list[Row]:
    """Rows of time and memory; splits by pair, so that nothing is left out."""
    count = _QUICK_ROWS if parts.quick else _ROWS
    size = Size(parts, count, extractor=False)
    kafka.create_topics(size.settings, topics.specs(size.settings))  # A release is announced.
    with psycopg.connect(size.dsn) as connection, connection.cursor("bare") as cursor:
        began = time.perf_counter()
        cursor.itersize = 5000
        cursor.execute("SELECT i.*, p.* FROM kb.intentions i JOIN kb.pairs p USING (pair_id) ORDER BY i.pair_id")
        rows = sum(1 for _ in cursor)
        bare = time.perf_counter() - began
    with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as folder:
        environment = {
            **os.environ,
            "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": parts.bootstrap_servers,
            "MINDSTREAM_TOPIC_PREFIX": size.settings.topic_prefix,
            "MINDSTREAM_POSTGRES_DSN": size.dsn,
            "MINDSTREAM_DATASETS_URL": f"file://{folder}",
            "MINDSTREAM_RELEASE_SPLIT": "pair",
        }
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "services.kb_sink.releases", "--once"], env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise RuntimeError("no release was made")
        manifest = json.loads(next(Path(folder).glob("*/manifest.json")).read_text())
    written, size_mib = sum(one["rows"] for one in manifest["splits"]), usage.ru_maxrss / 1024
    return [
        Row(
            "release.seconds",
            f"at most {_SECONDS_A_MILLION} s a million intentions",
            f"{seconds:.0f} s for {rows:,} intentions, {written:,} rows (a bare read: {bare:.0f} s)",
            seconds <= _SECONDS_A_MILLION * rows / 1_000_000,
        ),
        Row("release.memory", f"at most {_MIB} MiB", f"{size_mib:.0f} MiB", size_mib <= _MIB),
    ]
