"""Deterministic ids: the same input has the same id in every run, so that writing twice writes once."""

from __future__ import annotations

import hashlib


def content_digest(title: str, image_digest: str) -> str:
    """What a product is to the model: "sha256:…" over its title and picture."""
    return "sha256:" + _hash(title, image_digest)


def intention_id(pair_id: str, relation: str, model_version: str, prompt_version: str, sample: int) -> str:
    """Primary key of an intention in the KB, 32 hex digits."""
    return _hash(pair_id, relation, model_version, prompt_version, str(sample))[:32]


def imported_id(pair_id: str, relation: str, source: str, text: str) -> str:
    """Primary key of an intention that came ready-made from `source`: the same row is the same intention."""
    return _hash("imported", pair_id, relation, source, text)[:32]


def share(*parts: str) -> float:
    """A number from 0 to below 1 that texts decide, for choices that are the same in every process."""
    return int(_hash(*parts)[:13], 16) / 16**13  # 52 bits: what a float holds exactly.


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        # Each part with its length, so that no two lists of parts look alike.
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
