"""A filter on trial beside the one that counts: each of its share once, whatever is killed; nothing counts of it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, VERDICT_REJECTED, Intention, JudgedIntentions
from typer.testing import CliRunner
from typer.testing import Result as Done

from deploy.local.process import free_port
from services.cli.main import app
from services.cli.shadow.beside import Comparison, judged
from services.common import kafka, topics
from services.common.ids import share
from services.common.lag import lag
from services.common.records import Record
from services.common.settings import Settings, SettingsError
from services.filter.handler import Filter
from services.filter.server import prompts
from tests.cli.test_rejudge import processes
from tests.common.runtime.conftest import wait_for
from tests.corpus.events import neighbours
from tests.lvlm.fixtures import Served, checkpoint, engine, served

__all__ = ["checkpoint", "engine", "served"]
_PROMPT = """
with_pictures = "Both were bought."
without_pictures = "Both were bought."
products = "{a} and {b}."
question = "Because {intention}? yes or no."
"""


def says(by: str, scores: list[float], seconds: float, tokens: int) -> bytes:
    """What a filter with a threshold of a half says of three intentions of one record, and of one without a text."""
    made = JudgedIntentions(threshold=0.5)
    made.judged_by.model_version, made.judged_by.prompt_version, made.judged_by.tokens = by, "filter/v1", tokens
    made.judged_by.took.FromMilliseconds(int(seconds * 1000))
    for relation, score in zip(("UsedFor", "IsA", "IsA"), scores, strict=True):
        verdict = VERDICT_ACCEPTED if score >= 0.5 else VERDICT_REJECTED
        made.judged.add(intention=Intention(relation=relation, text="t"), score=score, verdict=verdict)
    made.judged.add(intention=Intention(relation="PartOf"), verdict=VERDICT_REJECTED)
    return made.SerializeToString()


def test_both_are_compared_by_hand() -> None:
    compared = Comparison()
    for live, shadow in (
        (says("m@1", [0.75, 0.25, 0.5], 1, 100), says("m@2", [0.5, 0.5, 0.25], 3, 300)),
        (says("m@1", [1.0, 0.25, 0.0], 2, 200), says("m@2", [0.5, 0.25, 0.25], 5, 500)),
    ):
        compared.add(judged(live)[0], judged(shadow)[0])
    told = compared.told()
    # Both keep 2, each alone 1, both reject 2; each keeps half: 0.5 is by chance.
    assert (told["cobuys"], told["intentions"], told["agreement"]) == (2, 6, pytest.approx(4 / 6))
    assert told["kappa"] == pytest.approx(1 / 3)
    assert (told["live_kept"], told["shadow_kept"]) == (0.5, 0.5)
    assert (told["shift"], told["shift_size"]) == (pytest.approx(-0.5 / 6), pytest.approx(1.5 / 6))
    assert (told["live_seconds_a_cobuy"], told["shadow_seconds_a_cobuy"]) == (1.5, 4)
    assert (told["live_tokens_a_cobuy"], told["shadow_tokens_a_cobuy"]) == (150, 400)
    assert list(told["relations"]) == ["IsA", "UsedFor"]
    assert told["relations"]["UsedFor"]["shadow_score"] == 0.5
    assert told["relations"]["UsedFor"]["kappa"] is None  # Both keep all.


@pytest.mark.integration
async def test_a_shadow_judges_its_share_of_the_pairs_and_counts_nothing(served: Served, tmp_path: Path) -> None:
    own = Settings(filter_target=served.target, media_url=f"file://{tmp_path}/media", shadow_share=0.3)
    stage = Filter(own).stage()
    assert [route.topic for route in stage.routes] == [topics.CANDIDATES]
    assert stage.start is not None
    assert stage.stop is not None
    await stage.start()
    judged_pairs = []
    for number in range(60):
        record = Record("intentions.candidates", 0, number, b"k", neighbours.candidates(number).SerializeToString())
        result = await stage.routes[0].handle(record)
        assert result.count is None
        for output in result.outputs:
            assert (output.topic, dict(output.headers)["ce_id"]) == (
                "intentions.judged.shadow",
                f"filter_shadow/intentions.candidates-0-{number}".encode(),
            )
            assert JudgedIntentions.FromString(output.value).judged_by.tokens > 0
            judged_pairs.append(output.key.decode())
    await stage.stop()
    pairs = [neighbours.featured(number).cobuy.pair_id for number in range(60)]
    assert judged_pairs == [pair for pair in pairs if share("shadow", pair) < 0.3]
    assert 5 < len(judged_pairs) < 35


@pytest.mark.integration
def test_a_kill_leaves_each_judgement_of_the_share_once(
    settings: Callable[..., Settings], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(topic_partitions=2, filter_target=f"127.0.0.1:{free_port()}")
    (tmp_path / "terse.toml").write_text(_PROMPT)
    producer, sent = kafka.plain_producer(own), range(200)
    for number in sent:
        made = neighbours.candidates(number)
        made.candidates.append(Intention(intention_id=f"j{number}", relation="IsA", text=f"thing {number}"))
        made.generated_by.at.GetCurrentTime()
        key = made.featured.cobuy.pair_id
        producer.produce(topics.CANDIDATES.name(own), made.SerializeToString(), key)
    assert producer.flush(60) == 0
    command = (str(Path(sys.executable).with_name("mindstream")), "shadow", "run", "--prompt", "terse.toml")
    expected = sorted(pair for n in sent if share("shadow", pair := neighbours.made_of(topics.CANDIDATES, n)) < 0.5)

    def held(topic: topics.Topic) -> list[Record]:
        return list(kafka.read_all(own, topic.name(own)))

    with processes(own, checkpoint, tmp_path) as start:
        start(sys.executable, "-m", "services.lvlm")
        start(sys.executable, "-m", "services.filter")
        trial = start(*command, "--share", "0.5")
        wait_for(lambda: bool(held(topics.SHADOWED)), "some are judged")
        trial.kill()
        trial.wait()
        assert len(held(topics.SHADOWED)) < len(expected)
        trial = start(*command, "--share", "0.5")
        for group in ("filter", "filter_shadow"):
            wait_for(lambda group=group: not lag(own, topics.CANDIDATES, group), f"{group} is done")  # type: ignore[misc]
        trial.send_signal(signal.SIGTERM)
        assert trial.wait(60) == 0
    shadowed, counting = held(topics.SHADOWED), held(topics.JUDGED)
    assert sorted((record.key or b"").decode() for record in shadowed) == expected
    assert len({record.text_header("ce_id") for record in counting}) == len(counting) == len(sent)
    prompts = {
        JudgedIntentions.FromString(one.value).judged_by.prompt_version for part in (shadowed, counting) for one in part
    }
    assert prompts == {"filter/terse", "filter/v1"}

    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", own.kafka_bootstrap_servers)
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", own.topic_prefix)
    done = invoke("compare", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["shadow_cobuys"], found["not_judged_yet"]) == (len(expected), 0)
    (one,) = found["compared"]
    assert (one["live"].split()[1], one["shadow"].split()[1]) == ("filter/v1", "filter/terse")
    assert (one["cobuys"], one["intentions"]) == (len(expected), 2 * len(expected))
    assert one["shadow_tokens_a_cobuy"] < one["live_tokens_a_cobuy"]
    assert list(one["relations"]) == ["IsA", "UsedFor"]
    assert f"{len(expected)} co-buys judged by the shadow" in invoke("compare").output
    # Of the last two of each partition.
    assert json.loads(invoke("compare", "--last", "2", "--json").output)["shadow_cobuys"] <= 4


def invoke(*arguments: str) -> Done:
    return CliRunner().invoke(app, ["shadow", *arguments], catch_exceptions=False)


@pytest.mark.integration
def test_a_mistake_is_one_line(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSTREAM_TOPIC_PARTITIONS", "1")

    def told(code: int, *arguments: str) -> str:
        done = invoke(*arguments)
        assert done.exit_code == code, done.output
        assert len(done.output.splitlines()) == 1
        return done.output

    assert "--model or --prompt" in told(2, "run")
    assert "--share 0" in told(2, "run", "--model", "m", "--share", "0")
    assert "none.toml: no such file" in told(2, "run", "--prompt", "none.toml")
    assert told(0, "compare") == "0 co-buys judged by the shadow, 0 of them not by the other\n"
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", "nobody.")
    assert "no topic nobody.intentions.judged" in told(3, "compare")
    assert "no topic nobody.intentions.candidates" in told(3, "run", "--model", "m")


def test_a_prompt_of_ones_own_must_say_what_ours_do(tmp_path: Path) -> None:
    path = tmp_path / "terse.toml"
    path.write_text(_PROMPT)
    assert prompts(Settings(filter_prompt=str(path))).version == "filter/terse"
    assert prompts(Settings()).version == "filter/v1"
    path.write_text("question = 'why?'")
    with pytest.raises(SettingsError, match="lacks products, with_pictures, without_pictures"):
        prompts(Settings(filter_prompt=str(path)))
    path.write_text("question =")
    with pytest.raises(SettingsError, match="MINDSTREAM_FILTER_PROMPT"):
        prompts(Settings(filter_prompt=str(path)))
    with pytest.raises(SettingsError, match="v9"):
        prompts(Settings(filter_prompt="v9"))
