"""The processes that decode pictures: few, kept warm, and killed where one does not end.

A picture may take 16 bytes of memory a pixel of the largest allowed, some for the decoder itself, and a set CPU time.
A process that dies at a picture says nothing yet of the picture (the machine may be short of memory): it is tried again
in a fresh one, and only where each of them dies is it the picture's fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator

from services.common import metrics
from services.common.errors import EventFault, WorldFault
from services.common.settings import Settings
from services.extractor.images import fault
from services.extractor.normalise import LENGTH, MADE, READY, TAKEN

_log = logging.getLogger(__name__)
#: Pictures decoded at once.
AT_ONCE = 2
#: Of the address space. PNG with alpha takes 4 bytes a pixel, WebP three times that; the interpreter 60 MiB.
_BYTES_A_PIXEL, _BYTES_MORE = 16, 256 * 1024**2
#: A process that has not answered after so many times its CPU time has stopped rather than computes.
_WALL_TIMES = 10
_START_SECONDS = 60.0
#: Of a process that has closed its pipes, until its exit code is known.
_ENDING_SECONDS = 5.0


class _Died(Exception):
    """The process ended, or was ended, over a picture that it had taken."""


class _Decoder:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, seconds: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._seconds = process, seconds
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def start(cls, settings: Settings) -> _Decoder:
        """A process that is ready.

        Raises:
            WorldFault: it does not start.
        """
        memory = _BYTES_A_PIXEL * settings.image_max_pixels + _BYTES_MORE
        limits = (settings.image_max_pixels, settings.image_side, memory, settings.image_decode_seconds)
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "services.extractor.normalise", *map(str, limits)]
        try:
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        except OSError as error:
            raise WorldFault("media", f"cannot start a picture decoder: {error.strerror}") from None
        decoder = cls(process, settings.image_decode_seconds)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await decoder._expect(READY)
        except BaseException as error:
            decoder.kill()
            if isinstance(error, (EOFError, OSError)):  # TimeoutError among them.
                raise WorldFault("media", "a picture decoder ended before it was ready") from None
            raise
        return decoder

    async def normalised(self, content: bytes) -> bytes:
        """The picture normalised.

        Raises:
            EventFault: it is refused.
            _Died: the process did, over this picture.
            WorldFault: the process was gone before it took the picture.
        """
        taken = False
        try:
            async with asyncio.timeout(_WALL_TIMES * self._seconds):
                self._input.write(LENGTH.pack(len(content)))
                self._input.write(content)
                await self._input.drain()
                await self._expect(TAKEN)
                taken = True
                kind = await self._output.readexactly(1)
                (size,) = LENGTH.unpack(await self._output.readexactly(LENGTH.size))
                answer = await self._output.readexactly(size)
        except (EOFError, OSError) as error:
            code = await self.end(_ENDING_SECONDS if not isinstance(error, TimeoutError) else 0.0)
            if not taken:
                raise WorldFault("media", f"a picture decoder was gone ({_ending(code)})") from None
            metrics.PICTURE_DECODER_DEATHS.inc()
            if code == -signal.SIGXCPU:
                raise fault(f"picture takes more than {self._seconds} s to decode") from None
            raise _Died(_ending(code)) from None
        if kind != MADE:
            raise fault(answer.decode("utf-8", "replace"))
        return answer

    async def _expect(self, word: bytes) -> None:
        if await self._output.readexactly(1) != word:
            raise EOFError("the process says something else")

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    def kill(self) -> None:
        """End it at once; harmless where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, patience: float = 0.0) -> int:
        """End it, after `patience` seconds to end by itself; its exit code, or the signal's number below zero."""
        if patience:  # Else the kill itself would find it ended, and keep its exit code from asyncio.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    return await self._process.wait()
        self.kill()
        return await self._process.wait()


class Decoders:
    """The processes, started when they are first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: The one that worked last is the next: with little to do only one is ever started.
        self._idle: asyncio.LifoQueue[_Decoder | None] = asyncio.LifoQueue()
        for _ in range(AT_ONCE):
            self._idle.put_nowait(None)

    async def normalised(self, content: bytes) -> bytes:
        """A picture as everything behind the extractor knows it: see services/extractor/normalise.py.

        Raises:
            EventFault: too large in bytes, pixels, memory or time, of another format, broken, or deadly.
            WorldFault: no decoder starts.
        """
        if len(content) > self._settings.image_max_bytes:
            raise fault(f"picture of {len(content)} bytes; at most {self._settings.image_max_bytes}")
        died, tries = "", self._settings.crash_attempts
        for _ in range(tries):
            try:
                async with self._one() as decoder:
                    return await decoder.normalised(content)
            except _Died as death:
                died = str(death)
                _log.warning("a picture decoder died: %s", died)
        raise fault(f"picture killed its decoder {tries} times, the last by {died}")

    async def close(self) -> None:
        """End them. Those at work end with the calls that are cancelled."""
        while not self._idle.empty():
            if decoder := self._idle.get_nowait():
                await decoder.end()

    @contextlib.asynccontextmanager
    async def _one(self) -> AsyncIterator[_Decoder]:
        decoder, keep = await self._idle.get(), False
        try:
            if decoder is None or not decoder.running:
                decoder = None
                decoder = await _Decoder.start(self._settings)
            yield decoder
            keep = True
        except EventFault:
            keep = True
            raise
        finally:
            if decoder is not None and not keep:
                decoder.kill()  # Of a call that was cancelled the answer would still come.
            self._idle.put_nowait(decoder if keep else None)


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
