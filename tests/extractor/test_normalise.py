"""Picture files of all kinds made one kind, or refused."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from services.extractor import normalise
from services.extractor.normalise import BadPicture
from tests.extractor.pictures import encoded


def normalised(content: bytes, max_pixels: int = 50_000_000, side: int = 672) -> bytes:
    return normalise.normalised(content, max_pixels, side)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
def test_normalised_is_a_bounded_png_and_the_same_again(format_: str) -> None:
    made = normalised(encoded(format_, (300, 100)), side=32)
    assert made == normalised(encoded(format_, (300, 100)), side=32)
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 11))


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(normalised(file.getvalue()))) as picture:
        assert picture.getpixel((5, 5)) == (255, 0, 0)


def test_transparency_is_white_and_the_camera_s_turn_is_undone() -> None:
    with Image.open(io.BytesIO(normalised(encoded(color=(0, 0, 0, 0))))) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation: a quarter turn.
    with Image.open(io.BytesIO(normalised(encoded("JPEG", (60, 40), exif=turned)))) as picture:
        assert picture.size == (40, 60)


_MEASURE = """
import sys
from services.extractor.normalise import normalised
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
small, large = open(sys.argv[1], "rb").read(), sys.stdin.buffer.read()
normalised(small, 50_000_000, 672)
before = peak()
normalised(large, 50_000_000, 672)
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
    assert normalise.reduced(gradient, max(size) // factor).tobytes() == gradient.reduce(factor).tobytes()


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
    with pytest.raises(BadPicture, match=line):
        normalised(content, max_pixels=1_000_000)
