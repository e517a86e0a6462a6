"""Write the sample that `mindstream demo` feeds: `python -m models.demo.sample`.

A part of the made-up shop that the model was not taught on: brands are of the held-out words, and every picture is
drawn anew. Orders follow goals, with some that follow none.
"""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.demo import SAMPLE, shop, words
from models.demo.shop import Product

_SEED, _ORDERS, _CUSTOMERS = 7, 260, 120
_GOALS = ("birds", "camping", "baking", "cycling", "painting", "coffee", "dog", "repair")
_PER_GOAL = 5
_SIDE = 160


def products() -> list[tuple[str, Product]]:
    """The sample's products, each with the goal that it was chosen for."""
    rng = random.Random(_SEED)
    found: list[tuple[str, Product]] = []
    for goal in _GOALS:
        # A kind that serves several goals of the sample is in it once.
        kinds = [kind for kind in shop.kinds_of(goal) if kind not in {product.kind for _, product in found}]
        found += [(goal, _readable(rng, kind)) for kind in rng.sample(kinds, _PER_GOAL)]
    return found


def _readable(rng: random.Random, kind: shop.Kind) -> Product:
    """A product of a made-up brand whose title has no other word of chance in it."""
    while True:
        made = shop.product(rng, "held-out", kind)
        told = f"{made.kind.name} {made.count} {made.colour} {made.pattern} {made.material}"
        known = {*re.findall(r"[a-z]+", told), "set", "kit", made.brand, *" ".join(shop.ADJECTIVES).split()}
        odd = {word for word in re.findall(r"[a-z0-9]+", made.title.lower()) if word.isalpha()} - known
        if not odd and not made.size and made.brand not in words.english("held-out"):
            return made


def write(folder: Path) -> None:
    """products.jsonl with its pictures, and purchases.jsonl; the same every time."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    goals: dict[str, list[str]] = {}
    rows = []
    for number, (goal, product) in enumerate(products()):
        row = {"product_id": f"S{number:03d}", "title": product.title}
        # Some shops have products without a picture, and so has this one.
        if number % 8 != 7:
            row["image"] = f"pictures/{row['product_id']}.png"
            product.picture(_SIDE).quantize(64).save(folder / row["image"], optimize=True)
        rows.append(row)
        goals.setdefault(goal, []).append(row["product_id"])
    _write(folder / "products.jsonl", rows)
    _write(folder / "purchases.jsonl", _purchases(goals))


def _purchases(goals: dict[str, list[str]]) -> list[dict[str, object]]:
    rng = random.Random(_SEED)
    at = datetime(2026, 3, 1, 8, tzinfo=UTC)
    orders: list[dict[str, object]] = []
    everything = [product for listed in goals.values() for product in listed]
    for number in range(_ORDERS):
        at += timedelta(minutes=rng.randint(20, 240))
        chance = rng.random()
        if chance < 0.8:
            bought = rng.sample(goals[rng.choice(_GOALS)], rng.choice((2, 2, 3)))
        else:
            bought = rng.sample(everything, 1 if chance < 0.92 else 2)
        orders.append({
            "order_id": f"O{number:04d}",
            "customer_id": f"C{rng.randrange(_CUSTOMERS):03d}",
            "occurred_at": at.isoformat(),
            "items": bought,
        })  # fmt: skip
    return orders


def _write(file: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    write(SAMPLE)
