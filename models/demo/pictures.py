"""Product pictures: a silhouette of the kind, filled with its colour and pattern, on a light background."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw, ImageFilter

COLOURS = {
    "red": (205, 30, 35),
    "orange": (245, 130, 20),
    "yellow": (245, 215, 40),
    "green": (40, 150, 55),
    "teal": (15, 155, 155),
    "blue": (35, 75, 205),
    "purple": (120, 45, 160),
    "pink": (245, 130, 180),
    "brown": (115, 70, 35),
    "black": (25, 25, 28),
    "white": (248, 248, 245),
    "grey": (135, 135, 138),
}
PATTERNS = ("plain", "striped", "dotted", "checked")

#: Pixels of a drawing's side; silhouettes are drawn on a grid of 100.
SIDE = 96
_Draw = Callable[[ImageDraw.ImageDraw], None]


def _parts(*parts: tuple[str, tuple[int, ...]]) -> _Draw:
    """Parts by name: `r` a rounded box, `e` an ellipse, `p` a polygon; holes: `x` an ellipse, `h` a box."""

    def draw(d: ImageDraw.ImageDraw) -> None:
        for what, at in parts:
            if what == "p":
                d.polygon(at, fill=255)
            elif what in "ex":
                d.ellipse(at, fill=255 if what == "e" else 0)
            else:
                d.rounded_rectangle(at, radius=5, fill=255 if what == "r" else 0)

    return draw


SHAPES: dict[str, _Draw] = {
    "bag": _parts(("e", (28, 8, 72, 60)), ("x", (36, 16, 64, 60)), ("r", (16, 34, 84, 92))),
    "ball": _parts(("e", (14, 14, 86, 86))),
    "board": _parts(("p", (24, 22, 96, 22, 76, 78, 4, 78))),
    "book": _parts(("r", (22, 10, 80, 90)), ("h", (28, 80, 80, 84))),
    "bottle": _parts(("r", (42, 6, 58, 30)), ("e", (30, 22, 70, 56)), ("r", (30, 38, 70, 94))),
    "box": _parts(
        ("p", (10, 36, 26, 16, 92, 16, 76, 36)), ("p", (79, 38, 92, 20, 92, 70, 79, 88)), ("r", (10, 39, 76, 88)),
    ),
    "brush": _parts(("r", (44, 4, 56, 58)), ("r", (22, 54, 78, 66)), ("p", (24, 69, 76, 69, 84, 94, 16, 94))),
    "cable": _parts(
        ("e", (8, 26, 60, 78)), ("x", (19, 37, 49, 67)), ("e", (40, 26, 92, 78)), ("x", (51, 37, 81, 67)),
        ("r", (4, 44, 14, 60)), ("r", (86, 44, 97, 60)),
    ),
    "chair": _parts(
        ("r", (18, 38, 82, 52)), ("p", (22, 52, 32, 52, 20, 95, 10, 95)), ("p", (68, 52, 78, 52, 90, 95, 80, 95)),
        ("r", (45, 52, 55, 95)), ("r", (24, 26, 76, 38)),
    ),
    "cup": _parts(("e", (58, 34, 94, 72)), ("x", (66, 42, 86, 64)), ("p", (14, 22, 76, 22, 68, 86, 22, 86))),
    "glove": _parts(
        ("r", (30, 44, 72, 94)), ("r", (30, 16, 39, 56)), ("r", (41, 8, 50, 56)), ("r", (52, 10, 61, 56)),
        ("r", (63, 18, 72, 56)), ("p", (72, 62, 90, 40, 96, 48, 74, 84)),
    ),
    "hat": _parts(("e", (24, 18, 76, 88)), ("h", (0, 64, 100, 100)), ("e", (4, 56, 96, 76))),
    "lamp": _parts(("p", (36, 8, 64, 8, 84, 46, 16, 46)), ("r", (46, 46, 54, 84)), ("r", (28, 82, 72, 94))),
    "mat": _parts(("r", (8, 34, 78, 90)), ("e", (62, 12, 96, 46)), ("r", (8, 12, 80, 40)), ("x", (72, 22, 86, 36))),
    "optics": _parts(
        ("e", (4, 32, 46, 74)), ("x", (14, 42, 36, 64)), ("e", (54, 32, 96, 74)), ("x", (64, 42, 86, 64)),
        ("r", (42, 44, 58, 56)),
    ),
    "pan": _parts(("e", (4, 26, 66, 78)), ("r", (60, 46, 98, 58))),
    "pot": _parts(
        ("r", (20, 34, 80, 88)), ("r", (4, 42, 24, 52)), ("r", (76, 42, 96, 52)), ("r", (14, 26, 86, 36)),
        ("e", (42, 12, 58, 28)),
    ),
    "ring": _parts(("e", (12, 12, 88, 88)), ("x", (34, 34, 66, 66))),
    "sheet": _parts(("p", (20, 8, 64, 8, 82, 26, 82, 94, 20, 94)), ("h", (30, 40, 70, 44)), ("h", (30, 56, 70, 60))),
    "shirt": _parts(
        ("r", (28, 20, 72, 92)), ("p", (30, 20, 30, 50, 6, 56, 2, 38)), ("p", (70, 20, 70, 50, 94, 56, 98, 38)),
        ("x", (40, 10, 60, 32)),
    ),
    "shoe": _parts(("r", (14, 16, 50, 80)), ("e", (14, 46, 96, 94)), ("h", (0, 84, 100, 88))),
    "sock": _parts(("r", (30, 6, 62, 66)), ("e", (30, 52, 92, 92)), ("h", (30, 18, 62, 21))),
    "stick": _parts(("p", (4, 74, 70, 4, 90, 22, 24, 94)), ("p", (40, 96, 88, 50, 98, 62, 56, 99))),
    "tent": _parts(("p", (50, 10, 97, 88, 3, 88)), ("h", (47, 60, 53, 88))),
    "tool": _parts(("r", (42, 40, 58, 96)), ("p", (22, 12, 70, 8, 82, 26, 76, 40, 22, 40))),
    "tube": _parts(("r", (32, 18, 68, 92)), ("e", (32, 6, 68, 30)), ("h", (32, 32, 68, 35))),
    "wheel": _parts(
        ("e", (6, 6, 94, 94)), ("x", (26, 26, 74, 74)), ("r", (47, 14, 53, 86)), ("r", (14, 47, 86, 53)),
        ("e", (40, 40, 60, 60)),
    ),
}  # fmt: skip


def draw(shape: str, colour: str, pattern: str, seed: int, side: int = SIDE) -> Image.Image:
    """The picture of a product, `side` pixels square; size, place, tilt and background vary with the seed."""
    rng = random.Random(seed)
    mask = Image.new("L", (100, 100), 0)
    SHAPES[shape](ImageDraw.Draw(mask))
    big = round(side * rng.uniform(0.78, 0.96))
    mask = mask.resize((big, big), Image.Resampling.BILINEAR).rotate(
        rng.uniform(-10, 10), Image.Resampling.BILINEAR, expand=False
    )
    placed = Image.new("L", (side, side), 0)
    placed.paste(mask, (rng.randint(0, side - big), rng.randint(0, side - big)))
    light = rng.randint(205, 228)
    backdrop = (light + rng.randint(-8, 8), light + rng.randint(-8, 8), light + rng.randint(-8, 8))
    picture = Image.new("RGB", (side, side), backdrop)
    # A dark edge keeps a white product on a light background apart from it.
    edge = ImageChops.subtract(placed.filter(ImageFilter.MaxFilter(3)), placed.filter(ImageFilter.MinFilter(3)))
    picture.paste(_filled(colour, pattern, rng, side), (0, 0), placed)
    picture.paste((60, 60, 64), (0, 0), edge.point([level // 2 for level in range(256)]))
    return picture


def _filled(colour: str, pattern: str, rng: random.Random, side: int) -> Image.Image:
    shade = rng.uniform(0.9, 1.08)
    main = _times(COLOURS[colour], shade)
    # The second colour is a shade of the first, so that a pattern never makes the colour a question.
    second = _times(main, 0.45) if sum(main) > 380 else _mixed(main, 0.6)
    sheet = Image.new("RGB", (side, side), main)
    pen = ImageDraw.Draw(sheet)
    step = round(side / rng.uniform(4.5, 5.5))
    if pattern == "striped":
        for top in range(rng.randint(-step, 0), side, step):
            pen.rectangle((0, top, side, top + step // 2), fill=second)
    elif pattern == "dotted":
        radius = step * 0.3
        for row, top in enumerate(range(0, side + step, step)):
            for left in range((row % 2) * step // 2, side + step, step):
                pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=second)
    elif pattern == "checked":
        for row, top in enumerate(range(0, side, step)):
            for left in range((row % 2) * step, side, 2 * step):
                pen.rectangle((left, top, left + step - 1, top + step - 1), fill=second)
    return sheet


def _times(colour: tuple[int, ...], factor: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def _mixed(colour: tuple[int, ...], white: float) -> tuple[int, int, int]:
    red, green, blue = (round(channel * (1 - white) + 255 * white) for channel in colour)
    return red, green, blue
