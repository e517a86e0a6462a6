"""A real API server takes every object, strictly and with Pod Security `restricted` enforced; and refuses others."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from deploy.k8s.check.control_plane import ControlPlane
from deploy.k8s.check.render import rendered
from tests.k8s.conftest import Objects, named, pod, workloads

pytestmark = pytest.mark.integration
#: Of every headless Service, since the server itself fills in that there is none.
_SAID_OF_ALL = "Warning: spec.SessionAffinity is ignored for headless services"
#: Objects that were taken in an earlier case need not be asked about again.
_TAKEN: set[str] = set()


def as_pod(name: str, workload: dict[str, Any]) -> dict[str, Any]:
    """The pod that a workload's controller would make: admission looks at pods, and warns only of templates."""
    template = copy.deepcopy(pod(workload))
    metadata = {**template["metadata"], "name": name, "namespace": workload["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_it_takes_every_object_and_every_pod(objects: Objects, control_plane: ControlPlane) -> None:
    pods = [as_pod(name, workload) for name, workload in workloads(objects).items()]
    asked = [one for one in (*objects, *pods) if json.dumps(one, sort_keys=True) not in _TAKEN]
    if not asked:
        return
    done = control_plane.apply(asked)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(asked)
    # Pod Security, deprecated versions and the like speak here.
    assert set(done.stderr.splitlines()) <= {_SAID_OF_ALL}
    _TAKEN.update(json.dumps(one, sort_keys=True) for one in asked)


def refused(control_plane: ControlPlane, found: dict[str, Any]) -> str:
    done = control_plane.apply([found])
    assert done.returncode != 0, f"{found['kind']} is taken"
    return done.stderr


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("StatefulSet", "spec"),
        ("NetworkPolicy", "spec"),
        ("Kafka", "spec.kafka"),
        ("KafkaNodePool", "spec"),
        ("KafkaTopic", "spec"),
        ("KafkaUser", "spec"),
        ("Cluster", "spec"),
        ("ScaledObject", "spec"),
        ("PodMonitor", "spec"),
        ("PrometheusRule", "spec"),
        ("Certificate", "spec"),
        ("Issuer", "spec"),
    ],
)
def test_it_refuses_a_field_that_no_schema_has(kind: str, path: str, control_plane: ControlPlane) -> None:
    found = copy.deepcopy(next(iter(named(rendered("production"), kind).values())))
    place = found
    for part in path.split("."):
        place = place[part]
    place["relpicas"] = 1
    assert "relpicas" in refused(control_plane, found)


def test_it_refuses_a_wrong_type(control_plane: ControlPlane) -> None:
    found = copy.deepcopy(named(rendered("production"), "ScaledObject")["generator"])
    found["spec"]["maxReplicaCount"] = "many"
    assert "maxReplicaCount" in refused(control_plane, found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hostNetwork": True}, "host namespaces"),
        ({"securityContext": {"runAsNonRoot": False}}, "runAsNonRoot"),
        ({"volumes": [{"name": "secrets", "hostPath": {"path": "/"}}]}, "hostPath"),
    ],
)
def test_it_refuses_pods_that_are_not_restricted(
    change: dict[str, Any], said: str, control_plane: ControlPlane
) -> None:
    found = as_pod("generator", workloads(rendered("cpu-demo"))["generator"])
    found["spec"].update(change)
    if "volumes" in change:
        found["spec"]["containers"][0]["volumeMounts"] = []
    line = refused(control_plane, found)
    assert "restricted" in line
    assert said in line
