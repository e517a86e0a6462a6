"""Hostile picture files, made here: nothing of the kind lies in the repository."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw, PngImagePlugin

#: What a case ends as: refused with a line that says this, or a picture of this size.
Expected = str | tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A file, and what becomes of it."""

    name: str
    content: Callable[[], bytes]
    expected: Expected
    #: Colour in the middle of the normalised picture, for those whose meaning is easily lost.
    color: tuple[int, int, int] | None = None


def saved(picture: Image.Image, format_: str, **options: object) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (60, 40), color: object = None) -> Image.Image:
    """A picture of one colour: red where none is named."""
    return Image.new(mode, size, (255, 0, 0) if color is None else color)  # type: ignore[arg-type]


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG."""
    check = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(
    width: int, height: int, *, bits: int = 8, color: int = 2, data: bytes | None = None, extra: bytes = b""
) -> bytes:
    """A PNG put together by hand; its pixels are `data`, compressed already, or zeros."""
    depth = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = -(-width * bits * depth // 8) + 1
    if data is None:
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )  # fmt: skip


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its data has."""
    whole = bytearray(saved(plain(), "JPEG"))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def gif_of_size(width: int, height: int, frame: tuple[int, int] = (60, 40)) -> bytes:
    """A GIF whose canvas and frame are of other sizes than its data."""
    whole = bytearray(saved(plain("P", color=1), "GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    place = whole.index(b"\x2c\0\0\0\0\x3c\0\x28\0")
    whole[place + 5 : place + 9] = struct.pack("<HH", *frame)
    return bytes(whole)


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is of another size than its frame."""
    whole = saved(plain(), "WEBP")
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + whole[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated(format_: str, frames: int = 3, size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    """An animation that begins red and goes on blue, slightly different each."""
    later = [plain(size=size, color=(0, n % 250, 255)) for n in range(1, frames)]
    return saved(plain(size=size), format_, save_all=True, append_images=later, **options)


def turned(orientation: int) -> bytes:
    """A JPEG with a camera's turn in its Exif."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(plain(), "JPEG", exif=exif)


def with_text(kind: str, size: int) -> bytes:
    """A PNG with a compressed text of so many bytes."""
    info = PngImagePlugin.PngInfo()
    (info.add_itxt if kind == "iTXt" else info.add_text)("Comment", "a" * size, zip=True)
    return saved(plain(), "PNG", pnginfo=info)


def transparent(mode: str) -> bytes:
    """A PNG that is transparent but for a red square in its middle."""
    picture = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((20, 10, 40, 30), fill=(255, 0, 0, 255))
    if mode == "P":
        palette = Image.new("P", (60, 40), 1)
        palette.putpalette([255, 0, 0, 0, 0, 0])
        palette.paste(0, (20, 10, 40, 30))
        return saved(palette, "PNG", transparency=1)
    return saved(picture.convert(mode), "PNG")


def nested_svg() -> bytes:
    """The "billion laughs" of XML in an SVG."""
    lines = [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)]
    return (f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a0 "ha">{"".join(lines)}]><svg>&a9;</svg>').encode()


_BIG = 10_000  # A side; its square is over the limit of 50 megapixels.


def cases() -> Iterator[Case]:
    """All of them. The limits are the settings' defaults."""
    over = "pixels; at most 50000000|decompression bomb"
    # Bombs: small files, great pictures.
    yield Case("PNG of 100 megapixels", lambda: png(_BIG, _BIG, data=zlib.compress(b"")), over)
    yield Case("PNG of 100 megapixels, 1 bit", lambda: png(_BIG, _BIG, bits=1, color=0), over)
    yield Case("JPEG of 100 megapixels", lambda: jpeg_of_size(_BIG, _BIG), over)
    yield Case("GIF of 100 megapixels", lambda: gif_of_size(_BIG, _BIG), over)
    yield Case("WebP of 100 megapixels", lambda: webp_of_size(_BIG, _BIG), "picture")
    yield Case("PNG of 2^31 pixels a side", lambda: png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"")), over)
    yield Case("PNG of no width", lambda: png(0, 40, data=zlib.compress(b"")), "picture")
    yield Case("PNG, just allowed, of zeros", lambda: png(7000, 7000, bits=8, color=0), (672, 672))
    yield Case("PNG, 16 bit with alpha, of zeros", lambda: png(5000, 4000, bits=16, color=6), (672, 538))
    yield Case("PNG of one very long row", lambda: png(49_000_000, 1, color=0), (672, 1))
    yield Case(
        "PNG, data a thousand times too long", lambda: png(60, 40, data=zlib.compress(bytes(8_000_000))), (60, 40)
    )
    yield Case("PNG, size in text beyond Pillow's limit", lambda: with_text("zTXt", 8_000_000), "picture")
    yield Case("PNG, iTXt beyond Pillow's limit", lambda: with_text("iTXt", 8_000_000), "picture")
    yield Case("PNG, large metadata", lambda: with_text("zTXt", 500_000), (60, 40))
    bomb = b"p\0\0" + zlib.compress(bytes(20_000_000), 9)
    yield Case("PNG, ICC profile that is a bomb", lambda: png(60, 40, extra=chunk(b"iCCP", bomb)), "too large")
    yield Case("PNG of 20,000 chunks", lambda: png(60, 40, extra=chunk(b"tEXt", b"k\0v") * 20_000), (60, 40))
    yield Case("GIF of 300 frames", lambda: animated("GIF", 300, (16, 16)), (16, 16), (255, 0, 0))
    yield Case("GIF whose frame is larger than its canvas", lambda: gif_of_size(10, 10), (60, 40))
    yield Case("GIF of 4 gigapixels, on a small canvas", lambda: gif_of_size(60, 40, frame=(65_535, 65_535)), over)
    yield Case("WebP whose frame is not its canvas", lambda: webp_of_size(5000, 5000), "picture")
    yield Case("gzip of a PNG", lambda: gzip.compress(saved(plain(), "PNG")), "not a picture")
    # Broken.
    yield Case("no bytes", lambda: b"", "not a picture")
    yield Case("zeros", lambda: bytes(1_000_000), "not a picture")
    yield Case("PNG signature alone", lambda: b"\x89PNG\r\n\x1a\n", "picture")
    for format_ in ("PNG", "JPEG", "WEBP", "GIF"):
        noise = Image.effect_noise((200, 200), 90).convert("RGB")
        yield Case(f"{format_} cut in half", lambda f=format_, n=noise: (w := saved(n, f))[: len(w) // 2], "picture")  # type: ignore[misc]
    yield Case("PNG, corrupt CRC of its header", lambda: _with_bad_crc(b"IHDR"), "picture")
    yield Case("PNG, data that is not zlib's", lambda: png(60, 40, data=b"\xff" * 500), "broken picture")
    yield Case("PNG, chunk longer than the file", lambda: png(60, 40)[:33] + b"\xff\xff\xff\xffIDAT", "picture")
    # Damaged, and shown by every viewer all the same.
    yield Case("PNG, corrupt CRC of its data", lambda: _with_bad_crc(b"IDAT"), (60, 40), (255, 0, 0))
    yield Case("PNG, palette missing", lambda: png(60, 40, color=3), (60, 40))
    yield Case(
        "JPEG, Huffman tables missing", lambda: saved(plain(), "JPEG").replace(b"\xff\xc4", b"\xff\xfe"), (60, 40)
    )
    yield Case("JPEG, noise in its data", lambda: _scrambled(saved(_noise(), "JPEG")), (200, 200))
    yield Case("GIF, LZW code size 255", lambda: saved(plain("P", color=1), "GIF").replace(b"\x08", b"\xff"), "picture")
    # In disguise.
    yield Case(
        "SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "not a"
    )
    yield Case("SVG, a billion laughs", nested_svg, "not a picture")
    yield Case("HTML", lambda: b"<!doctype html><script>fetch('http://169.254.169.254/')</script>", "not a picture")
    yield Case("PDF", lambda: saved(plain(), "PDF"), "not a picture")
    yield Case("EPS, which would run Ghostscript", lambda: saved(plain(), "EPS"), "not a picture")
    for format_ in ("BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000", "DDS"):
        yield Case(f"{format_}, which is not taken", lambda f=format_: saved(plain(), f), "not a picture")  # type: ignore[misc]
    yield Case("ImageMagick script", lambda: b"push graphic-context\nfill 'url(https://x/|id)'\n", "not a picture")
    # Two things in one: only the picture is read, and only a picture of our making goes on.
    yield Case("GIF that is JavaScript too", lambda: saved(plain("P", color=1), "GIF") + b"*/=1;alert(1)", (60, 40))
    yield Case("JPEG with a ZIP behind it", lambda: saved(plain(), "JPEG") + b"PK\x03\x04" + bytes(999), (60, 40))
    yield Case("PNG with PHP in its text", lambda: png(60, 40, extra=chunk(b"tEXt", b"c\0<?php 1; ?>")), (60, 40))
    # Unusual, and good.
    for format_ in ("GIF", "WEBP", "PNG"):
        yield Case(f"animated {format_}", lambda f=format_: animated(f), (60, 40), (255, 0, 0))  # type: ignore[misc]
    for orientation in range(1, 9):
        size = (60, 40) if orientation < 5 else (40, 60)
        yield Case(f"JPEG, Exif orientation {orientation}", lambda o=orientation: turned(o), size)  # type: ignore[misc]
    yield Case("JPEG, Exif orientation 99", lambda: turned(99), (60, 40))
    yield Case("JPEG, Exif of garbage", lambda: saved(plain(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 5000), (60, 40))
    yield Case("JPEG, ICC profile of garbage", lambda: saved(plain(), "JPEG", icc_profile=b"\xff" * 50_000), (60, 40))
    yield Case("JPEG, comment of 64 KB", lambda: saved(plain(), "JPEG", comment=b"x" * 65_000), (60, 40))
    yield Case("JPEG, CMYK", lambda: saved(plain("CMYK", color=(0, 255, 255, 0)), "JPEG"), (60, 40))
    yield Case("JPEG, grey", lambda: saved(plain("L", color=128), "JPEG"), (60, 40), (128, 128, 128))
    yield Case("PNG, 16 bit grey", lambda: saved(plain("I;16", color=32_768), "PNG"), (60, 40), (128, 128, 128))
    yield Case("PNG, 1 bit", lambda: saved(plain("1", color=1), "PNG"), (60, 40), (255, 255, 255))
    yield Case("PNG, palette with alpha", lambda: transparent("P"), (60, 40), (255, 0, 0))
    yield Case("PNG, grey with alpha", lambda: transparent("LA"), (60, 40), (76, 76, 76))
    yield Case("PNG, transparent", lambda: transparent("RGBA"), (60, 40), (255, 0, 0))
    yield Case("one pixel", lambda: saved(plain(size=(1, 1)), "PNG"), (1, 1))
    yield Case("one pixel high", lambda: saved(plain(size=(3000, 1)), "PNG"), (672, 1))


def _noise() -> Image.Image:
    return Image.effect_noise((200, 200), 90).convert("RGB")


def _scrambled(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes(range(250)) * 4 + whole[middle + 1000 :]


def _with_bad_crc(kind: bytes) -> bytes:
    whole = bytearray(saved(plain(), "PNG"))
    at = whole.index(kind)
    (size,) = struct.unpack(">I", whole[at - 4 : at])
    whole[at + 4 + size] ^= 0xFF
    return bytes(whole)


def many_scans(times: int) -> bytes:
    """A progressive JPEG that refines the same coefficients over and over."""
    whole = saved(Image.new("RGB", (2000, 2000), "red"), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    return whole[:-2] + scan * times + b"\xff\xd9"
