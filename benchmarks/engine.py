"""The tree engine against transformers' `generate()`: same weights, same prompts, one run.

The work is a co-buy's: one prefix with a picture, about 1,370 tokens, twenty relations, and answers of 100 tokens. As a
part of `python -m benchmarks` it measures two sizes with random weights on CPU in float32. By itself it measures any
checkpoint on any device, such as LLaVA-1.5-13b on a GPU:

    python -m benchmarks.engine --model llava-hf/llava-1.5-13b-hf --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil
import torch
from PIL import Image

from benchmarks.rows import Row, table
from models.untrained import Shape, make
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Completion, Prefix
from services.lvlm.plain import PlainEngine
from services.lvlm.tree.engine import TreeEngine
from services.lvlm.tree.run import Run

_T = TypeVar("_T")
ANSWER = 100
_TURNS = 2
_PICTURE = Image.radial_gradient("L").convert("RGB")
#: Co-buys whose prompts share nothing but the picture.
PREFIXES = [Prefix(f"{kind}, a pair of things, " * 56, (_PICTURE,)) for kind in ("cups", "pots", "pans", "jars")]
BRANCHES = [branch(relation.name, 0, 0) for relation in RELATIONS]
#: Nothing is kept between the rounds: each side reads its prompts every time.
SETTINGS = Settings(prefix_cache_tokens=0)


@dataclass(frozen=True)
class Size:
    """A checkpoint, and how many times faster the tree must be than one prompt at a time, and than all in a batch.

    Of prompts one at a time only some are asked where all take minutes; each takes as long as the next.
    """

    name: str
    shape: Shape
    than_alone: float
    than_batch: float
    asked_alone: int = len(BRANCHES)


#: The checkpoints of the goals.
SIZES = (
    Size("15M", Shape(hidden=384, intermediate=1024, layers=8, heads=6, key_value_heads=6, picture=336), 20, 15),
    Size(
        "150M", Shape(hidden=1024, intermediate=2752, layers=12, heads=16, key_value_heads=16, picture=336), 15, 10, 4
    ),
)


def measure(quick: bool) -> list[Row]:
    """Rows of the small size only where it must be quick."""
    rows = []
    for size in SIZES[: 1 if quick else None]:
        with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as tmp:
            make(Path(tmp) / "llava", shape=size.shape)
            settings = Settings(model=f"{tmp}/llava", model_device="cpu", model_dtype="float32")
            # The tree engine lays the weights out anew; transformers has them as it is used to.
            rows += compare(Checkpoint(settings), Checkpoint(settings), size)
    return rows


def unending(checkpoint: Checkpoint) -> Checkpoint:
    """The same, whose answers are all as long as they may be: with random weights their length is chance."""
    checkpoint.ends = frozenset()
    checkpoint.model.generation_config.eos_token_id = None
    return checkpoint


def compare(ours: Checkpoint, theirs: Checkpoint, size: Size) -> list[Row]:
    """All rows of one checkpoint, loaded for the tree engine and for transformers; once, where nothing is packed."""
    tree, plain = TreeEngine(unending(ours), SETTINGS), PlainEngine(unending(theirs), SETTINGS)
    return [*_against_generate(size, tree, plain), *_together(size, tree), _memory(size, tree, theirs)]


def _against_generate(size: Size, tree: TreeEngine, plain: PlainEngine) -> list[Row]:
    def complete(engine: TreeEngine | PlainEngine, branches: list[Branch]) -> list[Completion]:
        return engine.complete(PREFIXES[0], branches, ANSWER)[0]

    complete(tree, BRANCHES)  # Warm: first calls allocate.
    some, share = BRANCHES[: size.asked_alone], len(BRANCHES) / size.asked_alone
    # The tree's turns are short: one before, between and behind the long ones, so that a busy minute is nobody's alone.
    turns = [_timed(lambda: complete(tree, BRANCHES))[1]]
    batch, batch_seconds = _timed(lambda: complete(plain, BRANCHES))
    turns.append(_timed(lambda: complete(tree, BRANCHES))[1])
    alone, alone_seconds = _timed(lambda: [said for one in some for said in complete(plain, [one])])
    ours, seconds = _timed(lambda: complete(tree, BRANCHES))
    tree_seconds = median([*turns, seconds])
    scores, score_seconds = _timed(lambda: tree.score(PREFIXES[0], BRANCHES)[0])
    each, each_seconds = _timed(lambda: [score for one in some for score in plain.score(PREFIXES[0], [one])[0]])
    same = sum(a.text == b.text for a, b in zip(ours, alone, strict=False))
    near = max(abs(a - b) for a, b in zip(scores, each, strict=False))
    return [
        ratio(f"engine.tree_{size.name}_against_one_at_a_time", size.than_alone, share * alone_seconds, tree_seconds),
        ratio(f"engine.tree_{size.name}_against_a_batch", size.than_batch, batch_seconds, tree_seconds),
        ratio(f"engine.filter_{size.name}_against_one_at_a_time", 10, share * each_seconds, score_seconds),
        Row(
            f"engine.tree_{size.name}_same_answers",
            "every answer that of generate(), every score within 0.001",
            f"{same} of {len(some)} answers (a batch: {sum(a == b for a, b in zip(batch, alone, strict=False))}), "
            f"scores within {near:.1g}",
            same == len(some) and near < 1e-3,
        ),
    ]


def _together(size: Size, tree: TreeEngine) -> list[Row]:
    """Four co-buys in one forward against four one after the other: in turns, the least of each."""
    in_a_row, at_once = float("inf"), float("inf")
    for _ in range(_TURNS):
        _, seconds = _timed(lambda: [tree.complete(prefix, BRANCHES, ANSWER) for prefix in PREFIXES])
        in_a_row = min(in_a_row, seconds)
        _, seconds = _timed(lambda: run_together([tree.begin(prefix, BRANCHES, ANSWER) for prefix in PREFIXES], tree))
        at_once = min(at_once, seconds)
    return [ratio(f"engine.tree_{size.name}_four_at_once", 1.5, in_a_row, at_once)]


def run_together(runs: Sequence[Run], tree: TreeEngine) -> None:
    """Read all runs' prompts one after the other, and decode all together."""
    for run in runs:
        while not run.whole:
            tree.prefill(run)
    while left := [run for run in runs if not run.done]:
        tree.step(left)


