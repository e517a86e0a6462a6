"""A small checkpoint with the real architecture, its engine, and the real gRPC server on it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from PIL import Image

from models.untrained import make
from services.common.media import MediaStore
from services.common.settings import Settings
from services.extractor import server as extractor
from services.filter import server as judge
from services.generator import server as generator
from services.lvlm.calls import Calls
from services.lvlm.engine import Engine
from services.lvlm.load import load_engine


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    make(folder)
    return folder


@pytest.fixture(scope="session")
def engine(checkpoint: Path) -> Engine:
    return load_engine(Settings(model=str(checkpoint), model_device="cpu"))


def no_memory(*_: object) -> None:
    """In the place of what needs memory, when there is none."""
    raise MemoryError


def png(color: str) -> bytes:
    """A picture's bytes."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(file, "PNG")
    return file.getvalue()


@dataclass
class Served:
    """A model server in this process."""

    target: str
    channel: grpc.aio.Channel
    calls: Calls
    media: MediaStore


@pytest.fixture
async def served(engine: Engine, tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings(
        media_url=f"file://{tmp_path}/media",
        server_queue=3,
        server_orphan_seconds=0,
        max_new_tokens=12,
        features_max_new_tokens=24,
    )
    calls = Calls(settings)
    calls.serve(engine)
    server = grpc.aio.server()
    for room in (extractor, generator, judge):
        room.register(server, calls)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(f"127.0.0.1:{port}", channel, calls, MediaStore(settings.media_url))
    await server.stop(None)
