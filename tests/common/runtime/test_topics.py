"""Topics that are deleted or get more partitions: a worker refuses in one line, and nothing is reordered."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.common.runtime.main import run
from services.common.runtime.routes import topics_needed
from tests.common.runtime.conftest import Bench, wait_for
from tests.common.runtime.program import stage
from tests.conftest import delete, grow

pytestmark = pytest.mark.integration
#: A change of the topics is seen soon.
_SOON = {"MINDSTREAM_LIBRDKAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS": "500"}


def _started(bench: Bench) -> subprocess.Popen[str]:
    bench.overrides.update(_SOON)
    command = [sys.executable, "-m", "tests.common.runtime.program"]
    worker = subprocess.Popen(command, env={**os.environ, **bench.env()}, stderr=subprocess.PIPE, text=True)
    bench.send(*({"n": n} for n in range(20)))
    wait_for(lambda: bench.committed() >= 20, "it works")
    return worker


def _said(worker: subprocess.Popen[str]) -> str:
    """What it said last, after it has ended for the topics' sake."""
    _, said = worker.communicate(timeout=90)
    assert worker.returncode == 2, said
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def test_a_worker_whose_topic_is_deleted_says_so_and_ends(bench: Bench) -> None:
    worker = _started(bench)
    topic = bench.prefix + "cobuys"
    delete(bench.settings(), topic)
    assert f"no topic {topic} (run: mindstream topics)" in _said(worker)


def test_a_worker_of_whose_topic_keys_move_says_so_and_reads_none_of_the_new_partitions(bench: Bench) -> None:
    worker = _started(bench)
    # Only the runtime writes this one; a shop's own may grow.
    grow(bench.settings(), bench.prefix + "cobuys.extractor.retry", 8)
    assert f"topic {bench.prefix}cobuys.extractor.retry has" in (line := _said(worker))
    assert "MINDSTREAM_TOPIC_PARTITIONS" in line


def test_a_shops_own_topic_may_grow(bench: Bench) -> None:
    worker = _started(bench)
    grow(bench.settings(), bench.prefix + "cobuys", 8)
    bench.send(*({"n": n} for n in range(20, 200)))
    wait_for(lambda: bench.numbers() == list(range(200)), "all partitions are read")
    worker.terminate()
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_no_worker_starts_on_a_topic_with_another_number_of_partitions(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    grow(bench.settings(), bench.prefix + "cobuys.extractor.retry", 5)
    settings = bench.settings()
    assert topics_needed(stage(settings), settings) == {
        f"{bench.prefix}cobuys": 0,
        f"{bench.prefix}cobuys.extractor.retry": 4,
    }
    assert run(stage(settings), settings) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "has 5 partitions and not 4" in lines[0]
