"""TCP proxies on loopback, one for each way from a process to a server, that can be cut, silenced and slowed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

#: Most bytes taken at once: a slow link lets through a little at a time.
_CHUNK = 16_384


class Link:
    """One way: whoever connects to `port` is brought to the server. All methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Callable[[], int]) -> None:
        self.port = 0
        self._loop, self._target = loop, target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        #: Of every chunk: how long it takes at least, seconds, and how many bytes pass in a second; 0 is no limit.
        self._delay = self._rate = 0.0
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset every connection, and every new one."""
        self._call(self._cut)

    def silence(self) -> None:
        """Let nothing through and say nothing; what is sent meanwhile arrives when healed, as TCP has it."""
        self._call(self._flowing.clear)

    def slow(self, delay: float, rate: float) -> None:
        """Delay every chunk by `delay` seconds and let `rate` bytes a second through."""
        self._delay, self._rate = delay, rate

    def heal(self) -> None:
        """Be a good link again."""
        self._refusing, self._delay, self._rate = False, 0.0, 0.0
        self._call(self._flowing.set)

    async def listen(self) -> None:
        """Take a port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def _call(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _cut(self) -> None:
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= pair
            for one in pair:
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                if self._delay or self._rate:
                    await asyncio.sleep(self._delay + (len(data) / self._rate if self._rate else 0.0))
                writer.write(data)
                await writer.drain()
        # What ends on one side ends on the other, with all that was sent before.
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


class Links:
    """All ways, by process and server, served by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._links: dict[tuple[str, str], Link] = {}

    def add(self, process: str, server: str, target: Callable[[], int]) -> Link:
        """A new way to the port that `target` tells when somebody connects."""
        link = self._links[process, server] = Link(self._loop, target)
        asyncio.run_coroutine_threadsafe(link.listen(), self._loop).result(10)
        return link

    def __getitem__(self, way: tuple[str, str]) -> Link:
        return self._links[way]

    def of(self, process: str) -> list[str]:
        """Servers that a process is connected to."""
        return [server for name, server in self._links if name == process]

    def heal(self) -> None:
        """Heal all."""
        for link in self._links.values():
            link.heal()

    def close(self) -> None:
        """End every connection, and the thread."""
        asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _end_tasks() -> None:
    """Cancel every other task, and wait for its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
