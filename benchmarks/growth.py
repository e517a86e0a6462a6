"""How a step's time grows with branches and prefix: `python -m benchmarks.growth --out docs`.

Writes engine-growth.png and engine-growth.json. A step is flat in branches while it waits for memory (weights, keys and
values are read once, however many branches there are) and grows once it waits for the arithmetic units.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks.engine import SIZES
from benchmarks.rows import machine
from models.untrained import make
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, Prefix
from services.lvlm.tree.engine import TreeEngine

_BRANCHES, _PREFIXES = (1, 2, 5, 10, 20, 40), (500, 1000, 2000, 4000)
#: What the other axis stands at meanwhile.
_BRANCHES_AT, _PREFIX_AT = 20, 1370
_STEPS, _WARM = 24, 4


def step_seconds(engine: TreeEngine, prefix_tokens: int, branches: int) -> float:
    """The median step of a tree."""
    picture = Prefix("", (Image.radial_gradient("L").convert("RGB"),))
    asked = [Branch(f"Why, {number}?") for number in range(branches)]
    one = len(engine.begin(Prefix("", picture.images), asked, 1).prompts.prefix)
    each = len(engine.begin(Prefix("pair " * 100, picture.images), asked, 1).prompts.prefix) - one
    text = "pair " * max(0, round((prefix_tokens - one) / each * 100))
    run = engine.begin(Prefix(text, picture.images), asked, _STEPS + _WARM + 1)
    while not run.whole:
        engine.prefill(run)
    seconds = []
    for _ in range(_WARM + _STEPS):
        began = time.perf_counter()
        engine.step([run])
        seconds.append(time.perf_counter() - began)
    return median(seconds[_WARM:])


def main() -> None:
    """Measure and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition(":")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the plot and its numbers")
    out = parser.parse_args().out
    found: dict[str, dict[str, dict[int, float]]] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as tmp:
            make(Path(tmp) / "llava", shape=size.shape)
            settings = Settings(model=f"{tmp}/llava", model_device="cpu", model_dtype="float32", prefix_cache_tokens=0)
            checkpoint = Checkpoint(settings)
        checkpoint.ends = frozenset()
        engine = TreeEngine(checkpoint, settings)
        found[size.name] = {
            "branches": {count: step_seconds(engine, _PREFIX_AT, count) for count in _BRANCHES},
            "prefix": {tokens: step_seconds(engine, tokens, _BRANCHES_AT) for tokens in _PREFIXES},
        }
    _plot(found, out / "engine-growth.png")
    (out / "engine-growth.json").write_text(
        json.dumps({"machine": machine(), "seconds a step": found}, indent=1) + "\n"
    )
    print(json.dumps(found, indent=1))


def _plot(found: dict[str, dict[str, dict[int, float]]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (by_branch, by_prefix) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for name, measured in found.items():
        for axes, what in ((by_branch, "branches"), (by_prefix, "prefix")):
            rows = measured[what]
            axes.plot(list(rows), [1000 * seconds for seconds in rows.values()], marker="o", label=name)
    by_branch.set(xlabel=f"branches, over {_PREFIX_AT} tokens", ylabel="a step (ms)", yscale="log")
    by_prefix.set(xlabel=f"tokens of the prefix, {_BRANCHES_AT} branches")
    by_branch.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
