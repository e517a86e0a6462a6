"""Several requests in one forward: each is what it is alone, and fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from models.untrained import make
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, EngineError, Prefix, PromptRefused
from services.lvlm.load import load_engine
from services.lvlm.tree.cache import CHUNK
from services.lvlm.tree.engine import TreeEngine
from services.lvlm.tree.run import Run
from tests.lvlm.fixtures import no_memory

_PICTURE = Image.radial_gradient("L").convert("RGB")
#: Prefixes of one chunk and less, of several, with and without pictures.
_PREFIXES = [
    Prefix("First: a red cup."),
    Prefix("First: a red cup.\nSecond: a saucer.", (_PICTURE,)),
    Prefix("A very long title of a cup, " * 60, (_PICTURE,)),
    Prefix("A saucer, a spoon, " * 90),
]
_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS[:6]] + [branch("IsA", 1, 7)]
_TOKENS = 10


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return Checkpoint(Settings(model=str(checkpoint), model_device="cpu"))


@pytest.fixture(scope="module")
def engine(loaded: Checkpoint) -> TreeEngine:
    return TreeEngine(loaded, Settings())


@pytest.fixture(scope="module")
def alone(loaded: Checkpoint) -> list[tuple[list[str], list[float]]]:
    """What each prefix's branches say and score with nothing beside and nothing kept."""
    engine = TreeEngine(loaded, Settings(prefix_cache_tokens=0))
    return [
        ([said.text for said in engine.complete(prefix, _BRANCHES, _TOKENS)[0]], engine.score(prefix, _BRANCHES)[0])
        for prefix in _PREFIXES
    ]


def _read(engine: TreeEngine, runs: Sequence[Run]) -> None:
    while not all(run.whole for run in runs):
        for run in runs:
            if not run.whole:
                engine.prefill(run)


def _finish(engine: TreeEngine, runs: Sequence[Run]) -> None:
    while any(not run.done for run in runs):
        for run in runs:
            if not run.whole:
                engine.prefill(run)
        engine.step([run for run in runs if run.whole and not run.done])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.tuples(st.integers(0, len(_PREFIXES) - 1), st.booleans()), min_size=1, max_size=5),
    schedule=st.lists(st.integers(0, 4), max_size=30),
)
def test_whatever_is_beside_and_was_before(
    engine: TreeEngine,
    alone: list[tuple[list[str], list[float]]],
    asked: list[tuple[int, bool]],
    schedule: list[int],
) -> None:
    runs = [engine.begin(_PREFIXES[which], _BRANCHES, 0 if scored else _TOKENS) for which, scored in asked]
    for turn in schedule:
        run = runs[turn % len(runs)]
        if not run.whole:
            engine.prefill(run)
        else:
            engine.step([other for other in runs if other.whole and not other.done])
    _finish(engine, runs)
    for run, (which, scored) in zip(runs, asked, strict=True):
        said, scores = alone[which]
        if scored:
            assert run.scores == pytest.approx(scores, abs=1e-5)
        else:
            assert [completion.text for completion in run.completions] == said


def test_a_prefix_is_kept_for_the_next_prompt_that_begins_with_it(loaded: Checkpoint) -> None:
    engine = TreeEngine(loaded, Settings(prefix_cache_tokens=8 * CHUNK))
    long = _PREFIXES[2]
    first = engine.begin(long, _BRANCHES, 0)
    _finish(engine, [first])
    other = engine.begin(Prefix(long.text + "And more.", long.images), _BRANCHES, 0)
    engine.prefill(other)
    whole = len(first.prompts.prefix) // CHUNK * CHUNK
    assert other.tree.filled >= whole
    another = engine.begin(Prefix(long.text, (Image.new("RGB", (8, 8), "red"),)), _BRANCHES, 0)
    engine.prefill(another)
    assert another.tree.filled == CHUNK  # Another picture: nothing was there, and one chunk is now.
    assert engine.cache.tokens <= 8 * CHUNK


def test_the_cache_forgets_what_was_not_used_for_longest(loaded: Checkpoint) -> None:
    engine = TreeEngine(loaded, Settings(prefix_cache_tokens=3 * CHUNK))
    for text in ("cup ", "saucer ", "spoon "):
        _finish(engine, [engine.begin(Prefix(text * 300), _BRANCHES, 0)])
        assert engine.cache.tokens <= 3 * CHUNK
    again = engine.begin(Prefix("cup " * 300), _BRANCHES, 0)
    engine.prefill(again)
    assert again.tree.filled == CHUNK


