"""The processes that decode pictures: warm, few, killed where they hang; whose fault a death is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from prometheus_client import REGISTRY

from services.common.errors import EventFault, WorldFault
from services.common.settings import Settings
from services.extractor import decoders
from services.extractor.decoders import AT_ONCE, Decoders
from services.extractor.normalise import LENGTH, READY
from tests.extractor.pictures import encoded

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and signals are Linux'")


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[Decoders]:
    made = Decoders(Settings(**settings))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()
        assert children() == []


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "services.extractor.normalise" in one.cmdline()]


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def deaths() -> float:
    return REGISTRY.get_sample_value("mindstream_picture_decoder_deaths_total") or 0


async def test_one_process_serves_picture_after_picture_and_refusals_too() -> None:
    async with running() as made:
        first = await made.normalised(encoded())
        (process,) = children()
        for bad in (b"", b"<svg/>", encoded("PNG", (600, 400))[:200]):
            with pytest.raises(EventFault, match="picture"):
                await made.normalised(bad)
        assert await made.normalised(encoded()) == first
        assert children() == [process]
        with pytest.raises(EventFault, match="at most 10485760"):
            await made.normalised(b"x" * 10_485_761)


async def test_no_more_than_so_many_at_once() -> None:
    async with running() as made:
        pictures = await asyncio.gather(*(made.normalised(encoded(size=(300 + n, 200))) for n in range(12)))
        assert len(set(pictures)) > 1
        assert 1 <= len(children()) <= AT_ONCE


async def test_a_process_that_was_killed_while_idle_is_nobodys_fault() -> None:
    async with running(crash_attempts=1) as made:
        await made.normalised(encoded())
        for _ in range(3):
            (process,) = children()
            process.kill()
            with contextlib.suppress(WorldFault):  # Where its end was not known yet; the runtime tries again then.
                await made.normalised(encoded())
            assert await made.normalised(encoded())


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In the decoder's place one that takes a picture and then stops; the file counts the pictures."""
    log, script = tmp_path / "taken", tmp_path / "decoder"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys, time\n"
        f"sys.stdout.buffer.write({READY!r}); sys.stdout.flush()\n"
        f"size = int.from_bytes(sys.stdin.buffer.read({LENGTH.size}), 'big')\n"
        "sys.stdin.buffer.read(size)\n"
        f"sys.stdout.buffer.write(b't'); sys.stdout.flush()\n"
        f"print(1, file=open({str(log)!r}, 'a'))\n"
        "time.sleep(600)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return log


async def test_one_that_hangs_is_killed_and_the_picture_refused_when_each_did(
    hanging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_WALL_TIMES", 0.3)
    before = deaths()
    async with running(crash_attempts=2, image_decode_seconds=1) as made:
        with pytest.raises(EventFault, match="killed its decoder 2 times, the last by SIGKILL"):
            await made.normalised(encoded())
    assert hanging.read_text() == "1\n1\n"  # noqa: ASYNC240
    assert deaths() == before + 2


async def test_a_cancelled_call_leaves_no_process_that_still_answers_it(hanging: Path) -> None:
    # Kafka and PostgreSQL of other tests are children too.
    others = set(psutil.Process().children())
    async with running() as made:
        task = asyncio.create_task(made.normalised(encoded()))
        await wait_for(hanging.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_for(
            lambda: not [one for one in psutil.Process().children() if one.is_running() and one not in others]
        )


async def test_a_death_at_the_first_try_only_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decoders._Decoder._expect
    killed: list[int] = []

    async def expect(self: decoders._Decoder, word: bytes) -> None:
        await whole(self, word)
        if word == b"t" and not killed:  # The kernel takes it, while it decodes.
            killed.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(decoders._Decoder, "_expect", expect)
    async with running() as made:
        assert await made.normalised(encoded("PNG", (3000, 2000)))
    assert len(killed) == 1


async def test_a_decoder_that_cannot_start_is_the_worlds_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as made:
        for executable in ("/bin/false", "/no/such/program"):
            monkeypatch.setattr(sys, "executable", executable)
            with pytest.raises(WorldFault, match="decoder"):
                await made.normalised(encoded())
        monkeypatch.undo()
        assert await made.normalised(encoded())
