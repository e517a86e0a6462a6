"""The tree engine against transformers' `generate()`: same weights, same prompts, float32, one run.

The work is a co-buy's: one prefix with a picture, about 1,370 tokens, twenty relations, and answers of 100 tokens.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from benchmarks.parts import Parts
from benchmarks.rows import Row
from models.untrained import Shape, make
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Completion, Prefix
from services.lvlm.plain import PlainEngine
from services.lvlm.tree.engine import TreeEngine

_T = TypeVar("_T")
_ANSWER = 100
_PREFIX = Prefix("a pair of things, " * 160, (Image.radial_gradient("L").convert("RGB"),))
_BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS]


@dataclass(frozen=True)
class _Size:
    """A checkpoint, and how many times faster the tree must be than one prompt at a time, and than all in a batch."""

    name: str
    shape: Shape
    than_alone: float
    than_batch: float


_SIZES = (
    _Size("15M", Shape(hidden=384, intermediate=1024, layers=8, heads=6, key_value_heads=6, picture=336), 20, 15),
    _Size("150M", Shape(hidden=1024, intermediate=2752, layers=12, heads=16, key_value_heads=16, picture=336), 15, 10),
)


def measure(parts: Parts) -> list[Row]:
    """Rows of the small size only where it must be quick."""
    rows = []
    for size in _SIZES[: 1 if parts.quick else None]:
        with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as tmp:
            make(Path(tmp) / "llava", shape=size.shape)
            checkpoint = Checkpoint(Settings(model=f"{tmp}/llava", model_device="cpu", model_dtype="float32"))
        # An answer's length is chance with random weights; here every answer is as long as it may be.
        checkpoint.ends = frozenset()
        checkpoint.model.generation_config.eos_token_id = None
        rows += _rows(size, TreeEngine(checkpoint, Settings()), PlainEngine(checkpoint, Settings()))
    return rows


def _rows(size: _Size, tree: TreeEngine, plain: PlainEngine) -> list[Row]:
    def complete(engine: TreeEngine | PlainEngine, branches: list[Branch]) -> list[Completion]:
        return engine.complete(_PREFIX, branches, _ANSWER)[0]

    complete(tree, _BRANCHES)  # Warm: first calls allocate.
    ours, tree_seconds = _timed(lambda: complete(tree, _BRANCHES))
    batch, batch_seconds = _timed(lambda: complete(plain, _BRANCHES))
    alone, alone_seconds = _timed(lambda: [said for one in _BRANCHES for said in complete(plain, [one])])
    scores, score_seconds = _timed(lambda: tree.score(_PREFIX, _BRANCHES)[0])
    each, each_seconds = _timed(lambda: [score for one in _BRANCHES for score in plain.score(_PREFIX, [one])[0]])
    same = sum(a.text == b.text for a, b in zip(ours, alone, strict=True))
    near = max(abs(a - b) for a, b in zip(scores, each, strict=True))
    return [
        _ratio(f"engine.tree_{size.name}_against_one_at_a_time", size.than_alone, alone_seconds, tree_seconds),
        _ratio(f"engine.tree_{size.name}_against_a_batch", size.than_batch, batch_seconds, tree_seconds),
        _ratio(f"engine.filter_{size.name}_against_one_at_a_time", 10, each_seconds, score_seconds),
        Row(
            f"engine.tree_{size.name}_same_answers",
            "every answer that of generate(), every score within 0.001",
            f"{same} of {len(_BRANCHES)} answers (a batch: {sum(a == b for a, b in zip(batch, alone, strict=True))}), "
            f"scores within {near:.1g}",
            same == len(_BRANCHES) and near < 1e-3,
        ),
    ]


def _ratio(name: str, goal: float, theirs: float, ours: float) -> Row:
    ratio = theirs / ours
    return Row(name, f"at least {goal:.0f}x", f"{ratio:.1f}x ({ours:.2f} against {theirs:.2f} s)", ratio >= goal)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began
