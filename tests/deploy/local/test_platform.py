"""The embedded platform as a person runs it: the whole path, kills in the middle, restarts, and no process left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import psutil
import pytest
from mindstream.events.v1.cobuy_pb2 import CoBuy

from models.demo import SAMPLE
from services.common.kafka import plain_producer
from services.common.relations import RELATIONS
from services.common.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
PAIRS = 6
#: Every process that handles events; the broker and the database have tests of their own.
WORKERS = ("extractor", "generator", "filter", "kb_sink", "model", "cobuy")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.2)


def mindstream(*arguments: object) -> str:
    command = [sys.executable, "-c", "from services.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def platform(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A supervisor with everything ready; stopped at the end."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    try:
        lines = []
        for line in supervisor.stdout:
            lines.append(line.strip())
            if lines[-1] == "ready":
                break
        else:
            pytest.fail(f"the platform ended: {lines} {supervisor.communicate()[1]}")
        drain = threading.Thread(target=supervisor.stdout.read, daemon=True)
        drain.start()
        yield supervisor
    finally:
        supervisor.terminate()
        supervisor.wait(120)


@pytest.fixture
def folder(platform_folder: Path, request: pytest.FixtureRequest) -> Path:
    return platform_folder / str(request.node.name)[:40]


def feed(folder: Path, inputs: Path, pairs: int = PAIRS) -> None:
    products = SAMPLE / "products.jsonl"
    ids = [json.loads(line)["product_id"] for line in products.read_text().splitlines()][:5]
    rows = [{"product_a": a, "product_b": b} for a, b in list(combinations(ids, 2))[:pairs]]
    cobuys = inputs / "cobuys.jsonl"
    cobuys.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mindstream("feed", "cobuys", cobuys, "--data-dir", folder)  # Before the products: they are parked, not lost.
    mindstream("feed", "products", products, "--data-dir", folder)


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mindstream("status", "--json", "--data-dir", folder))
    return found


def drained(folder: Path) -> bool:
    return not any(row["lag"] for row in status(folder)["lags"])


def knowledge(folder: Path) -> dict[str, tuple[str, float, bool]]:
    rows = map(json.loads, mindstream("kb", "export", "--data-dir", folder).splitlines())
    return {row["intention_id"]: (row["text"], row["score"], row["accepted"]) for row in rows}


def state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "platform.json").read_text())
    return found


def test_the_same_input_gives_the_same_kb_whatever_is_killed(folder: Path, tmp_path: Path) -> None:
    with platform(folder / "quiet"):
        feed(folder / "quiet", tmp_path)
        wait_for(lambda: drained(folder / "quiet"), "drained")
        quiet = knowledge(folder / "quiet")
    assert len(quiet) == PAIRS * len(RELATIONS)

    with platform(folder / "killed"):
        feed(folder / "killed", tmp_path)
        for name in WORKERS:
            os.kill(state(folder / "killed")["processes"][name]["pid"], signal.SIGKILL)
        wait_for(lambda: drained(folder / "killed"), "drained after the first kills")
        feed(folder / "killed", tmp_path)  # Resent while all are killed once more.
        for name in reversed(WORKERS):
            os.kill(state(folder / "killed")["processes"][name]["pid"], signal.SIGKILL)
        wait_for(lambda: drained(folder / "killed"), "drained after the second kills")
        assert knowledge(folder / "killed") == quiet
        assert json.loads(mindstream("dlq", "list", "--json", "--data-dir", folder / "killed")) == []


def test_a_restart_goes_on_and_a_second_supervisor_is_refused(folder: Path, tmp_path: Path) -> None:
    with platform(folder):
        feed(folder, tmp_path, pairs=2)
        wait_for(lambda: drained(folder), "drained")
        before = knowledge(folder)
        second = subprocess.run([sys.executable, "-m", "deploy.local", folder], capture_output=True, text=True)
        assert second.returncode == 3
        assert "in use by another" in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
        findings = json.loads(mindstream("doctor", "--json", "--data-dir", folder))
        assert all(finding["well"] for finding in findings), findings
    with platform(folder):
        assert knowledge(folder) == before
        feed(folder, tmp_path, pairs=3)
        wait_for(lambda: drained(folder), "drained")
        after = knowledge(folder)
        assert after.keys() > before.keys()
        assert len(after) == 3 * len(RELATIONS)
        mended_letters_come_through(folder, tmp_path)
        assert mindstream("datasets", "release", "--data-dir", folder).startswith("file://")
        assert "every file is as its manifest says" in mindstream("datasets", "verify", "--data-dir", folder)


def mended_letters_come_through(folder: Path, tmp_path: Path) -> None:
    """Bad events beside a good one: each a dead letter with its reason, and a replay of it, mended, is judged."""
    settings = Settings(kafka_bootstrap_servers=state(folder)["env"]["MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS"])
    rows = (SAMPLE / "products.jsonl").read_text().splitlines()
    first, second = [json.loads(line)["product_id"] for line in rows][5:7]  # In no pair so far.
    self_pair = CoBuy(product_a=first, product_b=first).SerializeToString()
    producer = plain_producer(settings)
    for value, kind in ((b"\xff\xfe", "protobuf"), (self_pair, "protobuf"), (b"{}", "json"), (b"<x/>", "xml")):
        producer.produce("cobuys", value, "k", headers=[("content-type", f"application/{kind}".encode())])
    assert producer.flush(30) == 0
    wait_for(lambda: drained(folder), "drained")
    before = knowledge(folder)
    listed = json.loads(mindstream("dlq", "list", "--json", "--data-dir", folder))
    assert {row["reason"]: row["waiting"] for row in listed} == {"undecodable": 1, "invalid": 2, "content_type": 1}

    script = tmp_path / "mend.py"
    script.write_text(f"import json\nprint(json.dumps(dict(product_a={first!r}, product_b={second!r})))")
    replay = ("dlq", "replay", "--topic", "cobuys", "--reason", "undecodable", "--edit", f"{sys.executable} {script}")
    assert mindstream(*replay, "--data-dir", folder) == "1 sent\n"
    assert mindstream(*replay, "--data-dir", folder) == "0 sent\n"
    wait_for(lambda: drained(folder), "drained")
    assert len(knowledge(folder)) == len(before) + len(RELATIONS)
    found = json.loads(mindstream("kb", "query", "--product", first, "--json", "--data-dir", folder))
    assert {row["source_topic"] for row in found} == {"cobuys"}
    assert json.loads(mindstream("kb", "stats", "--json", "--data-dir", folder))["intentions"] == len(knowledge(folder))


def test_kill_9_of_the_supervisor_leaves_no_process(folder: Path) -> None:
    with platform(folder) as supervisor:
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(children) >= 9
        supervisor.kill()
        supervisor.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
