"""Pictures as the model sees them: whole, whatever the processor crops."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from services.lvlm.pictures import opened, stacked


def content(width: int, height: int, color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(40, 10), (10, 40), (20, 20)])
def test_a_picture_is_in_the_middle_of_a_square(width: int, height: int) -> None:
    picture = opened(content(width, height), 10_000)
    side = max(width, height)
    assert picture.size == (side, side)
    reds = [(x, y) for x in range(side) for y in range(side) if picture.getpixel((x, y)) == (255, 0, 0)]
    assert len(reds) == width * height
    assert reds[0] == ((side - width) // 2, (side - height) // 2)


def test_stacked_pictures_are_whole_in_a_square() -> None:
    sheet = stacked([Image.new("RGB", (60, 60), "red"), Image.new("RGB", (120, 120), "blue")])
    assert sheet.width == sheet.height
    middle = [sheet.getpixel((sheet.width // 2, y)) for y in range(sheet.height)]
    assert middle[0] == (255, 0, 0)
    assert middle[-1] == (0, 0, 255)
    # A dark bar keeps them apart.
    assert (32, 32, 32) in middle
    assert middle.index((255, 0, 0)) < middle.index((32, 32, 32)) < middle.index((0, 0, 255))


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(OSError, match="more than 99"):
        opened(content(10, 10), 99)
