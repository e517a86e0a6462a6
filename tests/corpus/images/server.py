"""A server that answers as none should, byte by byte as written here."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Self
from urllib.parse import quote, unquote

from tests.corpus.images.files import plain, saved

PICTURE = saved(plain(), "PNG")


@dataclass(frozen=True)
class Answer:
    """What is sent, in pieces; `slow` waits between them."""

    name: str
    pieces: Callable[[], Iterator[bytes]]
    #: How what is seen of it begins.
    expected: str
    slow: bool = False


def _whole(content: bytes = PICTURE, status: str = "200 OK", **headers: str) -> Callable[[], Iterator[bytes]]:
    lines = {"Content-Length": str(len(content)), **{name.replace("_", "-"): said for name, said in headers.items()}}
    head = "".join(f"{name}: {said}\r\n" for name, said in lines.items())
    return lambda: iter([f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content])


def _endless(head: str, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield head.encode()
        yield from repeat(piece)

    return pieces


_CHUNKS = "Transfer-Encoding: chunked\r\n\r\n"
_OK = "HTTP/1.1 200 OK\r\n"
_BOMB = gzip.compress(gzip.compress(bytes(300_000_000), 1))

ANSWERS = [
    Answer("a picture", _whole(), "a picture"),
    Answer("content type text/html", _whole(Content_Type="text/html"), "a picture"),
    Answer("content type image/svg+xml", _whole(Content_Type="image/svg+xml"), "a picture"),
    Answer("an attachment .exe", _whole(Content_Disposition="attachment; filename=x.exe"), "a picture"),
    Answer("one byte at a time, for ever", _endless(_OK + "\r\n", b"x"), "later: .*TimeoutError", slow=True),
    Answer("a header at a time, for ever", _endless(_OK, b"X: y\r\n"), "later: .*TimeoutError", slow=True),
    Answer("100 Continue for ever", _endless("", b"HTTP/1.1 100 Continue\r\n\r\n"), "later: "),
    Answer("nothing", lambda: iter([b""]), "later: .*RemoteProtocolError"),
    Answer("no HTTP", lambda: iter([b"SSH-2.0-OpenSSH_9.9\r\n"]), "later: .*RemoteProtocolError"),
    Answer("headers without end", _endless(_OK, b"X" * 65_536), "later: .*RemoteProtocolError"),
    Answer("a body without end", _endless(_OK + "\r\n", bytes(65_536)), "refused: picture of more than 1000000 bytes"),
    Answer("chunks without end", _endless(_OK + _CHUNKS, b"400\r\n" + bytes(1024) + b"\r\n"),
           "refused: picture of more than 1000000 bytes"),
    Answer("chunks of a size that is none", _endless(_OK + _CHUNKS, b"zz\r\n"), "later: "),
    Answer("10 GB announced", _whole(Content_Length="10000000000"), "refused: picture of more than 1000000 bytes"),
    Answer("more announced than sent", _whole(Content_Length="50000"), "later: .*RemoteProtocolError"),
    Answer("two lengths", _whole(content_length="6"), "later: .*RemoteProtocolError"),
    Answer("gzip, though none was asked", _whole(gzip.compress(PICTURE), Content_Encoding="gzip"), "refused: .*gzip"),
    Answer("gzip of gzip, 300 MB", _whole(_BOMB, Content_Encoding="gzip, gzip"), "refused: .*gzip"),
    Answer("no content", lambda: iter([b"HTTP/1.1 204 No Content\r\n\r\n"]), "refused: picture answers 204"),
    Answer("part of it", _whole(status="206 Partial Content"), "refused: picture answers 206"),
    Answer("not modified", lambda: iter([b"HTTP/1.1 304 Not Modified\r\n\r\n"]), "refused: picture answers 304"),
    Answer("forbidden", _whole(status="403 Forbidden"), "refused: picture answers 403"),
    Answer("busy", _whole(status="429 Too Many Requests"), "later: picture answers 429"),
    Answer("status 999", _whole(status="999 ?"), "later: picture answers 999"),
    Answer("redirect without a place", _whole(b"", status="302 Found"), "refused: picture answers 302"),
]  # fmt: skip


class Shop:
    """Serves `ANSWERS` by name until the block ends."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def url(self, answer: Answer) -> str:
        """Where an answer is had."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{quote(answer.name, safe='')}"

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            asked = connection.recv(65_536).split(b" ")[1].decode()[1:]
            answer = next(one for one in ANSWERS if one.name == unquote(asked))
            for piece in answer.pieces():
                connection.sendall(piece)
                if self._over.wait(0.02) if answer.slow else self._over.is_set():
                    break
