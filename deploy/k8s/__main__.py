"""`python -m deploy.k8s [--check]`: writes the manifests that repeat what stands elsewhere, or says which is stale.

KafkaTopics come from services/common/topics.py, PrometheusRules from deploy/monitoring/rules. Exit code 1: stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from services.common import topics
from services.common.settings import Settings

ROOT = Path(__file__).parent
COMPONENTS = ROOT / "components"
RULES = ROOT.parent / "monitoring" / "rules"
#: The Strimzi cluster of the component `strimzi`.
CLUSTER = "kafka"
#: On topics with as many partitions as the setting says; those of dead letters have one.
PARTITIONED = "mindstream.dev/partitioned"
_HEADER = "# Written by `make manifests`; do not change it here.\n"


def kafka_topics() -> list[dict[str, Any]]:
    """A KafkaTopic for each topic that an installation needs. Partitions and replicas are filled in by kustomize."""
    found = []
    for spec in topics.specs(Settings()):
        labels = {"strimzi.io/cluster": CLUSTER, PARTITIONED: "true" if spec.partitions > 1 else "false"}
        found.append(
            {
                "apiVersion": "kafka.strimzi.io/v1beta2",
                "kind": "KafkaTopic",
                # Kubernetes takes no underscore in a name.
                "metadata": {"name": spec.name.replace("_", "-"), "labels": labels},
                "spec": {
                    "topicName": spec.name,
                    "partitions": spec.partitions,
                    "replicas": spec.replication,
                    "config": {key: _number(value) for key, value in spec.config.items()},
                },
            }
        )
    return found


def prometheus_rules() -> list[dict[str, Any]]:
    """A PrometheusRule for each rule file."""
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"mindstream-{path.stem}"},
            "spec": yaml.safe_load(path.read_text()),
        }
        for path in sorted(RULES.glob("*.yaml"))
    ]


def texts() -> dict[Path, str]:
    """Every written manifest's text, by its path."""
    return {
        COMPONENTS / "strimzi" / "topics.yaml": _text(kafka_topics()),
        COMPONENTS / "monitoring" / "rules.yaml": _text(prometheus_rules()),
    }


def stale() -> list[str]:
    """Manifests that are not what they are written from."""
    return [
        str(path.relative_to(ROOT)) for path, text in texts().items() if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    """Write or check; the exit code."""
    if "--check" in sys.argv[1:]:
        for name in stale():
            print(f"deploy/k8s/{name} is stale: make manifests", file=sys.stderr)
        return 1 if stale() else 0
    for path, text in texts().items():
        path.write_text(text)
    return 0


def _text(objects: Iterable[dict[str, Any]]) -> str:
    return _HEADER + yaml.safe_dump_all(objects, sort_keys=False, width=1000)


def _number(value: str) -> int | str:
    return int(value) if value.lstrip("-").isdigit() else value


if __name__ == "__main__":
    sys.exit(main())
