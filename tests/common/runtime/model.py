"""A real gRPC server that answers after a time, in the test's process, or as one that can be killed."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from tests.common.runtime.program import METHOD


class Model(grpc.GenericRpcHandler):
    """Answers `{"n": …}` with its own request; holds calls while `gate` is closed; `crash` ends the process."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[int] = []
        self._alone = threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        event = json.loads(request)
        with self._alone if event["isolate"] else _nothing():
            context.send_initial_metadata((("began", "1"),))
            self.calls.append(event["n"])
            self.gate.wait()
            if self.delay:
                time.sleep(self.delay)
            if event.get("mode") == "crash":
                os._exit(1)
        return request


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def serve(model: Model, address: str = "127.0.0.1:0") -> tuple[grpc.Server, str]:
    """A started server and its address."""
    server = grpc.server(ThreadPoolExecutor(32), handlers=[model], options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}"


if __name__ == "__main__":
    running, _ = serve(Model(), sys.argv[1])
    print("ready", flush=True)
    running.wait_for_termination()
