"""The program that fills the volume of checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys

from models.demo import CHECKPOINT


def weights(model: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "MINDSTREAM_MODEL": model, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "services.lvlm.weights"]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_checkpoint_that_is_there_is_named() -> None:
    done = weights(str(CHECKPOINT))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CHECKPOINT}\n", "")


def test_one_that_cannot_be_had_is_one_line_and_tried_again() -> None:
    done = weights("nobody/nothing")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("no checkpoint nobody/nothing: neither a folder nor to be had from the Hub: ")
