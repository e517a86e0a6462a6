"""Small releases without a KB: real shards, a real manifest, pictures in a media store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from models.demo import shop
from models.demo.shop import Pair
from services.common import choices, datasets
from services.common.media import MediaStore
from services.kb_sink.release.shards import Shards, digests
from services.kb_sink.release.splits import split_of
from services.kb_sink.release.tasks import SCHEMAS
from training.shop import pairs

PHRASE = "they are both used for"


def release(folder: Path, media: MediaStore, train: int = 8, test: int = 4) -> dict[str, Pair]:
    """Write a release of so many pairs in `folder`, with a row of each kind a pair; the pairs."""
    made = pairs(0, {"train": train, "test": test})
    entries = []
    for config, schema in SCHEMAS.items():
        for split in ("train", "test"):
            chosen = [item for item in made.items() if _split(item[0]) == split]
            shards = Shards(folder, config, split, schema)
            rows = [row for number, item in enumerate(chosen) if (row := _row(config, number, *item, media))]
            shards.write([{**dict.fromkeys(schema.names), **row} for row in rows])
            if rows:
                entries.append(shards.close())
    (folder / "README.md").write_text("A release for tests.\n")
    manifest: dict[str, Any] = {"settings": {"split": "product"}, "splits": entries, "files": digests(folder)}
    manifest["release_id"] = f"20260101T000000Z-{datasets.fingerprint(manifest)}"
    (folder / datasets.MANIFEST).write_bytes(datasets.to_json(manifest, indent=1))
    return made


def _split(pair_id: str) -> str:
    return split_of(pair_id.split("|")[0])


def _row(config: str, number: int, pair_id: str, pair: Pair, media: MediaStore) -> dict[str, Any]:
    a, b = pair_id.split("|")
    ids = {"id": f"{config}/{pair_id}", "pair_id": pair_id, "product_a": a, "product_b": b}
    images = [_stored(product, media) for product in (pair.a, pair.b) if product.pictured]
    text = f"{PHRASE} {pair.a.kind.name} {number} of {_split(pair_id)}"
    if config == "features":
        ids = {"id": ids["id"], "product_id": a}
        return {**ids, "messages": _asked("Describe it.", pair.a.kind.name), "image_digests": images[:1]}
    if config in ("generation", "judgement"):
        answer = f"Because {text}." if config == "generation" else "Yes"
        return {**ids, "messages": _asked(f"{pair.a.title}: why?", answer), "text": text, "relation": "UsedFor",
                "image_digests": images}  # fmt: skip
    if config == "preference":
        return {}
    options = [f"because of {word} {number}" for word in ("this", "that", "nothing", "all")]
    question = choices.understand(pair.a.title, pair.b.title)
    return {**ids, "messages": _asked(choices.listed(question, options), "ABCD"[number % 4]), "options": options,
            "answer": "ABCD"[number % 4], "difficulty": ("easy", "medium", "hard")[number % 3]}  # fmt: skip


def _asked(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _stored(product: shop.Product, media: MediaStore) -> str:
    file = io.BytesIO()
    product.picture().save(file, "PNG")
    return media.put(file.getvalue())
