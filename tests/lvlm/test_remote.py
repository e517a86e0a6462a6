"""The engine of an OpenAI-compatible endpoint, against one over a real checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import SecretStr

from services.common.errors import WorldFault
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, EngineError, Prefix, PromptRefused
from services.lvlm.load import load_engine
from services.lvlm.plain import PlainEngine
from services.lvlm.remote import RemoteEngine
from tests.lvlm.endpoint import Endpoint, serving

_PREFIX = Prefix("First: a red cup.\nSecond: a saucer.", (Image.radial_gradient("L").convert("RGB"),))
_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS[:5]]


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> tuple[Checkpoint, PlainEngine]:
    loaded = Checkpoint(Settings(model=str(checkpoint), model_device="cpu"))
    return loaded, PlainEngine(loaded, Settings())


@pytest.fixture
def endpoint(plain: tuple[Checkpoint, PlainEngine]) -> Iterator[Endpoint]:
    made = Endpoint(*plain)
    with serving(made):
        yield made


def _settings(endpoint: Endpoint, **more: object) -> Settings:
    return Settings.model_validate({"engine": "openai", "openai_base_url": endpoint.url, **more})


def _chance(checkpoint: Checkpoint, asked: Branch) -> float:
    """P(yes) of the tokens that are yes and no, by the model itself."""
    with torch.inference_mode():
        chances = checkpoint.model(**checkpoint.inputs(_PREFIX, [asked], 0)).logits[0, -1].softmax(-1)
    words = [checkpoint.tokenizer.decode([token]).strip().lower() for token in range(len(chances))]
    yes, no = (sum(float(chances[i]) for i, word in enumerate(words) if word == wanted) for wanted in ("yes", "no"))
    return yes / (yes + no)


def test_it_says_and_scores_what_the_model_behind_it_does(endpoint: Endpoint) -> None:
    engine = load_engine(_settings(endpoint))
    assert isinstance(engine, RemoteEngine)
    assert engine.model_version == "small@openai"
    said, usage = engine.complete(_PREFIX, _BRANCHES, 12)
    expected, _ = endpoint.engine.complete(_PREFIX, _BRANCHES, 12)
    assert said == expected
    assert usage.generated_tokens == sum(one.tokens for one in said)
    scores, _ = engine.score(_PREFIX, _BRANCHES)
    assert scores == pytest.approx([_chance(endpoint.checkpoint, asked) for asked in _BRANCHES], abs=1e-4)


def test_branches_are_asked_at_once_and_no_more_than_allowed(endpoint: Endpoint) -> None:
    RemoteEngine(_settings(endpoint, openai_requests=3)).complete(_PREFIX, _BRANCHES, 2)
    assert 1 < endpoint.most_at_once <= 3


def test_samples_go_with_their_seed(endpoint: Endpoint) -> None:
    engine = RemoteEngine(_settings(endpoint))
    sampled = branch("IsA", 1, 7)
    engine.complete(_PREFIX, [_BRANCHES[0], sampled], 2)
    asked = {request.get("seed"): request for request in endpoint.asked}
    assert asked[sampled.seed]["temperature"] == Settings().sample_temperature
    assert asked[None]["temperature"] == 0


def test_what_passes_is_tried_again(endpoint: Endpoint) -> None:
    engine = RemoteEngine(_settings(endpoint, openai_api_key=SecretStr("secret")))
    endpoint.failing += [503, 429]
    assert engine.complete(_PREFIX, _BRANCHES[:1], 2)[0] == endpoint.engine.complete(_PREFIX, _BRANCHES[:1], 2)[0]
    assert endpoint.keys == {"Bearer secret"}


def test_an_endpoint_that_stays_away_is_no_fault_of_the_prompt(endpoint: Endpoint) -> None:
    engine = RemoteEngine(_settings(endpoint))
    for codes in ([503] * 3, [401]):
        endpoint.failing += codes
        with pytest.raises(WorldFault, match="as the test wants"):
            engine.complete(_PREFIX, _BRANCHES[:1], 2)
    endpoint.with_logprobs = False
    with pytest.raises(WorldFault, match="log probabilities"):
        engine.score(_PREFIX, _BRANCHES[:1])


def test_a_prompt_that_it_refuses_is_named(endpoint: Endpoint) -> None:
    engine = RemoteEngine(_settings(endpoint))
    with pytest.raises(PromptRefused, match="tokens do not fit"):
        engine.score(Prefix("cup " * 9000), [Branch("?")])
    endpoint.failing += [413]
    with pytest.raises(PromptRefused, match="as the test wants"):
        engine.score(_PREFIX, [Branch("?")])


def test_special_tokens_in_a_title_are_only_text(endpoint: Endpoint) -> None:
    engine = RemoteEngine(_settings(endpoint))
    engine.complete(Prefix("A <image> cup</s><|im_end|> <3"), [Branch("What?")], 2)
    assert endpoint.asked[-1]["messages"][0]["content"][0]["text"].split() == ["A", "cup", "<3What?"]


def test_one_that_is_starting_is_waited_for(endpoint: Endpoint) -> None:
    endpoint.failing += [503] * 6
    waited: list[float] = []
    RemoteEngine(_settings(endpoint), waited.append)
    assert waited == [0.5, 1.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("key", "as the test wants"),
        ("name", "has no model large; it has small"),
        ("logprobs", "log probabilities"),
        ("pictures", "does not do pictures"),
    ],
)
def test_what_it_cannot_do_is_said_at_once(endpoint: Endpoint, wrong: str, said: str) -> None:
    settings = _settings(endpoint, openai_model="large" if wrong == "name" else "")
    if wrong == "key":
        endpoint.failing += [401]
    endpoint.with_logprobs, endpoint.with_pictures = wrong != "logprobs", wrong != "pictures"
    with pytest.raises(EngineError, match=said) as raised:
        load_engine(settings)
    assert "\n" not in str(raised.value)
    if wrong == "logprobs":  # Without the filter's job none are needed.
        load_engine(settings.model_copy(update={"server_jobs": "generator"}))
