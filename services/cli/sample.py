"""The sample of `mindstream demo`: a small made-up shop with drawn pictures, and purchases with reasons behind them."""

from __future__ import annotations

import io
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

#: Goals, and what people buy for them: (title, colour of the drawn picture).
_GOALS = {
    "birding": [
        ("Larkfield 10x42 Waterproof Binoculars, Olive", "olive"),
        ("Larkfield Neoprene Harness Strap for Binoculars", "black"),
        ("Pocket Guide to Garden Birds, Spiral Bound", "skyblue"),
        ("Hidewell Folding Stool with Shoulder Strap, Green", "green"),
    ],
    "camping": [
        ("Norrhem 2-Person Dome Tent, Orange", "orange"),
        ("Norrhem Self-Inflating Sleeping Mat, Grey", "gray"),
        ("Glimt 300 Lumen LED Camping Lantern, Red", "red"),
        ("Kettla Compact Gas Stove with Piezo Ignition", "silver"),
    ],
    "baking": [
        ("Ovnia 24 cm Springform Cake Tin, Non-Stick", "dimgray"),
        ("Ovnia Silicone Spatula Set, 3 Pieces, Teal", "teal"),
        ("Brightcrumb Digital Kitchen Scale 5 kg, White", "white"),
        ("Brightcrumb Parchment Paper Sheets, 100 Count", "tan"),
    ],
    "cycling": [
        ("Velopont Rechargeable Bike Light Set, Front and Rear", "yellow"),
        ("Velopont 700c Puncture-Proof Tyre, Black", "black"),
        ("Kedjan Chain Cleaning Brush and Degreaser", "blue"),
        ("Velopont Adult Helmet with Visor, Medium, Blue", "navy"),
    ],
    "drawing": [
        ("Grafix Sketchbook A4, 120 Pages, Hardcover", "maroon"),
        ("Grafix Graphite Pencils 6B-4H, Set of 12", "gold"),
        ("Stubb Kneadable Erasers, Pack of 4, Grey", "slategray"),
        ("Arklet Adjustable Desk Lamp with Clamp, White", "white"),
    ],
    "garden": [
        ("Rotfast Stainless Steel Hand Trowel, Ash Handle", "peru"),
        ("Rotfast Thorn-Proof Gloves, Size 8, Green", "darkgreen"),
        ("Seedly Peat-Free Starter Trays, 60 Cells", "saddlebrown"),
        ("Dripla Drip Irrigation Kit, 15 m, Black", "black"),
    ],
}
_ORDERS, _SEED, _SIDE = 120, 11, 96


def write_sample(folder: Path) -> tuple[Path, Path]:
    """Write products.jsonl (pictures beside it) and purchases.jsonl; the same files every time."""
    products = [(goal, title, colour) for goal, listed in _GOALS.items() for title, colour in listed]
    ids = {title: f"S{number:03d}" for number, (_, title, _) in enumerate(products)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "products.jsonl").open("w") as file:
        for number, (_, title, colour) in enumerate(products):
            row = {"product_id": ids[title], "title": title}
            # Some shops have products without a picture, and so has this one.
            if number % 8 != 7:
                row["image"] = f"{ids[title]}.png"
                (folder / row["image"]).write_bytes(_picture(number, colour))
            file.write(json.dumps(row) + "\n")
    chance = random.Random(_SEED)
    at = datetime(2026, 3, 1, 8, tzinfo=UTC)
    with (folder / "purchases.jsonl").open("w") as file:
        for number in range(_ORDERS):
            at += timedelta(minutes=chance.randint(5, 90))
            goal = chance.choice(list(_GOALS))
            bought = chance.sample([title for title, _ in _GOALS[goal]], chance.randint(1, 3))
            order = {
                "order_id": f"O{number:04d}",
                "customer_id": f"C{chance.randint(0, 39):02d}",
                "occurred_at": at.isoformat(),
                "items": [ids[title] for title in bought],
            }
            file.write(json.dumps(order) + "\n")
    return folder / "products.jsonl", folder / "purchases.jsonl"


def _picture(number: int, colour: str) -> bytes:
    """A shape in the product's colour on a light ground."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_SIDE, _SIDE), (238, 236, 230))
    draw = ImageDraw.Draw(picture)
    corners = [(18, 18), (_SIDE - 18, _SIDE - 18)]
    shapes: list[Any] = [draw.ellipse, draw.rectangle, draw.rounded_rectangle]
    shapes[number % len(shapes)](corners, fill=colour, outline="black")
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
