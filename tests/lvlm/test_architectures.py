"""Other architectures: decoded as trees with the same tokens, or refused by name and decoded plainly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import EngineError, Prefix
from services.lvlm.load import load_engine
from services.lvlm.plain import PlainEngine
from services.lvlm.tree.engine import TreeEngine
from tests.lvlm.architectures import idefics3, llava_next, qwen2_vl

_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS[:6]]
_PREFIXES = [
    Prefix("First: a red cup.\nSecond: a saucer."),
    Prefix("First: a red cup.\nSecond: a saucer.", (Image.radial_gradient("L").convert("RGB"),)),
    Prefix("A red cup. " * 60, (Image.radial_gradient("L").convert("RGB").resize((112, 50)),)),
]


@pytest.mark.parametrize("made", [llava_next, idefics3])
def test_a_known_architecture_is_a_tree(made: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path / "llava")
    settings = Settings(model=str(tmp_path / "llava"), model_device="cpu", engine="tree")
    tree, plain = load_engine(settings), PlainEngine(Checkpoint(settings), settings)
    assert isinstance(tree, TreeEngine)
    for prefix in _PREFIXES:
        said, _ = tree.complete(prefix, _BRANCHES, 12)
        assert [one.text for one in said] == [one.text for one in plain.complete(prefix, _BRANCHES, 12)[0]]
        assert tree.score(prefix, _BRANCHES)[0] == pytest.approx(plain.score(prefix, _BRANCHES)[0], abs=1e-4)


def test_positions_in_three_dimensions_are_refused_by_name(tmp_path: Path) -> None:
    qwen2_vl(tmp_path / "qwen")
    settings = Settings(model=str(tmp_path / "qwen"), model_device="cpu")
    with pytest.raises(EngineError, match="qwen2_vl has positions in three dimensions"):
        load_engine(settings.model_copy(update={"engine": "tree"}))
    plain = load_engine(settings)
    assert isinstance(plain, PlainEngine)
    for prefix in _PREFIXES[:2]:
        assert len({one.text for one in plain.complete(prefix, _BRANCHES, 12)[0]}) > 1
        assert len(set(plain.score(prefix, _BRANCHES)[0])) == len(_BRANCHES)
