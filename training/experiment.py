"""Does a release make a model better? `python -m training.experiment --out DIR`: about half an hour of two cores.

A made-up shop goes through the whole pipeline, which emits a strict release; the demo model is fine-tuned on it, once a
seed; before and after, it answers what the release held out. What is there already is taken over: a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.intervals import Part, difference, ratio
from models.demo import CHECKPOINT
from models.demo.jobs import Model
from models.demo.pages import NoMarks, around, write_into
from models.demo.shop import Pair
from services.common.process import BAD_INPUT, exit_code
from services.common.settings import Settings, load_settings
from services.kb_sink.release.splits import split_of
from services.lvlm.engine import EngineError
from services.lvlm.load import load_engine
from training import intentions, rows, shop
from training.asking import Scoring, ask
from training.errors import TrainingError
from training.finetune import finetune
from training.questions import CONFIGS, read
from training.report import by_pair, plain, said
from training.run import Recipe

_NAME, _SHOP_SEED, _SEEDS = "finetuning", 1, (0, 1, 2)
#: Pairs of each split, all of them kept by a strict release.
PAIRS = {"train": 200, "validation": 12, "test": 48}
#: What two cores do in minutes.
RECIPE = Recipe(epochs=1, batch=16, learning_rate=2e-3, rank=32, dropout=0.0)
_SCORINGS: tuple[Scoring, ...] = ("letter", "likelihood")
_AS_TRAINED, _BY_THE_PIPELINE = "true reasons, as trained", "true reasons, by the pipeline's prompts"
#: Of each measure, pair by pair: how many answers are right, of how many.
Measured = dict[str, list[Part]]


def main() -> int:
    """Run all of it; the exit code."""
    asked = _arguments()
    try:
        if asked.page:
            around(asked.page, _NAME, __spec__.name)  # Told now, not when all is computed.
        told = experiment(asked.out, asked.seeds, replace(RECIPE, steps=asked.steps), asked.split)
        _write(told, asked.figures or asked.out)
        if asked.page:
            write_into(asked.page, _NAME, __spec__.name, markdown(told))
    except (EngineError, TrainingError, NoMarks) as error:
        print(f"experiment: {error}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        return exit_code("experiment", error)
    print(markdown(told))
    return 0


def experiment(out: Path, seeds: Sequence[int], recipe: Recipe, split: str) -> dict[str, Any]:
    """The figures, and how long each part took.

    Raises:
        TrainingError: the pipeline or a run in `out` is not of these arguments.
        WorldFault: a storage is away.
    """
    truth, seconds = shop.pairs(_SHOP_SEED, PAIRS), dict[str, float]()  # What was there already as it took then.
    settings = load_settings().model_copy(update={
        "model": str(CHECKPOINT), "model_device": "cpu", "adapter": "", "media_url": f"file://{out.resolve()}/platform/media",
    })  # fmt: skip
    release, seconds["pipeline"] = pipeline(out, truth)
    manifest = rows.verified(release)
    began = time.monotonic()
    before = measured(settings, manifest, truth, split)
    seconds["measuring, before"] = time.monotonic() - began
    after: dict[int, Measured] = {}
    records = {}
    for seed in seeds:
        tuned = out / f"seed-{seed}"
        records[seed] = finetune(release, settings, tuned, replace(recipe, seed=seed), resume=tuned.exists())
        seconds[f"training, seed {seed}"] = records[seed]["seconds"]
        began = time.monotonic()
        after[seed] = measured(settings.model_copy(update={"adapter": str(tuned)}), manifest, truth, split)
        seconds[f"measuring, seed {seed}"] = time.monotonic() - began
    first = records[seeds[0]]
    return {
        "release": first["release"],
        "base": first["base"]["version"],
        "split": split,
        "recipe": {**first["recipe"], "seed": list(seeds), "steps": first["steps"]},
        "rows": first["rows"],
        "versions": first["versions"],
        "seconds": {name: round(took) for name, took in seconds.items()},
        "losses": {str(seed): record["losses"] for seed, record in records.items()},
        "measures": {name: compared(before[name], [one[name] for one in after.values()], seeds) for name in before},
    }


def pipeline(out: Path, truth: Mapping[str, Pair]) -> tuple[str, float]:
    """The release that the pipeline makes of the shop, as a folder, and the seconds that it took.

    Raises:
        TrainingError: the pipeline failed.
    """
    made = out / "demo"
    if not (made / "summary.json").exists():
        shop.write(out / "shop", truth)
        command: list[str | Path] = [
            Path(sys.executable).with_name("mindstream"), "demo", "--products", out / "shop" / "products.jsonl",
            "--cobuys", out / "shop" / "cobuys.jsonl", "--data-dir", out / "platform", "--out", made,
        ]  # fmt: skip
        if code := subprocess.run(command, env={**os.environ, "MINDSTREAM_RELEASE_SPLIT": "product"}).returncode:
            raise TrainingError(f"mindstream demo ended with exit code {code}")
    summary = json.loads((made / "summary.json").read_bytes())
    return str(made / "datasets"), sum(summary["seconds"].values())


def measured(settings: Settings, manifest: dict[str, Any], truth: Mapping[str, Pair], split: str) -> Measured:
    """All measures of one model over the held-out pairs of a split."""
    found: Measured = {}
    engine = load_engine(settings)
    held_out = {key: pair for key, pair in truth.items() if split_of(key.split("|")[0]) == split}
    found[_AS_TRAINED] = [*intentions.asked_as_trained(engine, settings, manifest, truth, split).values()]
    found[_BY_THE_PIPELINE] = [*intentions.asked_by_the_pipeline(Model(engine, settings), held_out).values()]
    for task, config in CONFIGS.items():
        asked, _ = read(manifest["url"], task, split)
        for scoring in _SCORINGS:
            right = ask(settings, asked, scoring).right(asked)
            found[f"{config}, {scoring}"] = by_pair(right, [question.pair for question in asked])
    return found


def compared(before: list[Part], after: Sequence[list[Part]], seeds: Sequence[int]) -> dict[str, Any]:
    """One measure before and after, the bootstrap's seed being the run's."""
    # Over seeds: pairs are drawn, each with what all runs say of it.
    together = [(sum(one[0] for one in parts), sum(one[1] for one in parts)) for parts in zip(*after, strict=True)]
    return {
        "pairs": len(before),
        "asked": int(sum(count for _, count in before)),
        "before": plain(ratio(before, 0)),
        "after": {str(seed): plain(ratio(parts, 0)) for seed, parts in zip(seeds, after, strict=True)},
        "better by": {str(seed): plain(difference(parts, before, 0)) for seed, parts in zip(seeds, after, strict=True)},
        "over all seeds": plain(difference(together, before, 0)),
    }


def markdown(told: dict[str, Any]) -> str:
    """The figures as a table."""
    seeds = told["recipe"]["seed"]
    recipe = told["recipe"]
    headings = ["measure", "asked", "before", *(f"seed {seed}" for seed in seeds), "better by, over all seeds"]
    lines = [
        f"`python -m training.experiment --seeds {' '.join(map(str, seeds))}`: {told['base']} on "
        f"{sum(told['rows'][kind] for kind in recipe['kinds'])} rows of {told['release']['id']} "
        f"({', '.join(recipe['kinds'])}), {recipe['steps']} steps of {recipe['batch'] * recipe['accumulate']} rows; "
        f"measured on its {told['split']} split, in {sum(told['seconds'].values()) / 60:.0f} minutes in all.",
        "",
        "| " + " | ".join(headings) + " |",
        "| --- " * len(headings) + "|",
    ]
    for name, one in told["measures"].items():
        after = " | ".join(said(one["after"][str(seed)]) for seed in seeds)
        asked = f"{one['asked']} of {one['pairs']} pairs"
        lines.append(f"| {name} | {asked} | {said(one['before'])} | {after} | {said(one['over all seeds'], '+')} |")
    return "\n".join(lines) + "\n"


def _write(told: dict[str, Any], out: Path) -> None:
    """finetuning.json, finetuning.md and finetuning.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    out.mkdir(parents=True, exist_ok=True)
    (out / f"{_NAME}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    (out / f"{_NAME}.md").write_text(markdown(told), "utf-8")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(3, 2))
    names, arms = list(told["measures"]), ["before", *told["losses"]]
    for number, arm in enumerate(arms):
        found = [told["measures"][name] for name in names]
        shares = [one["before"] if arm == "before" else one["after"][arm] for one in found]
        ends = [[one["value"] - one["low"] for one in shares], [one["high"] - one["value"] for one in shares]]
        places = [place + (number - (len(arms) - 1) / 2) * 0.2 for place in range(len(names))]
        left.barh(places, [one["value"] for one in shares], 0.18, xerr=ends, label=arm if not number else f"seed {arm}")
    left.set(xlabel="share right, with its 95 % interval", xlim=(0, 1.02), yticks=range(len(names)))
    left.set_yticklabels(names, fontsize=8)
    left.invert_yaxis()
    left.legend(loc="lower right", fontsize=8)
    for seed, losses in told["losses"].items():
        right.plot(*zip(*losses, strict=True), label=f"seed {seed}", linewidth=0.8)
    right.set(xlabel="step", ylabel="cross entropy of answers (nats a token)", yscale="log")
    right.legend(fontsize=8)
    # Without the program's version: the same figures are the same file.
    figure.savefig(out / f"{_NAME}.png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiment", description="Does a release make a model better?"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the shop, the platform, the runs and the figures"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(_SEEDS), help="of the runs")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="optimizer steps; 0: an epoch")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="what is measured on")
    parser.add_argument("--figures", type=Path, help="folder of the figures, if another")
    parser.add_argument("--page", type=Path, help="page to write the table into, between its marks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
