"""The embedded platform with its Prometheus and a collector while events run: what is measured, traced and logged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.platform import STATE_FILE
from deploy.local.prometheus import RULES
from deploy.local.services import SERVICES
from deploy.monitoring.__main__ import DASHBOARDS
from deploy.monitoring.picture import answers, ask, draw
from models.demo import SAMPLE
from services.cli import feed
from services.common import kafka, topics
from services.common.lag import lags
from services.common.settings import Settings
from tests.monitoring.collector import Collector, Seen
from tests.monitoring.promql import metrics
from tests.monitoring.test_rules import RUNBOOKS, over

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

#: In events that become dead letters: no log line may hold it.
MARK = "payload-7e1c"
#: Of the trace that the shop begins with its last order.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
#: In two waves, so that every counter is seen to grow.
WAVES = (slice(0, 4), slice(4, 8))
#: Key, value and headers.
Event = tuple[str, bytes, list[tuple[str, bytes]]]
STAGES = ("cobuy", "extractor", "generator", "filter", "kb_sink")


#: The supervisor is a process of its own: it forks, which a process that serves gRPC cannot.
SUPERVISOR = """
import json, sys
from pathlib import Path
from deploy.local.__main__ import run
from deploy.local.platform import PlatformOptions
options = PlatformOptions(Path(sys.argv[1]), settings=json.loads(sys.argv[2]), prometheus=True)
sys.exit(run(options, lambda line: print(line, flush=True)))
"""


@dataclass(frozen=True)
class Live:
    """The platform at work, and what it has said so far."""

    settings: Settings
    folder: Path
    collector: Collector
    prometheus: str
    #: When it was ready, monotonic.
    since: float


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.3)


@pytest.fixture(scope="module")
def live(platform_folder: Path, programs: Path) -> Iterator[Live]:
    folder = platform_folder / "monitored"
    with Collector.serving() as collector:
        options = {
            "COBUY_MIN_SUPPORT": "1",
            "RELEASE_INTERVAL_SECONDS": "5",
            "RELEASE_VERIFY_SECONDS": "5",
            "LOG_FORMAT": "json",
            "OTLP_ENDPOINT": collector.endpoint,
        }
        settings = {f"MINDSTREAM_{name}": value for name, value in options.items()}
        command = [sys.executable, "-c", SUPERVISOR, str(folder), json.dumps(settings)]
        supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert supervisor.stdout is not None
        try:
            said = []
            for line in supervisor.stdout:
                said.append(line.strip())
                if said[-1] == "ready":
                    break
            assert said[-1:] == ["ready"], said
            threading.Thread(target=supervisor.stdout.read, daemon=True).start()
            env = platform_state(folder)["env"]
            fields = {name.removeprefix("MINDSTREAM_").lower(): value for name, value in env.items()}
            prometheus = next(line for line in said if line.startswith("Prometheus: http")).partition(" ")[2]
            found = Live(Settings.model_validate(fields), folder, collector, prometheus, time.monotonic())
            run_events(found)
            yield found
        finally:
            supervisor.terminate()
            supervisor.wait(120)


def platform_state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    return found


def run_events(live: Live) -> None:
    products = [feed.product(place, row) for place, row in feed.lines(SAMPLE / "products.jsonl")]
    feed.send(live.settings, topics.PRODUCTS, products)
    orders = [feed.purchase(place, row) for place, row in feed.lines(SAMPLE / "purchases.jsonl", WAVES[-1].stop)]
    for number, wave in enumerate(WAVES):
        events: list[Event] = [(key, order.SerializeToString(), []) for key, order in orders[wave]]
        events.append((orders[0][0], orders[0][1].SerializeToString(), []))  # Again.
        events.append(("bad", json.dumps({"order_id": f"{MARK}\u0000", "items": [{"product_id": MARK}]}).encode(), []))
        if number == len(WAVES) - 1:
            key, value, _ = events[0]
            events[0] = (key, value, [("traceparent", f"00-{TRACE}-{SPAN}-01".encode())])
        send_in_a_transaction(live, events)
        bad = json.dumps({"product_id": "bad", "title": f"{MARK}\u0000"}).encode()
        producer = kafka.plain_producer(live.settings)
        producer.produce(topics.PRODUCTS.name(live.settings), bad, "bad")
        assert producer.flush(30) == 0
        wait_for(lambda: not any(lag.records for lag in lags(live.settings)), "drained", 300)
        scraped(live)


def send_in_a_transaction(live: Live, events: list[Event]) -> None:
    """As a shop may write: the markers of its transactions stand among its records."""
    producer = Producer(kafka.producer_config(live.settings, **{"transactional.id": "shop"}))
    producer.init_transactions(30)
    producer.begin_transaction()
    for key, value, headers in events:
        producer.produce(topics.PURCHASES.name(live.settings), value, key, headers=headers)  # type: ignore[arg-type]
    producer.commit_transaction(30)


def scraped(live: Live) -> None:
    """Wait until every process was scraped after now, and every rule evaluated after that."""

    def after_now(kind: str, found: Callable[[], list[str]]) -> None:
        now = time.time()
        wait_for(lambda: min(map(seconds_of, found()), default=0) > now, kind)

    after_now("scraped", lambda: [one["lastScrape"] for one in ask(live.prometheus, "targets")["activeTargets"]])
    after_now("evaluated", lambda: [one["lastEvaluation"] for one in ask(live.prometheus, "rules")["groups"]])


def seconds_of(stamp: str) -> float:
    from datetime import datetime

    # Nanoseconds are more than it reads.
    head, _, rest = stamp.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return datetime.fromisoformat((head + zone).replace("Z", "+00:00")).timestamp()


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield f"{path.stem}: {panel['title']}", panel


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES.glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def test_every_process_is_scraped(live: Live) -> None:
    targets = ask(live.prometheus, "targets")["activeTargets"]
    assert {one["labels"]["process"] for one in targets} == {service.name for service in SERVICES}
    assert {one["health"] for one in targets} == {"up"}
    builds = ask(live.prometheus, "query", query="mindstream_build_info")["result"]
    assert {one["metric"]["service"] for one in builds} == {service.name for service in SERVICES}


def test_no_rule_panel_or_runbook_names_what_no_process_exports(live: Live) -> None:
    exported: set[str] = set()
    for target in ask(live.prometheus, "targets")["activeTargets"]:
        with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
                exported |= {family.name + end for end in ends}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = {f"rule {rule.get('alert') or rule['record']}": rule["expr"] for rule in rules()}
    expressions |= {f"{name} {t['refId']}": t["expr"] for name, panel in panels() for t in panel["targets"]}
    expressions |= {path.name: over(path) for path in RUNBOOKS.glob("Mindstream*.md")}
    unknown = {name: metrics(text) - exported - recorded for name, text in expressions.items()}
    assert {name: missing for name, missing in unknown.items() if missing} == {}
    assert len(expressions) > 100


def test_every_rule_is_evaluated_without_an_error(live: Live) -> None:
    found = [rule for group in ask(live.prometheus, "rules")["groups"] for rule in group["rules"]]
    assert len(found) == len(list(rules()))
    assert {rule["name"]: rule["lastError"] for rule in found if rule.get("lastError")} == {}
    assert {rule["health"] for rule in found} == {"ok"}


def test_every_panel_answers(live: Live) -> None:
    silent = []
    for name, panel in panels():
        for target in panel["targets"]:
            series = answers(live.prometheus, target, time.monotonic() - live.since)
            numbers = [float(value) for one in series for _, value in one["values"]]
            if not any(map(math.isfinite, numbers)):
                silent.append(f"{name}: {target['expr']}")
    assert silent == []


def test_what_says_that_it_is_over_is_a_query(live: Live) -> None:
    for path in RUNBOOKS.glob("Mindstream*.md"):
        ask(live.prometheus, "query", query=over(path))


def test_nothing_waits_any_more_transactions_markers_aside(live: Live) -> None:
    def lag(kind: str) -> dict[str, float]:
        found = ask(live.prometheus, "query", query=f"max by (stage) (mindstream_consumer_lag_{kind})")["result"]
        return {one["metric"]["stage"]: float(one["value"][1]) for one in found}

    for kind in ("records", "seconds"):
        wait_for(lambda kind=kind: not any(lag(kind).values()), f"no lag in {kind}")  # type: ignore[misc]
        assert lag(kind).keys() == set(STAGES)


def test_a_picture_is_drawn_of_it(live: Live, tmp_path: Path) -> None:
    from PIL import Image

    draw(live.prometheus, tmp_path / "front.png", 120)
    with Image.open(tmp_path / "front.png") as picture:
        colours = picture.convert("RGB").getcolors(2**24)
    assert colours is not None
    assert len(colours) > 50


def test_one_trace_goes_from_the_purchase_to_its_rows(live: Live) -> None:
    # Each process sends its spans every five seconds.
    wait_for(lambda: "kb_sink commit" in {one.name for one in traced(live)}, "the trace of the shop's order")
    wanted = {f"{stage} process" for stage in STAGES}
    wanted |= {
        f"{stage} {what}" for stage in ("extractor", "generator", "filter") for what in ("call", "serve", "commit")
    }
    wait_for(lambda: wanted <= {one.name for one in traced(live)}, "all of its spans")
    spans = {one.span_id: one for one in traced(live)}
    way = []
    at = next(one for one in spans.values() if one.name == "kb_sink commit")
    while at.parent in spans:
        way.append(at.name)
        at = spans[at.parent]
    assert at.parent == SPAN
    processed = [name for name in [*way, at.name] if name.endswith("process")]
    # The cobuy service has it three times: by customer, by pair, counted.
    assert processed == [f"{stage} process" for stage in reversed(("cobuy", "cobuy", *STAGES))]
    served = next(one for one in spans.values() if one.name == "generator serve")
    assert spans[served.parent].name == "generator call"
    assert served.service == "mindstream-model"
    assert {one.attributes["mindstream.outcome"] for one in spans.values() if one.name.endswith("process")} == {"ok"}


def traced(live: Live) -> list[Seen]:
    return [one for one in live.collector.spans() if one.trace_id == TRACE]


def test_every_line_of_the_log_is_json_and_none_holds_a_payload(live: Live) -> None:
    events: dict[str, list[dict[str, Any]]] = {}
    for service in SERVICES:
        text = (live.folder / "logs" / f"{service.name}.log").read_text()
        assert MARK not in text
        lines = [json.loads(line) for line in text.splitlines()]
        events[service.name] = [line for line in lines if "event" in line]
    # A trace was begun for each order that came without one.
    for name, topic in (("cobuy", "purchases"), ("extractor", "products")):
        letters = [line for line in events[name] if line["message"].startswith("dead letter")]
        assert len(letters) == len(WAVES)
        assert all(line["event"].startswith(f"{topic}-") and len(line["trace_id"]) == 32 for line in letters)
        assert {line["message"].partition(" (")[2] for line in letters} == {"invalid)"}
