"""`python -m services.lvlm` as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import feature_extractor_pb2 as pb
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub


def _start(**settings: str) -> subprocess.Popen[str]:
    environment = {f"MINDSTREAM_{name}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "services.lvlm"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_it_serves_says_when_it_is_ready_and_stops(checkpoint: Path, tmp_path: Path) -> None:
    target = f"127.0.0.1:{_free_port()}"
    process = _start(
        SERVER_BIND=target, MODEL=str(checkpoint), MODEL_DEVICE="cpu", HTTP_PORT="0", HTTP_HOST="127.0.0.1",
        MEDIA_URL=f"file://{tmp_path}", SERVER_JOBS="extractor",
    )  # fmt: skip
    try:
        with grpc.insecure_channel(target) as channel:
            states = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=120
            )
            seen = []
            for state in states:
                seen.append(state.status)
                if state.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            # The port is open before the model is there.
            assert seen[0] == health_pb2.HealthCheckResponse.NOT_SERVING
            states.cancel()
            request = pb.ExtractRequest(products=[common_pb2.ProductView(title="cup")])
            answer = FeatureExtractorStub(channel).Extract(request, timeout=60)
            assert answer.call.model_version.startswith("small@sha256:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SERVER_JOBS": "cook"}, "MINDSTREAM_SERVER_JOBS"),
        ({"SERVER_QUEUE": "none"}, "MINDSTREAM_SERVER_QUEUE"),
        ({"MODEL": ".", "SERVER_BIND": "127.0.0.1:0", "HTTP_PORT": "0"}, "cannot load the checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line(settings: dict[str, str], line: str, tmp_path: Path) -> None:
    process = _start(**{"MEDIA_URL": f"file://{tmp_path}", **settings})
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert line in said
    assert "Traceback" not in said
