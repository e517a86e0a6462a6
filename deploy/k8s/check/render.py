"""Renders overlays and their combinations with components, as `kubectl apply -k` would."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.__main__ import COMPONENTS, ROOT
from deploy.k8s.check import programs
from deploy.local.errors import PlatformError

OVERLAYS = ROOT / "overlays"
#: Components of which an installation has one: where work is computed, where files are, who scales model servers.
ALTERNATIVES = (
    frozenset({"models-shared", "models-per-job", "models-remote"}),
    frozenset({"storage-volume", "storage-s3"}),
    frozenset({"keda-models-shared", "keda-models-per-job"}),
)
#: What a component works on: another one of these must be there.
NEEDS = {
    "gpu": {"models-shared", "models-per-job"},
    "weights": {"models-shared", "models-per-job"},
    "keda-models-shared": {"models-shared", "models-remote"},
    "keda-models-per-job": {"models-per-job"},
}
#: Used by others, and not by overlays.
INNER = {"hardened"}


def overlays() -> list[str]:
    """Every overlay."""
    return sorted(path.name for path in OVERLAYS.iterdir())


def components() -> list[str]:
    """Every component that an overlay may name."""
    return sorted(path.name for path in COMPONENTS.iterdir() if path.name not in INNER)


def used(overlay: str) -> set[str]:
    """The components that an overlay names."""
    listed = yaml.safe_load((OVERLAYS / overlay / "kustomization.yaml").read_text())["components"]
    return {Path(path).name for path in listed if path.startswith("../")}


def combinations() -> Iterator[tuple[str, str]]:
    """Every overlay by itself, and with each component that it can have beside its own."""
    for overlay in overlays():
        yield overlay, ""
        there = used(overlay)
        for component in components():
            clashes = any(component in group and there & group for group in ALTERNATIVES)
            lacks = component in NEEDS and not there & NEEDS[component]
            if component not in there and not clashes and not lacks:
                yield overlay, component


@cache
def rendered(overlay: str, component: str = "") -> list[dict[str, Any]]:
    """The objects of an overlay, with one more component.

    Raises:
        PlatformError: it cannot be rendered.
    """
    return _built(OVERLAYS / overlay, [component] if component else [])


@cache
def base_with(*chosen: str) -> list[dict[str, Any]]:
    """The objects of the base with components alone.

    Raises:
        PlatformError: it cannot be rendered.
    """
    return _built(ROOT / "base", chosen)


def _built(resource: Path, chosen: Iterable[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp).resolve()
        text = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "mindstream",
            "resources": [os.path.relpath(resource, folder)],
            "components": [os.path.relpath(COMPONENTS / name, folder) for name in chosen],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
        program = programs.kubectl()
        if program is None:
            raise PlatformError("no kubectl (make k8s-check builds one)")
        done = subprocess.run([program, "kustomize", folder], capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise PlatformError(f"{resource.name} with {', '.join(chosen) or 'nothing'}: {done.stderr.strip()[:500]}")
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def choices() -> Iterator[tuple[str, ...]]:
    """Components on the base alone: each way to have Kafka, PostgreSQL, models and storage, with all that fits.

    And without it, where Kafka and PostgreSQL are not ours.
    """
    ways = itertools.product(
        ((), ("strimzi",)),
        ((), ("cloudnative-pg",)),
        (("models-shared",), ("models-per-job",), ("models-remote",)),
        (("storage-volume",), ("storage-s3",)),
    )
    chosen = {name for group in ALTERNATIVES for name in group} | {"strimzi", "cloudnative-pg"}
    for way in ways:
        least = tuple(itertools.chain(*way))
        more = [name for name in components() if name not in chosen or name.startswith("keda-models")]
        if "strimzi" not in least and "cloudnative-pg" not in least:
            yield least
        yield (*least, *(name for name in more if name not in NEEDS or NEEDS[name] & set(least)))
