"""Training as a run in a folder: it learns, it stops and goes on, it leaves a whole checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.demo import CHECKPOINT, tokens, train
from models.demo.muon import orthogonal
from models.demo.train import Training
from services.common.settings import Settings
from services.lvlm.engine import Branch, Prefix
from services.lvlm.load import load_engine


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a few steps that has both kinds of lessons; the tokenizer is the one at hand."""
    monkeypatch.setattr(train, "_COPYING", 2)
    monkeypatch.setattr(train, "_SAVE_EVERY", 2)
    monkeypatch.setattr(train, "_SAY_EVERY", 1)
    monkeypatch.setattr(train, "_PAIRS", 1)
    monkeypatch.setattr(tokens, "tokenizer", lambda seed: tokens.load_processor(CHECKPOINT).tokenizer)


def weights(run: Training) -> dict[str, Any]:
    return {name: value.float() for name, value in run.model.state_dict().items()}


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole", steps=4, seed=1)
    whole.run()
    stopped = Training(tmp_path / "stopped", steps=4, seed=1)
    for _ in range(2):
        stopped._learn()
        stopped._step += 1
    stopped._save()
    stopped._learn()  # Lost with the process.
    again = Training(tmp_path / "stopped", steps=4, seed=1)
    again.run()
    torch.testing.assert_close(weights(again), weights(whole), atol=1e-3, rtol=1e-2)
    assert (tmp_path / "whole" / "loss.png").stat().st_size > 0
    made = load_engine(Settings(model=str(tmp_path / "whole" / "checkpoint"), model_device="cpu"))
    assert made.score(Prefix("a cup"), [Branch("?")])[0][0] == pytest.approx(0.5, abs=0.5)


def test_another_runs_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    run = Training(tmp_path, steps=4, seed=1)
    run._save()
    with pytest.raises(SystemExit, match="--seed 1 --steps 4"):
        Training(tmp_path, steps=5, seed=1)


def test_steps_lower_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_WARM_UP", 1)
    run = Training(tmp_path, steps=12, seed=1)
    losses = []
    for _ in range(12):
        losses.append(run._learn()["features"])
        run._step = max(2, run._step)
    assert losses[-1] < losses[0] - 0.5


def test_orthogonal_has_no_weak_direction() -> None:
    torch.manual_seed(0)
    for shape in ((3, 40, 24), (2, 24, 40)):
        strengths = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert strengths.min() > 0.3
        assert strengths.max() < 1.4
