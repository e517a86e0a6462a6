"""What the manifests name exists in the code, and numbers that belong together agree."""

from __future__ import annotations

import re
import sys
import tomllib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from deploy.images.environments import ROOT, images
from deploy.k8s import __main__ as command
from deploy.k8s.__main__ import COMPONENTS, stale
from deploy.k8s.check.render import INNER, choices, overlays, used
from deploy.monitoring.__main__ import DASHBOARDS
from services.common import health, metrics, topics
from services.common.runtime.stage import Health
from services.common.settings import LIBRDKAFKA_PREFIX, Settings
from tests.k8s.conftest import Objects, environment, named, pod, service, workloads
from tests.monitoring.promql import metrics as metrics_of

#: Variables that are not ours, and whose they are.
OTHERS = {
    "AWS_SHARED_CREDENTIALS_FILE": "botocore",
    "HF_HOME": "huggingface_hub",
    "HF_HUB_OFFLINE": "huggingface_hub",
    "HF_TOKEN_PATH": "huggingface_hub",
    "PGSSLMODE": "libpq",
    "PGSSLROOTCERT": "libpq",
}
#: Paths in settings that exist in a pod, and not here.
MOUNTED = ("MINDSTREAM_SECRETS_DIR", "MINDSTREAM_GRPC_TLS_CA", "MINDSTREAM_GRPC_TLS_CERT", "MINDSTREAM_GRPC_TLS_KEY")
#: Workloads that are no service: nobody waits for them to answer.
JOBS = {"migrate", "topics", "weights"}
#: What nobody may have fetched: addresses inside networks, of this machine, of a cloud's metadata service.
_INSIDE_4 = [
    IPv4Address(one) for one in ("10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.1.1", "127.0.0.1")
]
_INSIDE_6 = [IPv6Address(one) for one in ("::1", "fd00:ec2::254", "fe80::1", "::ffff:10.1.2.3")]
#: RFC 1918.
_PRIVATE = [IPv4Network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
DOCS = (ROOT / "docs" / "deploy.md").read_text()


def settings(objects: Objects, workload: dict[str, Any]) -> Settings:
    """The settings that a workload's process has, checked as it checks them."""
    given = {
        name.removeprefix("MINDSTREAM_").lower(): value
        for name, value in environment(objects, workload).items()
        if name.startswith("MINDSTREAM_") and not name.startswith(LIBRDKAFKA_PREFIX) and name not in MOUNTED
    }
    return Settings(**given)  # type: ignore[arg-type]


def test_written_manifests_are_what_they_are_written_from() -> None:
    assert stale() == [], "write them anew: make manifests"


def test_a_stale_manifest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "COMPONENTS", tmp_path)
    for name in ("strimzi", "monitoring"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "argv", ["deploy.k8s"])
    assert command.main() == 0
    assert command.stale() == []
    (tmp_path / "monitoring" / "rules.yaml").write_text("groups: []\n")
    monkeypatch.setattr(sys, "argv", ["deploy.k8s", "--check"])
    assert command.main() == 1
    assert capsys.readouterr().err == "deploy/k8s/monitoring/rules.yaml is stale: make manifests\n"


def test_every_component_is_in_a_combination_and_in_the_docs() -> None:
    tried = {name for chosen in choices() for name in chosen}
    assert tried == {path.name for path in COMPONENTS.iterdir()} - INNER
    assert {f"`{name}`" for name in tried} <= set(re.findall(r"`[a-z0-9-]+`", DOCS))
    assert all(f"`{name}`" in DOCS for name in overlays())
    assert all(used(overlay) <= tried for overlay in overlays())


def test_every_variable_is_a_setting_or_somebody_elses(objects: Objects) -> None:
    known = {f"MINDSTREAM_{name.upper()}" for name in Settings.model_fields}
    for workload in workloads(objects).values():
        for name in environment(objects, workload):
            assert name in known or name in OTHERS or name.startswith(LIBRDKAFKA_PREFIX)


