"""Pictures as the model sees them."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

#: Width of the bar between two stacked pictures, as a share of the wider one.
_BAR = 0.03


def opened(content: bytes) -> Image.Image:
    """A normalised picture of the media store.

    Raises:
        OSError: not a picture.
    """
    return Image.open(io.BytesIO(content)).convert("RGB")


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one above the other at the same width, with a dark bar between (MIND, section 3.3)."""
    width = max(picture.width for picture in pictures)
    scaled = [p.resize((width, max(1, round(p.height * width / p.width))), Image.Resampling.BICUBIC) for p in pictures]
    bar = max(1, round(width * _BAR))
    sheet = Image.new("RGB", (width, sum(p.height for p in scaled) + bar * (len(scaled) - 1)), (32, 32, 32))
    top = 0
    for picture in scaled:
        sheet.paste(picture, (0, top))
        top += picture.height + bar
    return sheet
