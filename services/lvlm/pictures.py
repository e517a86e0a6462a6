"""Pictures as the model sees them."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

#: Width of the bar between two stacked pictures, as a share of the wider one.
_BAR = 0.03
#: CLIP's mean colour, with which LLaVA's own training pads.
_PADDING = (122, 116, 104)


def opened(content: bytes, most_pixels: int) -> Image.Image:
    """A normalised picture of the media store.

    Raises:
        OSError: not a picture, a broken one, or one whose square has more pixels.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        if max(picture.size) ** 2 > most_pixels:
            raise OSError(f"{picture.width}x{picture.height} makes a square of more than {most_pixels} pixels")
        return _squared(picture.convert("RGB"))
    except OSError:
        raise
    except Exception as error:
        # A broken file can fail anywhere in Pillow, with any error.
        raise OSError(str(error)) from None


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one above the other at the same width, with a dark bar between (MIND, section 3.3); a square."""
    width = max(picture.width for picture in pictures)
    scaled = [p.resize((width, max(1, round(p.height * width / p.width))), Image.Resampling.BICUBIC) for p in pictures]
    bar = max(1, round(width * _BAR))
    sheet = Image.new("RGB", (width, sum(p.height for p in scaled) + bar * (len(scaled) - 1)), (32, 32, 32))
    top = 0
    for picture in scaled:
        sheet.paste(picture, (0, top))
        top += picture.height + bar
    return _squared(sheet)


def _squared(picture: Image.Image) -> Image.Image:
    """The picture in the middle of a square: CLIP's preprocessing crops what sticks out of its central square."""
    side = max(picture.size)
    if picture.width == picture.height:
        return picture
    square = Image.new("RGB", (side, side), _PADDING)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