def _memory(size: Size, tree: TreeEngine, checkpoint: Checkpoint) -> Row:
    """The most memory that four co-buys take, against what their keys and values and the weights must take."""
    model, text = checkpoint.model, checkpoint.model.config.get_text_config()
    weights = sum(weight.nbytes for weight in model.parameters())
    heads = text.head_dim * text.num_key_value_heads if getattr(text, "head_dim", None) else text.hidden_size
    runs = [tree.begin(prefix, BRANCHES, ANSWER) for prefix in PREFIXES]
    held = sum(run.cost for run in runs) * 2 * text.num_hidden_layers * heads * model.dtype.itemsize
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run_together(runs, tree)
        grown = torch.cuda.max_memory_allocated() - weights
    else:
        with _Watch() as watch:
            run_together(runs, tree)
        grown = watch.most
    ratio = (weights + grown) / (weights + held)
    return Row(
        f"engine.tree_{size.name}_peak_memory",
        "at most 1.3 of weights, keys and values",
        f"{ratio:.2f} ({(weights + grown) / 2**20:.0f} of {(weights + held) / 2**20:.0f} MiB)",
        ratio <= 1.3,
    )


class _Watch:
    """The most that this process's resident memory grows meanwhile, bytes."""

    def __enter__(self) -> _Watch:
        self._process, self._done = psutil.Process(), threading.Event()
        self._before, self.most = self._process.memory_info().rss, 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss - self._before)


def ratio(name: str, goal: float, theirs: float, ours: float) -> Row:
    """How many times faster ours is, seconds against seconds."""
    times = theirs / ours
    return Row(name, f"at least {goal:g}x", f"{times:.1f}x ({ours:.2f} against {theirs:.2f} s)", times >= goal)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def main() -> int:
    """Measure one checkpoint; 1 where a goal does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a Hub id or a folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    asked = parser.parse_args()
    settings = Settings(model=asked.model, model_device=asked.device, model_dtype=asked.dtype)
    ours = Checkpoint(settings)
    theirs = Checkpoint(settings) if asked.device == "cpu" else ours
    rows = compare(ours, theirs, Size(Path(asked.model).name, Shape(), 20, 15))
    table(rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
