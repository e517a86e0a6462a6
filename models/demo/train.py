"""Train the demo model from nothing: `python -m models.demo.train --out DIR`.

Every step's lessons are made anew from the seed and the step's number, so no lesson is seen twice and a run that was
stopped goes on, with the same lessons, where its last state was saved. Two cores take about two hours.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.demo import architecture, shop, tokens, trees
from models.demo.lessons import judgements
from models.demo.muon import Muon
from models.demo.shop import Pair, Product, Tie
from models.demo.trees import Batch, Collator, Tree

STEPS, SEED = 5400, 0
JOBS = ("features", "intentions", "judgements")
#: Pairs per step, for the generator and for the filter each; four times as many products for the extractor, on whose
#: words the two others stand.
_PAIRS = 4
#: First steps, on titles alone: short, and all that is to be learned from them is to copy.
_COPYING = 400
#: Candidates judged per pair.
_JUDGED = 20
#: What ties the pairs of the lessons. Words that both titles hold, kinds and looks in common are learned slowest: they
#: come up more often than in the shop.
_TIES: dict[Tie, float] = {"goal": 0.3, "topic": 0.25, "same": 0.2, "apart": 0.17, "unrelated": 0.08}
_ALIKE = 1.6
_LEARNING_RATE, _WARM_UP = 5e-3, 150
_SAVE_EVERY, _SAY_EVERY = 250, 25


def lessons(step: int, seed: int) -> dict[str, list[Tree]]:
    """The trees of one step, by job."""
    rng = random.Random(f"{seed}/{step}")
    if step < _COPYING:
        titles = [product for _ in range(3 * _PAIRS) for product in products(rng)]
        return {"features": [trees.of_product(replace(product, pictured=False)) for product in titles]}
    return {
        "features": [trees.of_product(product) for _ in range(2 * _PAIRS) for product in products(rng)],
        "intentions": [trees.of_intentions(_pair(rng)) for _ in range(_PAIRS)],
        "judgements": [
            trees.of_judgements(pair, judgements(rng, "train", pair, _JUDGED))
            for pair in (_pair(rng) for _ in range(_PAIRS))
        ],
    }


def _pair(rng: random.Random) -> Pair:
    return shop.pair(rng, "train", rng.choices(list(_TIES), list(_TIES.values()))[0], _ALIKE)


def products(rng: random.Random) -> tuple[Product, Product]:
    """The products of a pair."""
    pair = shop.pair(rng, "train")
    return pair.a, pair.b


def loss(model: Any, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the tokens that are learned."""
    hidden = model.model(
        input_ids=batch.tokens,
        pixel_values=batch.pixels,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    learned = batch.targets >= 0
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), batch.targets[learned])


def optimizers(model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for all else."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and ".layers." in name else rest).append(weight)
    return [
        Muon(matrices, lr=_LEARNING_RATE),
        torch.optim.AdamW(rest, lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate(step: int, steps: int) -> float:
    """The learning rate's factor: a warm-up, then half a cosine down to a hundredth."""
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - _WARM_UP) / max(1, steps - _WARM_UP)))


class Training:
    """A run in a folder: `state.pt` to go on from, `losses.jsonl`, and at the end the checkpoint."""

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self._folder, self._steps, self._seed = folder, steps, seed
        folder.mkdir(parents=True, exist_ok=True)
        # A started run keeps its tokenizer: made once, loaded afterwards.
        made = folder / "processor"
        if not made.is_dir():
            tokens.processor(tokens.tokenizer(seed)).save_pretrained(made)
        self.processor = tokens.load_processor(made)
        self.model = architecture.new_model(self.processor, seed)
        self._collator = Collator(self.processor)
        self._optimizers = optimizers(self.model)
        self._step = 0
        self._losses: list[dict[str, float]] = []
        self._resume()

    def run(self) -> None:
        """Train to the last step, and write the checkpoint in bfloat16."""
        self.model.train()
        began, first = time.monotonic(), self._step
        recent: dict[str, float] = {}
        while self._step < self._steps:
            for job, value in self._learn().items():
                recent[job] = recent.get(job, value) * 0.9 + value * 0.1
            self._step += 1
            if self._step % _SAY_EVERY == 0:
                self._losses.append({"step": self._step, **recent})
                left = (time.monotonic() - began) / (self._step - first) * (self._steps - self._step)
                told = "  ".join(f"{job} {value:.3f}" for job, value in recent.items())
                print(f"step {self._step}/{self._steps}  {told}  {left / 60:.0f} min left", flush=True)
            if self._step % _SAVE_EVERY == 0 or self._step == self._steps:
                self._save()
        plot(self._losses, self._folder / "loss.png")
        self.model.to(torch.bfloat16).save_pretrained(self._folder / "checkpoint")
        self.processor.save_pretrained(self._folder / "checkpoint")

    def _learn(self) -> dict[str, float]:
        factor = rate(self._step, self._steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * factor
            optimizer.zero_grad(set_to_none=True)
        values = {}
        for job, made in lessons(self._step, self._seed).items():
            value = loss(self.model, self._collator.batch(made))
            value.backward()  # type: ignore[no-untyped-call]
            values[job] = value.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        return values

    def _save(self) -> None:
        state = {
            "step": self._step,
            "seed": self._seed,
            "steps": self._steps,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "losses": self._losses,
        }
        torch.save(state, self._folder / "state.part")
        os.replace(self._folder / "state.part", self._folder / "state.pt")

    def _resume(self) -> None:
        file = self._folder / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True)
        if (state["seed"], state["steps"]) != (self._seed, self._steps):
            sys.exit(
                f"{file} is of a run with --seed {state['seed']} --steps {state['steps']}; give these or another --out"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._step, self._losses = state["step"], state["losses"]
        print(f"going on from step {self._step}", flush=True)


def plot(losses: Sequence[dict[str, float]], file: Path) -> None:
    """The loss curves as a picture, and their numbers beside it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for job in JOBS:
        rows = [row for row in losses if job in row]
        axes.plot([row["step"] for row in rows], [row[job] for row in rows], label=job)
    axes.set(xlabel="step", ylabel="cross entropy (nats per token)", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    file.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses), "utf-8")


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description="Train the demo model from nothing.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; the checkpoint is in its checkpoint/"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    Training(asked.out, asked.steps, asked.seed).run()


if __name__ == "__main__":
    main()
