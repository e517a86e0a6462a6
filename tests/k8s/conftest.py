"""Rendered manifests, and the real control plane that is asked about them.

`make k8s-check` builds the programs and sets K8S_CHECK; without it, what takes minutes is left to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.k8s.check import crds, programs
from deploy.k8s.check.control_plane import ControlPlane, running
from deploy.k8s.check.render import base_with, choices, combinations, overlays, rendered

FULL = bool(os.environ.get("K8S_CHECK"))
#: Marks tests that take minutes, or tools of their own.
full = pytest.mark.skipif(not FULL, reason="part of make k8s-check")
Objects = list[dict[str, Any]]


def cases() -> list[Any]:
    """What is rendered, as parameters: overlays, and where all is checked every combination."""
    made = combinations() if FULL else ((overlay, "") for overlay in overlays())
    found = [pytest.param(("overlay", *one), id="+".join(filter(None, one))) for one in made]
    if FULL:
        found += [pytest.param(("base", *one), id="+".join(("base", *one))) for one in choices()]
    return found


@pytest.fixture(scope="session")
def kubectl() -> Path:
    program = programs.kubectl()
    if program is None:
        pytest.skip("no kubectl of 1.27 or newer; make k8s-check builds one")
    return program


@pytest.fixture(params=cases())
def objects(request: pytest.FixtureRequest, kubectl: Path) -> Objects:
    """The objects of one case."""
    kind, *names = request.param
    return rendered(*names) if kind == "overlay" else base_with(*names)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[ControlPlane]:
    """A real API server that knows every custom resource, with our namespace and its service accounts."""
    if programs.servers() is None:
        pytest.skip("etcd and kube-apiserver are not built; make k8s-check builds them")
    with running(tmp_path_factory.mktemp("control-plane")) as plane:
        folder = crds.definitions()
        done = plane.kubectl("apply", "--server-side", "-f", folder)
        assert done.returncode == 0, done.stderr
        names = [yaml.safe_load(path.read_text())["metadata"]["name"] for path in sorted(folder.iterdir())]
        waited = plane.kubectl(
            "wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names)
        )
        assert waited.returncode == 0, waited.stderr
        for kind in ("Namespace", "ServiceAccount"):
            # Pods are refused where these are not really there.
            needed = {
                one["metadata"]["name"]: one
                for overlay in overlays()
                for one in rendered(overlay)
                if one["kind"] == kind
            }
            done = plane.apply(list(needed.values()), really=True)
            assert done.returncode == 0, done.stderr
        yield plane


def named(objects: Objects, kind: str) -> dict[str, dict[str, Any]]:
    """Objects of a kind, by name."""
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def workloads(objects: Objects) -> dict[str, dict[str, Any]]:
    """What has pods of ours, by name."""
    return {name: one for kind in ("Deployment", "StatefulSet", "Job") for name, one in named(objects, kind).items()}


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    """A workload's pod template."""
    template: dict[str, Any] = workload["spec"]["template"]
    return template


def service(workload: dict[str, Any]) -> dict[str, Any]:
    """The one container of a workload's pods."""
    (container,) = pod(workload)["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def environment(objects: Objects, workload: dict[str, Any]) -> dict[str, str]:
    """The variables that a workload's container gets."""
    found: dict[str, str] = {}
    maps = named(objects, "ConfigMap")
    for source in service(workload)["envFrom"]:
        found.update(maps[source["configMapRef"]["name"]]["data"])
    found.update((one["name"], one["value"]) for one in service(workload).get("env", ()))
    return found
