"""The README's commands are those of the command line, and every command teaches."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted({line.split("#")[0].strip() for line in re.findall(r"^ +(?:\S+/)?mindstream (.+)$", README, re.M)})


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it; typer brings a click of its own, so no class is named."""
    yield name, command
    for child, found in getattr(command, "commands", {}).items():
        yield from walk(found, f"{name} {child}")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context("mindstream", arguments)  # Raises what a person would be told; runs nothing.


def test_the_readme_shows_most_commands() -> None:
    assert len(COMMANDS) > 12


@pytest.mark.parametrize(("name", "command"), [*walk(typer.main.get_command(app), "mindstream")])
def test_every_command_and_option_says_what_it_is_for(name: str, command: Any) -> None:
    assert command.help, name
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (\S+)", README))))
def test_a_module_of_the_readme_is_there(module: str) -> None:
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make (\w+)", README))))
def test_a_make_target_of_the_readme_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
