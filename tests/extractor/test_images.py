"""Pictures from a real HTTP server: what is taken, what is refused, and what may come later."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from services.common.errors import EventFault, Parked
from services.common.settings import Settings
from services.extractor import images


def encoded(format_: str = "PNG", size: tuple[int, int] = (60, 40), color: object = "red", **options: object) -> bytes:
    file = io.BytesIO()
    mode = "RGBA" if isinstance(color, tuple) and len(color) == 4 else "RGB"
    Image.new(mode, size, color).save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()


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
            case "/not-gzip":
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
        ("/not-gzip", "not encoded as it says"),
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


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
def test_normalised_is_a_bounded_png_and_the_same_again(format_: str) -> None:
    settings = Settings(image_side=32)
    made = images.normalised(encoded(format_, (300, 100)), settings)
    assert made == images.normalised(encoded(format_, (300, 100)), settings)
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 11))


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(images.normalised(file.getvalue(), Settings()))) as picture:
        assert picture.getpixel((5, 5)) == (255, 0, 0)


def test_transparency_is_white_and_the_camera_s_turn_is_undone() -> None:
    with Image.open(io.BytesIO(images.normalised(encoded(color=(0, 0, 0, 0)), Settings()))) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation: a quarter turn.
    with Image.open(io.BytesIO(images.normalised(encoded("JPEG", (60, 40), exif=turned), Settings()))) as picture:
        assert picture.size == (40, 60)


_MEASURE = """
import sys
from services.common.settings import Settings
from services.extractor.images import normalised
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
small, large = open(sys.argv[1], "rb").read(), sys.stdin.buffer.read()
normalised(small, Settings())
before = peak()
normalised(large, Settings())
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_transparent_picture_is_held_once(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    small.write_bytes(encoded(color=(1, 2, 3, 4)))
    large = encoded(size=(4000, 4000), color=(255, 0, 0, 128))
    command = [sys.executable, "-c", _MEASURE, str(small)]
    grown = float(subprocess.run(command, input=large, stdout=subprocess.PIPE, check=True).stdout)
    assert 55 < grown < 90  # Once it is 61 MiB: 16 million pixels of 4 bytes.


@pytest.mark.parametrize(("size", "factor"), [((3000, 1999), 22), ((1000, 130), 7), ((131, 64), 1), ((64, 5000), 39)])
def test_strips_leave_no_seam(size: tuple[int, int], factor: int) -> None:
    gradient = Image.linear_gradient("L").resize(size).convert("RGB")
    assert images._reduced(gradient, max(size) // factor).tobytes() == gradient.reduce(factor).tobytes()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a picture"),
        (b"<svg/>", "not a picture"),
        (encoded("BMP"), "not a picture"),
        (encoded("PNG", (600, 400))[:200], "broken picture"),
        (encoded("PNG", (4000, 3000)), "4000x3000 pixels"),
        (encoded("JPEG", (4000, 3000)), "4000x3000 pixels"),
    ],
)
def test_what_is_no_usable_picture(content: bytes, line: str) -> None:
    with pytest.raises(EventFault, match=line):
        images.normalised(content, Settings(image_max_pixels=1_000_000))


def test_too_many_bytes() -> None:
    with pytest.raises(EventFault, match="at most 10"):
        images.normalised(encoded(), Settings(image_max_bytes=10))
