"""Damaged picture files: a picture, or a refusal; never another exception."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.extractor.normalise import FORMATS, BadPicture, normalised
from tests.extractor.pictures import encoded

WHOLE = [encoded(format_, size) for format_ in FORMATS for size in ((1, 1), (60, 40))]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture file with some bytes changed, put in, or cut off."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@given(st.binary() | damaged())
def test_any_bytes_are_a_picture_or_refused(content: bytes) -> None:
    try:
        made = normalised(content, 1_000_000, 64)
    except BadPicture:
        return
    with Image.open(io.BytesIO(made)) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert max(picture.size) <= 64
