"""Prompt files: `<room>/prompts/<version>.toml`, their version in every record that they made."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mindstream.inference.v1.common_pb2 import ProductView


@dataclass(frozen=True)
class PromptFile:
    """One version of one job's prompts."""

    version: str
    texts: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.texts[name]


def load(room: str, version: str) -> PromptFile:
    """The prompts of a room, such as `extractor`, `v1`; or of a file of one's own, whose name is the version.

    Raises:
        OSError: there is no such version or file.
        ValueError: it is no TOML in UTF-8.
    """
    shipped = resources.files(f"services.{room}") / "prompts" / f"{version}.toml"
    own = version.endswith(".toml")
    text = Path(version).read_text("utf-8") if own else shipped.read_text("utf-8")
    return PromptFile(f"{room}/{Path(version).stem if own else version}", tomllib.loads(text))


def described(product: ProductView) -> str:
    """A product as later prompts speak of it: its title and what the extractor said."""
    lines = [product.title]
    if product.description:
        lines.append(product.description)
    if product.features:
        lines.append("Features: " + ", ".join(product.features))
    if product.uses:
        lines.append("Uses: " + ", ".join(product.uses))
    return "\n".join(lines)


def clean(text: str) -> str:
    """A model's text on one line: control characters gone, white space folded."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).replace("\ufffd", " ").split())
