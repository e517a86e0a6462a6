"""The images' environments without Docker: what each stage `*-env` of the Dockerfile installs, in a folder.

`python -m deploy.images.environments [IMAGE ...]` builds each (or those) and says how large its packages are: an image
is that, and the base.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = Path(__file__).with_name("Dockerfile")
_STAGE = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
_JSON = re.compile(r"^(ENTRYPOINT|CMD) (\[.*\])$", re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """A target: the extras that are installed for it, and what it runs."""

    name: str
    extras: tuple[str, ...]
    command: tuple[str, ...]


def images() -> dict[str, Image]:
    """Every target of the Dockerfile, by name."""
    stages = {name: (base, body) for base, name, body in _STAGE.findall(DOCKERFILE.read_text())}
    found = {}
    for name, (base, body) in stages.items():
        if base == "runtime":
            extras = re.findall(r"--extra (\S+)", stages[f"{name}-env"][1])
            words = {kind: json.loads(text) for kind, text in _JSON.findall(body)}
            command = (*words.get("ENTRYPOINT", ()), *words["CMD"])
            found[name] = Image(name, tuple(extras), command)
    return found


def wheel(folder: Path) -> Path:
    """Build the wheel of our code into `folder`, by the installed hatchling."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def build(image: Image, code: Path, folder: Path) -> Path:
    """Make an image's environment in `folder`; its bin folder. Files come from uv's cache by hard links."""
    python = folder / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    locked = ["--constraint", "requirements.lock"]
    extras = [word for extra in image.extras for word in ("--extra", extra)]
    commands: tuple[list[str | Path], ...] = (
        ["venv", "--quiet", "--python", sys.executable, folder],
        ["pip", "install", "--quiet", "--python", python, *locked, "-r", "pyproject.toml", *extras],
        ["pip", "install", "--quiet", "--python", python, "--no-deps", code],
    )
    for command in commands:
        subprocess.run([uv, *command], cwd=ROOT, check=True)
    return folder / "bin"


def megabytes(folder: Path) -> int:
    """Size of an environment's files, with the bytecode that images hold too."""
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", folder / "lib"], check=False)
    sizes = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            sizes[status.st_ino] = status.st_size
    return round(sum(sizes.values()) / 1e6)


def main() -> None:
    """A table of sizes."""
    with tempfile.TemporaryDirectory() as tmp:
        code = wheel(Path(tmp))
        print("| image | extras | packages |\n| --- | --- | --- |")
        for image in (images()[name] for name in sys.argv[1:] or images()):
            folder = Path(tmp) / image.name
            build(image, code, folder)
            print(f"| `{image.name}` | {', '.join(image.extras)} | {megabytes(folder):,} MB |", flush=True)


if __name__ == "__main__":
    main()
