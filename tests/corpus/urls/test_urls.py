"""Hostile picture URLs, directly and behind a redirect: no connection ever goes where it may not."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

import pytest

from services.common.errors import EventFault, Parked
from services.common.settings import Settings
from services.extractor.images import fetch
from tests.corpus.images.files import plain, saved
from tests.corpus.table import seen
from tests.corpus.urls.hosts import NAMES, SHOP, URLS

PICTURE = saved(plain(), "PNG")


class _Server(BaseHTTPRequestHandler):
    """Gives the picture; under /to/ it redirects to whatever the path says."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/to/"):
            place = unquote(self.path[4:]).encode("utf-8", "surrogatepass")
            self.wfile.write(b"HTTP/1.0 302 Found\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PICTURE)))
        self.end_headers()
        self.wfile.write(PICTURE)

    def log_message(self, format: str, *args: object) -> None: ...


@dataclass
class Network:
    """The shop's server behind its public address, one inside on loopback, a resolver, and who was connected to."""

    shop: ThreadingHTTPServer
    inside: ThreadingHTTPServer
    #: Addresses of attempts to connect, before anything was sent.
    tried: list[str] = field(default_factory=list)
    looked_up: Counter[str] = field(default_factory=Counter)

    def resolve(self, host: str, port: int, *_: object, **options: object) -> list[object]:
        """As `socket.getaddrinfo`, and never beyond this process: numbers in any notation are the C library's."""
        name = host.encode("idna").decode().rstrip(".").lower()
        if name not in NAMES:
            return _getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)  # type: ignore[return-value]
        answers = NAMES[name]
        answer = answers[min(self.looked_up[name], len(answers) - 1)]
        self.looked_up[name] += 1
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer
        ]

    def connect(self, own: socket.socket, address: tuple[str, int]) -> None:
        """As `socket.connect`: the shop's public address leads to its server here, loopback where it says."""
        self.tried.append(address[0])
        if address[0] == SHOP:
            address = self.shop.server_address[:2]  # type: ignore[assignment]
        elif not address[0].startswith("127.") and address[0] != "::1":
            raise OSError(101, "unreachable from a test")
        _connect(own, address)


_getaddrinfo, _connect = socket.getaddrinfo, socket.socket.connect


def _served() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.daemon_threads = True
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ThreadingHTTPServer, ThreadingHTTPServer]]:
    made = _served(), _served()
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def network(servers: tuple[ThreadingHTTPServer, ThreadingHTTPServer], monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(*servers)
    monkeypatch.setattr(socket, "getaddrinfo", made.resolve)
    monkeypatch.setattr(socket.socket, "connect", lambda own, address: made.connect(own, address))
    return made


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def outcome(url: str, allowed: str) -> tuple[str, str]:
    """picture, refused or later; and what is said."""
    settings = Settings(image_allowed_hosts=allowed, image_timeout_seconds=20)
    try:
        return ("picture" if await fetch(url, settings) == PICTURE else "something else"), ""
    except EventFault as fault:
        line = str(fault)
        found = "refused"
    except Parked as parked:
        line = str(parked)
        found = "later"
    assert len(line.splitlines()) == 1
    return found, line.encode("utf-8", "backslashreplace").decode()


def test_there_are_enough() -> None:
    assert len(URLS) >= 60


@pytest.mark.parametrize("name", URLS)
async def test_a_url_leads_nowhere_inside(network: Network, name: str) -> None:
    template, expected = URLS[name]
    url = template.replace("{inside}", str(network.inside.server_address[1]))
    # Where the shop alone is allowed, and where somebody has allowed the host itself.
    careful, careless = "shop.example,*.shop.example", f"shop.example,*.shop.example,{_host(url)}"
    found, line = await outcome(url, careless)
    ways = {"directly": found, "the shop alone": (await outcome(url, careful))[0]}
    redirect = "http://shop.example/to/" + quote(url.encode("utf-8", "surrogatepass"), safe="")
    for allowed in (careful, careless) if len(redirect) < 60_000 and not {"\r", "\n"} & set(url) else ():
        network.looked_up.clear()
        ways[f"redirected, {allowed}"] = (await outcome(redirect, allowed))[0]
    inside = [address for address in network.tried if address != SHOP]
    seen("urls", name, expected, f"{found}; {len(inside)} connections inside {line[:80]!r}")
    assert inside == []
    assert network.inside.asked == []  # type: ignore[attr-defined]
    assert found in expected.split("|"), line
    assert set(ways.values()) <= {"picture", "refused", "later"}
    if found != "picture":
        assert ways["the shop alone"] != "picture"


async def test_this_network_would_notice(network: Network) -> None:
    """The same, where private addresses are allowed: they are reached, and that is seen."""
    port = network.inside.server_address[1]
    settings = Settings(image_allowed_hosts="loopback.example", image_allow_private=True)
    try:
        assert await fetch(f"http://loopback.example:{port}/x.png", settings) == PICTURE
        assert network.tried == ["127.0.0.1"]
        assert network.inside.asked == ["/x.png"]  # type: ignore[attr-defined]
    finally:
        network.inside.asked.clear()  # type: ignore[attr-defined]
