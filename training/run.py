"""A run's folder: its record, from which it is known again, and its checkpoints, from which it goes on."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.lvlm.adapter import RUN
from training.errors import TrainingError

CHECKPOINTS = "checkpoints"
_PACKAGES = ("mindstream", "torch", "transformers", "peft", "trl", "accelerate", "datasets")
#: Written last of a trainer's checkpoint: one without it was being written when the run was killed.
_COMPLETE = "trainer_state.json"
#: What must be the same for a run to go on: more, and it would be another.
_SAME = ("release", "base", "recipe", "rows", "steps")


@dataclass(frozen=True)
class Recipe:
    """What decides an adapter, beside the release and the checkpoint."""

    kinds: tuple[str, ...] = ("generation", "intent-understand", "intent-utilize")
    seed: int = 0
    #: Optimizer steps; 0: as many as `epochs` takes.
    steps: int = 0
    epochs: float = 1.0
    #: Examples of a batch, and batches of an optimizer step.
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 2e-4
    #: LoRA's rank; its scale is twice that.
    rank: int = 16
    dropout: float = 0.05
    #: Whether pictures are shown, where a kind has them.
    pictures: bool = True


def versions() -> dict[str, str]:
    """Of Python and the packages that have a say in the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


class Run:
    """A run in a folder, new or to go on with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {}

    def open(self, wanted: dict[str, Any], resume: bool) -> Path | None:
        """Begin or go on; the newest whole checkpoint where it goes on.

        Raises:
            TrainingError: there is a run already and it is not to go on, or it is another one than wanted.
        """
        # As it reads back: what is a tuple here is a list there.
        wanted = json.loads(json.dumps(wanted))
        known = self._known()
        if known and not resume:
            raise TrainingError(f"{self.folder} holds a run: --resume goes on with it, another --out begins a new one")
        for name in _SAME if known else ():
            if differing := _differing(known.get(name), wanted[name]):
                raise TrainingError(f"the run in {self.folder} is another one: its {name} has {differing}")
        if known.get("state") == "done":
            self.record = known
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record = {**wanted, "state": "running"}
        self.write()
        return self._newest()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.record.get("state") == "done"

    def write(self) -> None:
        """The record, whole or not at all."""
        part = self.folder / f".{RUN}"
        part.write_text(json.dumps(self.record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(part, self.folder / RUN)

    def _known(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads((self.folder / RUN).read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise TrainingError(f"{self.folder / RUN} is not the record of a run") from None
        return known

    def _newest(self) -> Path | None:
        """The newest checkpoint that is whole; those that are not are removed."""
        whole = []
        for path in (self.folder / CHECKPOINTS).glob("checkpoint-*"):
            try:
                json.loads((path / _COMPLETE).read_bytes())
                whole.append(path)
            except (OSError, ValueError):
                shutil.rmtree(path)
        return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _differing(known: Any, wanted: Any) -> str:
    """What a run has otherwise than wanted, in words; empty where nothing."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        for name in sorted(known.keys() | wanted.keys()):
            # Where a release lies may change, what is in it may not.
            if name != "url" and known.get(name) != wanted.get(name):
                return f"{name} {known.get(name)!r}, not {wanted.get(name)!r}"
        return ""
    return "" if known == wanted else f"{known!r}, not {wanted!r}"


def as_record(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the record has it."""
    return asdict(recipe)
