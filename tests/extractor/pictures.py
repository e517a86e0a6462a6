"""Picture files for the extractor's tests."""

from __future__ import annotations

import io

from PIL import Image


def encoded(format_: str = "PNG", size: tuple[int, int] = (60, 40), color: object = "red", **options: object) -> bytes:
    file = io.BytesIO()
    mode = "RGBA" if isinstance(color, tuple) and len(color) == 4 else "RGB"
    Image.new(mode, size, color).save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()
