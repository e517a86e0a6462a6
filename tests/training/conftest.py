"""One small release, and one run on it, for all tests of this room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.demo import CHECKPOINT
from services.common.media import MediaStore
from services.common.settings import Settings
from tests.training.releases import release
from training.finetune import finetune
from training.run import Recipe

#: Few and large steps: that something changes can be seen.
RECIPE = Recipe(
    kinds=("features", "generation", "judgement", "intent-understand"), steps=24, batch=2, learning_rate=1e-2
)


@dataclass
class Trained:
    """A release, the settings it was trained with, where the run is, and its record."""

    release: Path
    settings: Settings
    out: Path
    record: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The demo model, trained for a few steps."""
    folder = tmp_path_factory.mktemp("training")
    settings = Settings(model=str(CHECKPOINT), model_device="cpu", media_url=f"file://{folder}/media")
    release(folder / "release", MediaStore(settings.media_url))
    record = finetune(str(folder / "release"), settings, folder / "tuned", RECIPE, say=lambda _: None)
    return Trained(folder / "release", settings, folder / "tuned", record)
