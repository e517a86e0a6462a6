"""Pictures made one kind. A process of its own: a picture that breaks, fills or hangs its decoder takes nothing along.

Run by services/extractor/decoders.py, which speaks to it over its standard input and output. It imports nothing of
ours, so that it starts in a tenth of a second and holds no more than Pillow.
"""

from __future__ import annotations

import contextlib
import io
import math
import resource
import signal
import struct
import sys
import warnings
from typing import BinaryIO

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
#: Before what is sent, either way: its length in bytes.
LENGTH = struct.Struct(">I")
#: Single bytes that the process says: it waits for a picture (so it has come up), has taken one, has made it, refuses
#: it. What follows the last two is the picture, or one line for people.
READY, TAKEN, MADE, REFUSED = b"r", b"t", b"m", b"x"
#: Rows of the reduced picture that are made at once.
_STRIP = 64


class BadPicture(Exception):
    """No picture of ours; one line says why."""


def normalised(content: bytes, max_pixels: int, side: int) -> bytes:
    """A picture as everything behind the extractor knows it: upright RGB, first frame, `side` at the most, PNG.

    Raises:
        BadPicture: of more than `max_pixels`, of another format, or broken.
        MemoryError: it needs more than there is.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit below is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                if opened.width * opened.height > max_pixels:
                    raise BadPicture(f"picture of {opened.width}x{opened.height} pixels; at most {max_pixels}")
                opened.draft("RGB", (side, side))
                picture = reduced(opened, 2 * side)
        ImageOps.exif_transpose(picture, in_place=True)
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()
    except UnidentifiedImageError:
        raise BadPicture(f"not a picture in {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadPicture(f"broken picture: {' '.join(str(error).split())[:150]}") from None


def reduced(opened: Image.Image, side: int) -> Image.Image:
    """The picture in RGB on white, made smaller by a whole factor but not below `side`; its turn is still to be undone.

    Strip by strip: beside the decoded picture, which may have hundreds of megabytes, there is never a second one.
    """
    factor = max(1, max(opened.size) // side)
    width, height = opened.size
    made = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, _STRIP * factor):
        strip = opened.crop((0, top, width, min(height, top + _STRIP * factor)))
        made.paste(_on_white(strip).reduce(factor), (0, top // factor))
    made.getexif()[ExifTags.Base.Orientation] = opened.getexif().get(ExifTags.Base.Orientation, 1)
    return made


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow else cuts off at 255.
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGB", layer.size, (255, 255, 255))
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _answer(content: bytes, max_pixels: int, side: int) -> tuple[bytes, bytes]:
    try:
        return MADE, normalised(content, max_pixels, side)
    except BadPicture as bad:
        line = str(bad)
    except MemoryError:
        line = "picture needs more memory than one of its size may"
    except Exception as error:  # Pillow's plugins raise whatever their parsing stumbles over.
        line = f"broken picture: {type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return REFUSED, line.encode("utf-8", "backslashreplace")


def _limit(what: int, most: int) -> None:
    """Lower a limit of this process; where the system has none, as macOS for memory, it stays."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _used_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(source: BinaryIO, sink: BinaryIO, max_pixels: int, side: int, memory: int, seconds: int) -> None:
    """Answer pictures until `source` ends, each within `memory` bytes and `seconds` of CPU time (then SIGXCPU)."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    sink.write(READY)
    sink.flush()
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        content = source.read(LENGTH.unpack(head)[0])
        sink.write(TAKEN)
        sink.flush()
        _limit(resource.RLIMIT_CPU, math.ceil(_used_seconds()) + seconds)
        kind, answer = _answer(content, max_pixels, side)
        sink.write(kind + LENGTH.pack(len(answer)) + answer)
        sink.flush()


if __name__ == "__main__":
    # Ctrl-C reaches the terminal's whole process group; the worker ends this process when it has drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):  # The worker was killed.
        serve(sys.stdin.buffer, sys.stdout.buffer, *(int(number) for number in sys.argv[1:]))
