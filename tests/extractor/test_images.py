"""Pictures from a real HTTP server: what is taken, what is refused, and what may come later."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.common.errors import EventFault, Parked
from services.common.settings import Settings
from services.extractor import images
from tests.extractor.pictures import encoded


class _Shop(BaseHTTPRequestHandler):
    hanging = threading.Event()

    def do_GET(self) -> None:
        match self.path:
            case "/picture":
                self._send(200, encoded())
            case "/moved":
                self._send(302, b"", "/picture")
            case "/loop":
                self._send(302, b"", "/loop")
            case "/inside":
                self._send(302, b"", "http://inside.invalid/secret")
            case "/metadata":
                self._send(302, b"", "http://169.254.169.254/latest/meta-data")
            case "/nowhere":
                self._send(302, b"", "http://[")
            case "/gzip":
                self._send(200, encoded(), encoding="gzip")
            case "/file":
                self._send(302, b"", "file:///etc/passwd")
            case "/busy":
                self._send(503, b"")
            case "/huge":
                self._send(200, b"\0" * 3_000_000)
            case "/slow":
                self.hanging.wait(30)
            case _:
                self._send(404, b"")

    def _send(self, code: int, content: bytes, location: str = "", encoding: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"
    _Shop.hanging.set()
    server.shutdown()


@pytest.fixture
def settings() -> Settings:
    return Settings(
        image_allowed_hosts="localhost,127.0.0.1,169.254.169.254,*.shop.example",
        image_allow_private=True,
        image_max_bytes=1_000_000,
        image_timeout_seconds=30,
    )


async def test_a_picture_is_fetched_also_behind_a_redirect(shop: str, settings: Settings) -> None:
    assert await images.fetch(f"{shop}/picture", settings) == encoded()
    assert await images.fetch(f"{shop}/moved", settings) == encoded()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/loop", "redirects"),
        ("/inside", "inside.invalid"),
        ("/file", "only http and https"),
        ("/nowhere", "redirect to none"),
        ("/gzip", "encoded as 'gzip'"),
        ("/picture?\x00", "not a URL"),
        ("/huge", "more than 1000000 bytes"),
        ("/gone", "answers 404"),
    ],
)
async def test_what_is_refused_for_good(shop: str, settings: Settings, path: str, line: str) -> None:
    with pytest.raises(EventFault, match=line):
        await images.fetch(shop + path, settings)


@pytest.mark.parametrize("path", ["/busy", "/slow"])
async def test_what_may_answer_later(shop: str, settings: Settings, path: str) -> None:
    with pytest.raises(Parked):
        await images.fetch(shop + path, settings.model_copy(update={"image_timeout_seconds": 0.5}))


async def test_a_server_that_is_away_may_come_back(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Parked):
        await images.fetch(f"http://localhost:{port}/", settings)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://localhost/x", "private network"),
        ("http://127.0.0.1/x", "private network"),
        ("http://169.254.169.254/latest", "private network"),
        ("http://elsewhere.example/x", "not in MINDSTREAM_IMAGE_ALLOWED_HOSTS"),
        ("http://shop.example/x", "not in MINDSTREAM_IMAGE_ALLOWED_HOSTS"),
        ("http://localhost@elsewhere.example/x", "without credentials"),
        ("ftp://localhost/x", "only http and https"),
        ("http://localhost:99999/x", "not a URL"),
        ("http:///x", "not in MINDSTREAM_IMAGE_ALLOWED_HOSTS"),
    ],
)
async def test_nobody_reads_the_inside_network(settings: Settings, url: str, line: str) -> None:
    with pytest.raises(EventFault, match=line):
        await images.fetch(url, settings.model_copy(update={"image_allow_private": False}))


async def test_a_redirect_inside_is_refused_at_its_own_hop(shop: str, settings: Settings) -> None:
    # The first hop is allowed; the second is an address that only private networks have.
    with pytest.raises((EventFault, Parked)) as caught:
        await images.fetch(f"{shop}/metadata", settings.model_copy(update={"image_allowed_hosts": "localhost"}))
    assert "169.254.169.254" in str(caught.value)
    assert isinstance(caught.value, EventFault)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "192.168.1.1", "172.16.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "::1", "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::10.0.0.1", "2002:0a00:0001::",
     "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2001:0:808:808:0:0:f5ff:fffe"],
)  # fmt: skip
def test_private_addresses_are_known(address: str) -> None:
    assert not images.allowed_address(address, Settings())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"])
def test_public_addresses_are_known(address: str) -> None:
    assert images.allowed_address(address, Settings())
