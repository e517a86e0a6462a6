"""`mindstream evaluate intentionqa` and `finetune`, as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.demo import CHECKPOINT
from services.cli.main import app
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.plain import PlainEngine
from tests.lvlm.endpoint import Endpoint, serving
from tests.training.conftest import Trained
from tests.training.test_questions import sourced, written


def evaluated(*arguments: object) -> Any:
    done = CliRunner().invoke(app, ["evaluate", "intentionqa", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("scoring", ["likelihood", "letter", "generate"])
def test_an_adapter_is_compared_with_its_checkpoint(scoring: str, trained: Trained) -> None:
    told = evaluated(
        "--task",
        1,
        "--data",
        trained.release,
        "--checkpoint",
        CHECKPOINT,
        "--adapter",
        trained.out,
        "--scoring",
        scoring,
    )
    base, tuned = told["models"]
    assert tuned["model"].startswith(f"{base['model']}+tuned@sha256:")
    assert told["questions"] == 4
    assert tuned["better than the first by"]["value"] == pytest.approx(
        tuned["accuracy"]["all"]["value"] - base["accuracy"]["all"]["value"]
    )
    assert set(told["floors"]) == {"random", "always A", "words in common"}
    if scoring != "generate":
        assert base["unparsable"] == tuned["unparsable"] == 0


def test_an_endpoint_is_asked_as_the_source_asks(tmp_path: Path) -> None:
    data = written(tmp_path / "task1.jsonl", [sourced(number) for number in range(6)])
    checkpoint = Checkpoint(Settings(model=str(CHECKPOINT), model_device="cpu"))
    endpoint = Endpoint(checkpoint, PlainEngine(checkpoint, Settings()), with_logprobs=False, with_pictures=False)
    with serving(endpoint):
        asked = ["--task", "1", "--data", data, "--endpoint", endpoint.url]
        told = evaluated(*asked, "--limit", 5)
        assert [told["questions"], told["models"][0]["model"]] == [5, "small@openai"]
        [message] = endpoint.asked[0]["messages"]
        assert message["content"][0]["text"].endswith("D. because of 3\nAnswer with the letter only.")
        refused = CliRunner().invoke(app, ["evaluate", "intentionqa", *asked, "--scoring", "letter"])
    assert refused.exit_code == 2
    assert "an endpoint gives no likelihoods" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--task", "1", "--data", "nowhere"], "one of --checkpoint and --endpoint is needed"),
        (["--task", "1", "--data", "nowhere", "--checkpoint", "x"], "nowhere is not a whole release: nowhere has no"),
        (["--task", "2", "--data", "FILE", "--checkpoint", "x"], "no row of IntentionQA's task 2"),
        (["--task", "1", "--data", "FILE", "--checkpoint", "/no/where"], "no checkpoint /no/where"),
        (["--task", "1", "--data", "FILE", "--checkpoint", str(CHECKPOINT), "--adapter", "x"], "no adapter in x"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    data = written(tmp_path / "task1.jsonl", [sourced(0)])
    arguments = [data if one == "FILE" else one for one in arguments]
    done = CliRunner().invoke(app, ["evaluate", "intentionqa", *arguments])
    assert done.exit_code == 2, done.output
    assert [one for one in done.stderr.splitlines() if line in one]


def test_finetune_says_what_is_wrong_with_a_release(tmp_path: Path) -> None:
    arguments = ["--release", str(tmp_path), "--checkpoint", str(CHECKPOINT), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["finetune", *arguments])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert f"mindstream: {tmp_path} is not a whole release: {tmp_path} has no manifest.json" in done.stderr
