"""Where a step's time goes: `python -m benchmarks.step_profile`.

Prints, for both checkpoints of benchmarks.engine, the milliseconds of a decoding step of 20 branches by kind of
operation, as PyTorch's profiler sees them, what the layers' products reach, and what they would take if their weights
were not packed (services.lvlm.packed).
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine import ANSWER, BRANCHES, PREFIXES, SETTINGS, SIZES, Size, unending
from models.untrained import make
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.packed import PackedLinear
from services.lvlm.tree.engine import TreeEngine

_STEPS, _WARM = 20, 4
#: Operations by kind; everything else is small: norms, rotations, gates, sums, copies.
_KINDS = {
    "the layers' products": {"aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"},
    "attention": {
        "aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::masked_fill_", "aten::cat",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    },
}  # fmt: skip


def step(size: Size, folder: Path) -> tuple[dict[str, float], float, float]:
    """Milliseconds of a step by kind, operations a second of the layers' products in 10^9, and what packing brings."""
    make(folder / "llava", shape=size.shape)
    checkpoint = unending(Checkpoint(Settings(model=f"{folder}/llava", model_device="cpu", model_dtype="float32")))
    layers = [layer for layer in checkpoint.model.get_decoder().modules() if isinstance(layer, torch.nn.Linear)]
    layers.append(checkpoint.model.get_output_embeddings())
    weights = sum(layer.weight.numel() for layer in layers)
    gain = packing(layers)
    layers.clear()
    engine = TreeEngine(checkpoint, SETTINGS)
    run = engine.begin(PREFIXES[0], BRANCHES, ANSWER)
    while not run.whole:
        engine.prefill(run)
    for _ in range(_WARM):
        engine.step([run])
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(_STEPS):
            engine.step([run])
    spent: Counter[str] = Counter()
    for row in profiled.key_averages():
        kind = next((kind for kind, names in _KINDS.items() if row.key in names), "small operations")
        spent[kind] += row.self_cpu_time_total / 1000 / _STEPS
    reached = 2 * weights * len(BRANCHES) / spent["the layers' products"] / 1e6
    return dict(spent), reached, gain


def packing(layers: list[torch.nn.Linear]) -> float:
    """How many times longer 20 rows take through layers than through the same, packed; in turns, the least of each."""
    both: list[list[torch.nn.Module]] = [[*layers], [PackedLinear(layer) for layer in layers]]
    rows = [torch.randn(len(BRANCHES), layer.in_features) for layer in layers]
    least = [float("inf"), float("inf")]
    with torch.inference_mode():
        for _ in range(_STEPS):
            for side, modules in enumerate(both):
                began = time.perf_counter()
                for module, given in zip(modules, rows, strict=True):
                    module(given)
                least[side] = min(least[side], time.perf_counter() - began)
    return least[0] / least[1]


def main() -> None:
    """Print the table."""
    table = Table("checkpoint", *_KINDS, "small operations", "together (ms)", "products (GFLOPS)", "not packed")
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as folder:
            spent, reached, gain = step(size, Path(folder))
        kinds = [f"{spent[kind]:.1f}" for kind in (*_KINDS, "small operations")]
        table.add_row(size.name, *kinds, f"{sum(spent.values()):.1f}", f"{reached:.0f}", f"{gain:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