def test_every_value_is_one_that_its_setting_takes(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        made = settings(objects, workload)
        assert made.secrets_dir is None
        assert made.topic_partitions == settings(objects, workloads(objects)["extractor"]).topic_partitions, name
        # What stands in a folder is mounted there.
        mounts = [mount["mountPath"] for mount in service(workload)["volumeMounts"]]
        paths = [value for value in environment(objects, workload).values() if value.startswith("/etc/")]
        mounted = [path for path in paths if any(path == mount or path.startswith(f"{mount}/") for mount in mounts)]
        ours = (
            {"AWS_SHARED_CREDENTIALS_FILE"}
            if "mindstream.dev/storage" not in pod(workload)["metadata"]["labels"]
            else set()
        )
        assert len(mounted) == len(paths) - len(ours & environment(objects, workload).keys()), name


def test_every_image_is_a_target_with_the_projects_version(objects: Objects) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for workload in workloads(objects).values():
        name, _, tag = service(workload)["image"].removeprefix("mindstream/").partition(":")
        assert name in images()
        assert tag == version


def test_every_port_is_one_that_the_process_serves(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        made = settings(objects, workload)
        serves = {"http": made.http_port, "pages": made.explorer_port, "grpc": int(made.server_bind.rpartition(":")[2])}
        ports = {port["name"]: port["containerPort"] for port in service(workload).get("ports", ())}
        assert ports.items() <= serves.items()
        assert ("http" in ports) is (name not in JOBS)
        assert ("grpc" in ports) is name.startswith("model")


def test_every_probe_asks_what_is_answered(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        if name in JOBS:
            continue
        asked = {kind: service(workload)[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert len({probe["path"] for probe in asked.values()}) == 3
        for probe in asked.values():
            assert probe["port"] == "http"
            assert health._verdict(probe["path"], Health(), Settings()) is not None


def test_workers_call_model_servers_that_are_there(objects: Objects) -> None:
    for stage in ("extractor", "generator", "filter"):
        target = getattr(settings(objects, workloads(objects)[stage]), f"{stage}_target")
        host, port = target.removeprefix("dns:///").split(":")
        found = named(objects, "Service")[host]
        assert found["spec"]["clusterIP"] == "None"
        assert [int(port)] == [one["port"] for one in found["spec"]["ports"]]
        pool = workloads(objects)[host]
        assert found["spec"]["selector"].items() <= pod(pool)["metadata"]["labels"].items()
        assert stage in settings(objects, pool).server_jobs.split(",")


def test_selectors_select_pods(objects: Objects) -> None:
    labels = [pod(one)["metadata"]["labels"] for one in workloads(objects).values()]

    def selected(wanted: dict[str, str]) -> bool:
        return any(wanted.items() <= one.items() for one in labels)

    for found in named(objects, "Service").values():
        assert selected(found["spec"]["selector"])
    for found in named(objects, "PodDisruptionBudget").values():
        assert selected(found["spec"]["selector"]["matchLabels"])
    for name, found in named(objects, "NetworkPolicy").items():
        wanted = found["spec"]["podSelector"].get("matchLabels", {})
        of_others = ("strimzi.io/cluster", "cnpg.io/cluster")
        assert selected(wanted) or wanted.keys() & set(of_others), name
    for monitor in named(objects, "PodMonitor").values():
        assert all(monitor["spec"]["selector"]["matchLabels"].items() <= one.items() for one in labels)
    covered = [one["spec"]["selector"]["matchLabels"] for one in named(objects, "PodDisruptionBudget").values()]
    for name, workload in workloads(objects).items():
        # Of the one process of releases and of a Job, none can be spared.
        has = any(one.items() <= pod(workload)["metadata"]["labels"].items() for one in covered)
        assert has is (name not in {*JOBS, "releases"})


def test_the_kafka_that_is_declared_has_our_topics(objects: Objects) -> None:
    found = named(objects, "KafkaTopic")
    if not found:
        assert "topics" in workloads(objects)
        return
    assert "topics" not in workloads(objects)
    made = settings(objects, workloads(objects)["extractor"])
    declared = {
        one["spec"]["topicName"]: (
            one["spec"]["partitions"],
            one["spec"]["replicas"],
            {key: str(value) for key, value in one["spec"]["config"].items()},
        )
        for one in found.values()
    }
    assert declared == {spec.name: (spec.partitions, spec.replication, spec.config) for spec in topics.specs(made)}
    brokers, config = (
        named(objects, "KafkaNodePool")["brokers"],
        named(objects, "Kafka")["kafka"]["spec"]["kafka"]["config"],
    )
    assert brokers["spec"]["replicas"] >= made.topic_replication >= config["min.insync.replicas"]
    assert config["message.max.bytes"] == topics.letter_max_bytes(made) + topics.HEADROOM_BYTES
    (user,) = named(objects, "KafkaUser").values()
    ours = topics.group_id(made, "")
    assert all(
        acl["resource"]["name"] == ours
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"]["type"] == "group"
    )


def test_pods_may_finish_what_they_are_at(objects: Objects) -> None:
    margin = 15
    for name, workload in workloads(objects).items():
        spec, made = pod(workload)["spec"], settings(objects, workload)
        before = service(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        label = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        if label == "worker":
            needed = made.drain_seconds + made.transaction_timeout_seconds
        elif label == "model-server":
            assert before
            assert made.server_grace_seconds >= made.call_timeout_seconds
            needed = before + made.server_grace_seconds
        elif label == "explorer":
            needed = before + 5
        else:
            continue
        assert spec["terminationGracePeriodSeconds"] >= needed + margin, name


def test_one_stage_alone_reaches_the_internet(objects: Objects) -> None:
    policies = named(objects, "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    out = set()
    for name, policy in policies.items():
        for rule in policy["spec"].get("egress", ()):
            assert rule["to"], f"{name} leads anywhere"
            blocks = [ip_network(to["ipBlock"]["cidr"]) for to in rule["to"] if "ipBlock" in to]
            assert rule.get("ports") or not blocks, f"{name} leads to any port"
            if any(not _inside(block) for block in blocks):
                out.add((name, policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]))
    # The weights' Job runs once, and beside nothing else.
    assert out - {("weights", "weights")} == {("pictures", "extractor")}
    for block in (to["ipBlock"] for to in policies["pictures"]["spec"]["egress"][0]["to"]):
        all_, left_out = ip_network(block["cidr"]), [ip_network(one) for one in block["except"]]
        inside = _INSIDE_4 if isinstance(all_, IPv4Network) else _INSIDE_6
        assert not [one for one in inside if one in all_ and not any(one in part for part in left_out)]


def test_secrets_are_named_and_never_there(objects: Objects) -> None:
    assert not named(objects, "Secret")
    made_here = {f"{name}-ca" for name in named(objects, "Cluster")} | {
        f"{name}-app" for name in named(objects, "Cluster")
    }
    made_here |= {f"{name}-cluster-ca-cert" for name in named(objects, "Kafka")} | set(named(objects, "KafkaUser"))
    made_here |= {one["spec"]["secretName"] for one in named(objects, "Certificate").values()}
    for name, workload in workloads(objects).items():
        assert not [one for one in service(workload).get("env", ()) if "value" not in one], name
        volumes = pod(workload)["spec"]["volumes"]
        assert volumes[0]["name"] == "secrets", "components patch it by its place"
        needed = [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
        for volume in volumes:
            needed += [source["secret"]["name"] for source in volume.get("projected", {}).get("sources", ())]
        for secret in needed:
            assert secret in made_here or f"`{secret}`" in DOCS, secret


def test_volumes_that_are_claimed_are_there(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        for volume in pod(workload)["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in named(objects, "PersistentVolumeClaim"), name


def test_service_accounts_have_no_token(objects: Objects) -> None:
    accounts = named(objects, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    for workload in workloads(objects).values():
        assert pod(workload)["spec"]["serviceAccountName"] in accounts
        assert pod(workload)["spec"]["automountServiceAccountToken"] is False
        assert pod(workload)["spec"]["enableServiceLinks"] is False


def test_what_scales_by_keda_is_set_by_nobody_else(objects: Objects) -> None:
    exported = {
        name for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase) for name in _series(metric)
    }
    scaled = named(objects, "ScaledObject")
    together = Settings()
    for name, found in scaled.items():
        target = found["spec"]["scaleTargetRef"]
        workload = named(objects, target["kind"])[target["name"]]
        assert "replicas" not in workload["spec"]
        assert found["spec"]["minReplicaCount"] == 1
        component = workload["metadata"]["labels"]["app.kubernetes.io/component"]
        if component == "worker":
            # One more would have no partition.
            assert found["spec"]["maxReplicaCount"] == settings(objects, workload).topic_partitions
        (trigger,) = found["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        assert metrics_of(query)
        assert metrics_of(query) <= exported, name
        if "compute_seconds" in query:
            made = settings(objects, workload)
            assert query.count("/ 16") == query.count("lag_records")
            assert made.concurrency == together.concurrency == made.server_together == 16
        behaviour = found["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        if component == "model-server":
            # A load takes minutes: it is not thrown away at the first lull.
            assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 1800
    for name, workload in workloads(objects).items():
        if name not in {one["spec"]["scaleTargetRef"]["name"] for one in scaled.values()} | JOBS:
            assert workload["spec"]["replicas"] >= 1


def test_every_dashboard_is_there(objects: Objects) -> None:
    if named(objects, "PodMonitor"):
        boards = set(named(objects, "ConfigMap")["mindstream-dashboards"]["data"])
        assert boards == {path.name for path in DASHBOARDS.glob("*.json")}


def test_the_scrape_job_is_one_that_the_rules_know(objects: Objects) -> None:
    for name in named(objects, "PodMonitor"):
        text = yaml.safe_dump(list(named(objects, "PrometheusRule").values()), width=10_000)
        jobs = set(re.findall(r'job=~\\?"([^"\\]+)', text))
        assert jobs
        assert all(re.fullmatch(job, f"mindstream/{name}") for job in jobs)


def _inside(block: IPv4Network | IPv6Network) -> bool:
    """Whether a range is of private networks."""
    return isinstance(block, IPv4Network) and any(block.subnet_of(one) for one in _PRIVATE)


def _series(metric: MetricWrapperBase) -> set[str]:
    """Names under which a metric is scraped."""
    found = set()
    for family in metric.describe():
        found |= {
            family.name,
            f"{family.name}_total",
            f"{family.name}_sum",
            f"{family.name}_count",
            f"{family.name}_bucket",
        }
    return found
