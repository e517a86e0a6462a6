"""`python -m services.lvlm` as a process: ready, stopped, killed, and what is wrong with its settings."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import feature_extractor_pb2 as pb
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub

from services.common import modelcalls
from services.common.errors import ServerCrashed, WorldFault
from services.common.settings import Settings

SERVING = health_pb2.HealthCheckResponse.SERVING
Start = Callable[..., tuple[subprocess.Popen[str], str, int]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def start(checkpoint: Path, tmp_path: Path) -> Iterator[Start]:
    """A server with the small checkpoint; settings in capitals. Gives the process, its address, its HTTP port."""
    running: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> tuple[subprocess.Popen[str], str, int]:
        target, http = f"localhost:{free_port()}", free_port()
        names = {
            "SERVER_BIND": target, "MODEL": str(checkpoint), "MODEL_DEVICE": "cpu", "HTTP_PORT": str(http),
            "HTTP_HOST": "127.0.0.1", "MEDIA_URL": f"file://{tmp_path}/media", **settings,
        }  # fmt: skip
        env = {**os.environ, **{f"MINDSTREAM_{name}": value for name, value in names.items()}}
        command = [sys.executable, "-m", "services.lvlm"]
        running.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
        return running[-1], names["SERVER_BIND"], http

    yield start
    for process in running:
        process.kill()
        process.communicate()


def request(key: str, products: int) -> pb.ExtractRequest:
    views = [common_pb2.ProductView(title=f"product {number}") for number in range(products)]
    return pb.ExtractRequest(idempotency_key=key, products=views)


def until_serving(channel: grpc.Channel) -> list[int]:
    """The states seen on the way."""
    asked = health_pb2.HealthCheckRequest(service="mindstream.inference.v1.FeatureExtractor")
    states = health_pb2_grpc.HealthStub(channel).Watch(asked, wait_for_ready=True, timeout=120)  # type: ignore[attr-defined]
    seen: list[int] = []
    for state in states:
        seen.append(state.status)
        if state.status == SERVING:
            break
    states.cancel()
    return seen


def test_it_serves_says_when_it_is_ready_and_finishes_what_it_began(start: Start) -> None:
    process, target, http = start(SERVER_JOBS="extractor")
    with grpc.insecure_channel(target) as channel:
        # The port is open before the model is there.
        assert until_serving(channel) == [health_pb2.HealthCheckResponse.NOT_SERVING, SERVING]
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "mindstream.inference.v1.FeatureExtractor" in services
        assert "mindstream.inference.v1.IntentionFilter" not in services
        call = FeatureExtractorStub(channel).Extract.future(request("1", 3), timeout=120)
        asyncio.run(until(http, "mindstream_server_batch_sequences_count", 1))
        process.send_signal(signal.SIGTERM)
        assert len(call.result().products) == 3
        assert process.wait(60) == 0


def test_sigterm_while_loading_waits_for_nothing(start: Start) -> None:
    process, target, _ = start()
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


async def until(http: int, metric: str, least: float) -> None:
    """Wait for a metric of the server, summed over its labels."""
    found = -1.0
    while found < least:
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{http}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = sum(float(line.split()[-1]) for line in lines if line.startswith(metric + "{"))


@pytest.mark.parametrize("isolated", [True, False], ids=["a suspect beside others", "one call at a time"])
async def test_kill_9_accuses_the_call_that_was_computed_and_no_other(start: Start, isolated: bool) -> None:
    process, target, http = start(SERVER_TOGETHER="4" if isolated else "1")
    with grpc.insecure_channel(target) as channel:
        await asyncio.to_thread(until_serving, channel)
    async with modelcalls.open_channel(target, Settings()) as asked:
        stub = FeatureExtractorStub(asked)

        def ask(key: str, isolate: bool = False) -> asyncio.Task[pb.ExtractResponse]:
            asked = request(key, 400)
            asked.isolate = isolate
            return asyncio.create_task(modelcalls.call("test", stub.Extract, asked, pb.ExtractResponse, 120))

        computed = ask("computed", isolated)
        await until(http, "mindstream_server_batch_sequences_count", 1)
        waiting = ask("waiting")
        await until(http, "mindstream_server_queue_calls", 2)
        process.kill()
        with pytest.raises(ServerCrashed):
            await computed
        with pytest.raises(WorldFault) as away:
            await waiting
        assert not isinstance(away.value, ServerCrashed)


async def test_with_certificates_only_those_who_have_one_are_answered(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("localhost", "client"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    _, target, _ = start(
        GRPC_TLS_CA=f"{tmp_path}/ca.pem", GRPC_TLS_CERT=f"{tmp_path}/localhost.pem",
        GRPC_TLS_KEY=f"{tmp_path}/localhost.key",
    )  # fmt: skip
    ours = Settings(
        grpc_tls_ca=tmp_path / "ca.pem", grpc_tls_cert=tmp_path / "client.pem", grpc_tls_key=tmp_path / "client.key"
    )
    asked = health_pb2.HealthCheckRequest()
    async with modelcalls.open_channel(target, ours) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(asked, wait_for_ready=True, timeout=60)  # type: ignore[attr-defined]
        assert answer.status in (SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
    for stranger in (Settings(), Settings(grpc_tls_ca=tmp_path / "ca.pem")):
        async with modelcalls.open_channel(target, stranger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)  # type: ignore[attr-defined]
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SERVER_JOBS": "cook"}, "MINDSTREAM_SERVER_JOBS"),
        ({"FILTER_PROMPT": "v9"}, "MINDSTREAM_FILTER_PROMPT: v9"),
        ({"SERVER_QUEUE": "none"}, "MINDSTREAM_SERVER_QUEUE"),
        ({"MODEL": "."}, "cannot load the checkpoint"),
        ({"MODEL_DEVICE": "cuda:77"}, "on cuda:77"),
        ({"LOG_LEVEL": "LOUD"}, "MINDSTREAM_LOG_LEVEL"),
        ({"GRPC_TLS_CERT": __file__, "GRPC_TLS_KEY": "none.key"}, "none.key"),
        ({"GRPC_TLS_CERT": __file__}, "set together"),
        ({"GRPC_TLS_CA": __file__}, "no certificate to serve with"),
    ],
)
def test_what_is_wrong_is_one_line(start: Start, settings: dict[str, str], line: str) -> None:
    process, _, _ = start(**settings)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert line in said
    assert "Traceback" not in said


def test_a_taken_port_is_one_line(start: Start) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        process, _, _ = start(SERVER_BIND=f"127.0.0.1:{holder.getsockname()[1]}")
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "cannot serve on" in said
    assert "Traceback" not in said
