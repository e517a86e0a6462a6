"""Every alert fires when it should and not before, says what it should, and has a runbook."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from mindstream.events.v1.dead_letter_pb2 import DeadLetterReason

from deploy.local.prometheus import RULES
from services.cli.main import app
from services.common.errors import reason_label
from services.common.settings import Settings
from tests.monitoring.cases import CASES, Case
from tests.monitoring.promql import metrics

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = sorted(RULES.glob("*.yaml"))
RULE_LIST: list[dict[str, Any]] = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULE_LIST if "alert" in rule}
OBJECTIVES = {rule["labels"]["of"] for rule in RULE_LIST if rule.get("record") == "mindstream:objective"}


def test_a_real_prometheus_takes_the_rules(programs: Path) -> None:
    done = subprocess.run(
        [programs / "promtool", "check", "rules", "--lint=all", *FILES], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(ALERTS) == sum("alert" in rule for rule in RULE_LIST), "two alerts of one name"


def test_every_alert_is_tested() -> None:
    assert ALERTS.keys() == {case.alert for case in CASES}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.M) == ["Symptom", "Causes", "What to do", "Over when"]
    # What says that it is over is a query, of what is measured.
    assert metrics(over(RUNBOOKS / f"{name}.md")) or name == "MindstreamProcessDown"


def over(page: Path) -> str:
    """The query of a runbook that says that it is over."""
    found = re.search(r"^    (.+)$", page.read_text().split("## Over when")[1], re.M)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ALERTS)
def test_what_a_runbook_says_to_do_can_be_done(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    lines = re.findall(r"^    mindstream (.*)$|`mindstream ([^`]*)`", page, re.M)
    for words in (shlex.split(first or second) for first, second in lines):
        command: Any = typer.main.get_command(app)
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words, resilient_parsing=False)  # Refuses what is no option.
    unknown = set(re.findall(r"MINDSTREAM_([A-Z_]+)", page)) - {field.upper() for field in Settings.model_fields}
    assert not unknown
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page)) | set(re.findall(r"\bMindstream[A-Z]\w+", page))
    known = {reason_label(value) for value in DeadLetterReason.values()} | ALERTS.keys() | OBJECTIVES | {"occurred_at"}
    assert named <= known


def test_the_docs_list_every_alert() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", text, re.M)
    assert sorted(listed) == sorted((name, name, rule["labels"]["severity"]) for name, rule in ALERTS.items())


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("Mindstream*.md")} == ALERTS.keys()


def test_recorded_names_are_used_and_known() -> None:
    recorded = {rule["record"] for rule in RULE_LIST if "record" in rule}
    used = {name for rule in RULE_LIST for name in metrics(rule["expr"]) if ":" in name}
    assert used <= recorded
    wanted = {name for rule in RULE_LIST for name in re.findall(r'mindstream:objective\{of="(\w+)"', rule["expr"])}
    assert wanted == OBJECTIVES


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{CASES[number].alert}-{number}")
def test_it_fires_and_keeps_quiet(number: int, programs: Path, tmp_path: Path) -> None:
    case = CASES[number]
    tests = [
        _test(case, case.series, [{"exp_labels": _labels(case), "exp_annotations": _said(case)}]),
        _test(case, {**case.series, **case.quiet}, []),
    ]
    spec = tmp_path / "test.yaml"
    spec.write_text(
        json.dumps({"rule_files": [str(path) for path in FILES], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run([programs / "promtool", "test", "rules", spec], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _test(case: Case, series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": expected}],
    }


def _labels(case: Case) -> dict[str, str]:
    return {**case.labels, "severity": ALERTS[case.alert]["labels"]["severity"]}


def _said(case: Case) -> dict[str, str]:
    """Annotations as they must come out."""

    def filled(text: str) -> str:
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)
        return re.sub(r"\{\{ \$value \| [^}]+ \}\}", case.value, text)

    return {name: filled(text) for name, text in ALERTS[case.alert]["annotations"].items()}