def test_without_memory_for_the_cache_nothing_is_kept(
    loaded: Checkpoint, alone: list[tuple[list[str], list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TreeEngine(loaded, Settings(prefix_cache_tokens=4 * CHUNK))
    engine.score(_PREFIXES[2], _BRANCHES)
    assert engine.cache.tokens
    monkeypatch.setattr(engine.cache, "keep", no_memory)
    completions, _ = engine.complete(_PREFIXES[3], _BRANCHES, _TOKENS)
    assert [said.text for said in completions] == alone[3][0]
    assert not engine.cache.tokens


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> TreeEngine:
    """A model that computes no numbers for one word."""
    folder = tmp_path_factory.mktemp("poisoned") / "llava"
    make(folder)
    loaded = Checkpoint(Settings(model=str(folder), model_device="cpu"))
    engine = TreeEngine(loaded, Settings())
    (token,) = loaded.tokenizer.encode("Z", add_special_tokens=False)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[token] = torch.nan
    return engine


def test_a_failure_while_tokens_are_taken_is_that_runs_end(
    engine: TreeEngine, alone: list[tuple[list[str], list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (engine.begin(_PREFIXES[0], _BRANCHES, _TOKENS) for _ in range(2))
    for run in (good, bad):
        engine.prefill(run)
    monkeypatch.setattr(bad, "take", no_memory)
    _finish(engine, [good, bad])
    assert [completion.text for completion in good.completions] == alone[0][0]
    with pytest.raises(MemoryError):
        bad.completions  # noqa: B018


def test_more_than_the_budget_is_refused(loaded: Checkpoint) -> None:
    with pytest.raises(PromptRefused, match="MINDSTREAM_KV_TOKENS"):
        TreeEngine(loaded, Settings(kv_tokens=400)).begin(_PREFIXES[3], _BRANCHES, _TOKENS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_infinities_are_no_numbers_either(loaded: Checkpoint, value: float) -> None:
    logits = torch.zeros(2, len(loaded.tokenizer))
    logits[1, loaded.yes] = value
    with pytest.raises(BrokenNumbers):
        loaded.chances(logits)


def test_what_has_no_numbers_fails_alone(poisoned: TreeEngine, alone: list[tuple[list[str], list[float]]]) -> None:
    good, bad = (poisoned.begin(Prefix(text), _BRANCHES, _TOKENS) for text in (_PREFIXES[0].text, "First: a Z."))
    _finish(poisoned, [good, bad])
    assert [completion.text for completion in good.completions] == alone[0][0]
    with pytest.raises(BrokenNumbers, match="no numbers"):
        bad.completions  # noqa: B018
    with pytest.raises(BrokenNumbers):
        poisoned.score(Prefix("First: a Z."), _BRANCHES)


def test_a_checkpoint_without_numbers_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    make(tmp_path / "llava")
    broken = Checkpoint(Settings(model=str(tmp_path / "llava"), model_device="cpu"))
    with torch.no_grad():
        broken.model.get_output_embeddings().weight.fill_(torch.nan)
    broken.model.save_pretrained(tmp_path / "llava")
    with pytest.raises(EngineError, match="no numbers"):
        load_engine(Settings(model=str(tmp_path / "llava"), model_device="cpu"))


def test_a_step_that_failed_beside_others_can_be_taken_again(
    engine: TreeEngine, alone: list[tuple[list[str], list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [engine.begin(prefix, _BRANCHES, _TOKENS) for prefix in _PREFIXES[:2]]
    _read(engine, runs)
    with monkeypatch.context() as broken:
        broken.setattr(engine, "_forward", no_memory)
        with pytest.raises(MemoryError):
            engine.step(runs)
    for run in runs:
        engine.step([run])
    _finish(engine, runs)
    assert [[said.text for said in run.completions] for run in runs] == [said for said, _ in alone[:2]]


_WAITING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "unique")


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what would make the host wait for a GPU: values read from tensors, sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if str(func).split(".")[1] in _WAITING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the tensors that were read as lists."""
    found: list[int] = []
    tolist = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> list[int]:
        found.append(tensor.numel())
        listed: list[int] = tolist(tensor)
        return listed

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    return found


def test_the_host_waits_once_a_step(engine: TreeEngine, reads: list[int]) -> None:
    runs = [engine.begin(prefix, _BRANCHES, _TOKENS) for prefix in _PREFIXES[:3]]
    _read(engine, runs)
    reads.clear()
    with _Waits() as waits:
        engine.step(runs)
        engine.step(runs)
    assert reads == [3 * len(_BRANCHES)] * 2
    assert waits.found == []


def test_an_answer_ends_at_its_stop(engine: TreeEngine) -> None:
    prefix = _PREFIXES[1]
    (whole,), _ = engine.complete(prefix, [Branch("Why?")], 24)
    stop = whole.text[3:6]
    (cut,), _ = engine.complete(prefix, [Branch("Why?", stop=stop)], 24)
    assert cut.text == whole.text.partition(stop)[0]
    assert cut.tokens < whole.tokens
