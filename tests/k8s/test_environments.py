"""Each image's environment, built from its extras as the Dockerfile does: its process starts, and answers as ready."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.images.environments import ROOT, build, images, wheel
from deploy.local.process import free_port
from models.demo import CHECKPOINT
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.plain import PlainEngine
from tests.k8s.conftest import full
from tests.lvlm.endpoint import Endpoint, serving
from tests.lvlm.fixtures import checkpoint

__all__ = ["checkpoint"]

pytestmark = [full, pytest.mark.integration, pytest.mark.timeout(600)]
_START_SECONDS = 120.0
#: Of a service that is to hash customers' ids, or to be read by whoever has it.
_SECRET = "0123456789abcdef0123456789abcdef"
#: Packages that would mean torch.
_HEAVY = ("torch", "transformers", "nvidia")


@pytest.fixture(scope="module")
def bins() -> Iterator[Callable[[str], Path]]:
    """Builds environments, each once; a bin folder by image."""
    with tempfile.TemporaryDirectory(prefix="mindstream-images-") as tmp:
        code, made = wheel(Path(tmp)), dict[str, Path]()

        def of(name: str) -> Path:
            if name not in made:
                made[name] = build(images()[name], code, Path(tmp) / name)
            return made[name]

        yield of


@contextlib.contextmanager
def started(name: str, bins: Callable[[str], Path], folder: Path, **settings: str) -> Iterator[int]:
    """An image's process with no more than settings and its own environment; its health port."""
    port, command = free_port(), images()[name].command
    given = {"MINDSTREAM_HTTP_HOST": "127.0.0.1", "MINDSTREAM_HTTP_PORT": str(port)}
    given |= {f"MINDSTREAM_{key.upper()}": value for key, value in settings.items()}
    here = folder / name
    here.mkdir()
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(
            [bins(name) / command[0], *command[1:]],
            cwd=here,
            env={"PATH": str(bins(name)), "HOME": str(here), **given},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not answers(port, "ready"):
            said = (here / "log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int, which: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{which}") as answer:
        return bool(answer.status == 200)
    return False


@pytest.fixture(scope="module")
def model_server(bins: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The target of a model server that runs from its image's environment, with the demo model."""
    port = free_port()
    with started(
        "model-server",
        bins,
        tmp_path_factory.mktemp("model"),
        model=str(CHECKPOINT),
        model_device="cpu",
        server_bind=f"127.0.0.1:{port}",
        # Nothing is exported; that its packages are there is what is asked.
        otlp_endpoint="http://127.0.0.1:1",
        media_url="s3://nowhere/media",
    ):
        yield f"127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["cobuy", "extractor", "generator", "filter", "kb-sink", "releases", "explorer"])
def test_a_service_gets_ready(
    name: str,
    bins: Callable[[str], Path],
    model_server: str,
    settings: Callable[..., Settings],
    postgres: str,
    tmp_path: Path,
) -> None:
    made = settings()
    given = {
        "kafka_bootstrap_servers": made.kafka_bootstrap_servers,
        "topic_prefix": made.topic_prefix,
        "postgres_dsn": postgres,
        "datasets_url": made.datasets_url,
        "customer_key": _SECRET,
        "explorer_token": _SECRET,
        "explorer_port": str(free_port()),
        "otlp_endpoint": "http://127.0.0.1:1",
        **{f"{job}_target": model_server for job in ("extractor", "generator", "filter")},
    }
    if "s3" in images()[name].extras and name != "releases":
        given["media_url"] = "s3://nowhere/media"
    if name == "explorer":
        with started("kb-sink", bins, tmp_path, **given):
            pass  # It makes the tables.
    with started(name, bins, tmp_path, **given) as port:
        assert answers(port, "live")
    heavy = [
        path.name for path in (bins(name).parent / "lib").glob("*/site-packages/*") if path.name.startswith(_HEAVY)
    ]
    assert heavy == []


def test_a_model_server_of_an_endpoint_gets_ready(
    bins: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    loaded = Checkpoint(Settings(model=str(checkpoint), model_device="cpu"))
    endpoint = Endpoint(loaded, PlainEngine(loaded, Settings()))
    with serving(endpoint):
        given = {"engine": "openai", "openai_base_url": endpoint.url, "server_bind": f"127.0.0.1:{free_port()}"}
        with started("model-server-remote", bins, tmp_path, **given) as port:
            assert answers(port, "live")
    packages = (bins("model-server-remote").parent / "lib").glob("*/site-packages/*")
    assert not [path.name for path in packages if path.name.startswith(_HEAVY)]


@pytest.mark.parametrize(
    ("image", "job", "said"),
    [
        ("cli", "topics", "created images.purchases"),
        ("cli", "migrate", "kb: newest"),
        ("model-server", "weights", str(CHECKPOINT)),
    ],
)
def test_a_job_does_its_work(
    image: str, job: str, said: str, bins: Callable[[str], Path], kafka: str, postgres: str, tmp_path: Path
) -> None:
    (found,) = [one for one in _jobs() if one["metadata"]["name"] == job]
    arguments: list[str] = found["spec"]["template"]["spec"]["containers"][0]["args"]
    # An image without an entry point runs the arguments alone.
    entry = images()[image].command[:1] if image == "cli" else ()
    program, *others = [*entry, *arguments]
    env = {
        "PATH": str(bins(image)),
        "HOME": str(tmp_path),
        "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "MINDSTREAM_TOPIC_PREFIX": "images.",
        "MINDSTREAM_POSTGRES_DSN": postgres,
        "MINDSTREAM_MODEL": str(CHECKPOINT),
    }
    done = subprocess.run([bins(image) / program, *others], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.splitlines()


def _jobs() -> list[dict[str, Any]]:
    files = ROOT.glob("deploy/k8s/**/*.yaml")
    return [one for path in files for one in yaml.safe_load_all(path.read_text()) if (one or {}).get("kind") == "Job"]
