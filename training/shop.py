"""The experiment's shop: the made-up one, its words unknown to the demo model, as large as a release needs.

A strict release keeps a pair whose products are in one split, which is two pairs in three, and nearly all of those in
train. Here pairs are numbered so that every one is kept, as many for each split as are asked for: which split a product
is in follows from its id alone, so nothing else about a pair depends on it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

from models.demo import shop
from models.demo.shop import Pair
from services.common.pairs import pair_id
from services.kb_sink.release.splits import split_of


def pairs(seed: int, counts: Mapping[str, int]) -> dict[str, Pair]:
    """By pair id, as many pairs of each split as `counts` says, and why they are bought together."""
    rng, left = random.Random(f"experiment/{seed}"), dict(counts)
    found: dict[str, Pair] = {}
    for a, b in _ids():
        if not any(left.values()):
            return found
        split = split_of(a)
        if split == split_of(b) and left.get(split):
            left[split] -= 1
            found[pair_id(a, b)] = shop.pair(rng, "held-out")
    raise AssertionError("ids never end")


def _ids() -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        yield f"E{number:06d}a", f"E{number:06d}b"
        number += 1


def write(folder: Path, made: Mapping[str, Pair]) -> None:
    """products.jsonl with pictures beside it, and cobuys.jsonl: what `mindstream demo` reads."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    products, cobuys = [], []
    for key, pair in made.items():
        ids = key.split("|")
        for product_id, product in zip(ids, (pair.a, pair.b), strict=True):
            row = {"product_id": product_id, "title": product.title}
            if product.pictured:
                row["image"] = f"pictures/{product_id}.png"
                product.picture().save(folder / row["image"])
            products.append(row)
        cobuys.append({"product_a": ids[0], "product_b": ids[1]})
    for name, rows in (("products", products), ("cobuys", cobuys)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
