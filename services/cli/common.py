"""What the commands share: exit codes, settings, and errors in one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer

from deploy.local.ownership import owned
from deploy.local.platform import STATE_FILE
from services.common.process import BAD_INPUT, exit_code
from services.common.settings import Settings, load_settings

#: Exit code of the commands alone: a problem was found.
PROBLEM = 1
#: Folder of the embedded platform unless told.
DATA_DIR = Path("mindstream-data")

P = ParamSpec("P")
R = TypeVar("R")


class InputError(Exception):
    """The user's input is wrong; the message says what to mend."""


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and out."""
    print(f"mindstream: {message}", file=sys.stderr)
    raise typer.Exit(code)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a person or the world did wrong into one line and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # `| head` has seen enough; typer knows what to do.
            raise
        except InputError as error:
            fail(str(error), BAD_INPUT)
        except Exception as error:
            raise typer.Exit(exit_code("mindstream", error)) from None

    return wrapped


def platform_state(data_dir: Path) -> dict[str, Any] | None:
    """What the supervisor of a data folder wrote; None when none runs."""
    if not owned(data_dir):  # What a killed supervisor wrote is nobody's word.
        return None
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state


def settings_for(data_dir: Path | None = None) -> Settings:
    """Settings of the environment, or of the embedded platform in `data_dir` (or in the default folder)."""
    if data_dir is not None or "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        folder = data_dir or DATA_DIR
        state = platform_state(folder)
        if state is None and data_dir is not None:
            raise InputError(f"no platform runs in {folder} (start it: mindstream up --data-dir {folder})")
        if state is not None:
            os.environ.update(state["env"])
    return load_settings()


def print_json(value: Any) -> None:
    """JSON for programs; times as ISO 8601."""
    print(json.dumps(value, ensure_ascii=False, default=str, indent=1))


def number(value: float | None) -> str:
    """A figure in a table; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"
