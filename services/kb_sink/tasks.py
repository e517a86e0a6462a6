"""Rows of each dataset configuration, made from accepted intentions. Pure, and the same for the same intentions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from services.common.relations import BY_NAME

#: Share of pairs per split, out of 100.
_VALIDATION, _TEST = 10, 10
_LETTERS = "ABCD"
#: Rows looked at for three distractors, so that a large KB costs no square.
_MOST_TRIES = 1000


def split_of(pair_id: str) -> str:
    """The split of a pair: all of a pair's rows are in one."""
    place = int(_hash("split", pair_id), 16) % 100
    return "test" if place < _TEST else "validation" if place < _TEST + _VALIDATION else "train"


def generation(kept: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Chat rows for supervised fine-tuning: why are these two bought together, under this relation?"""
    for row in kept:
        question = (
            f"A customer bought these two products together.\nFirst product: {row['title_a']}\n"
            f"Second product: {row['title_b']}\nWhy? Begin with: because {BY_NAME[row['relation']].phrase}"
        )
        yield {
            "id": row["intention_id"],
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"Because {row['sentence']}."},
            ],
            "relation": row["relation"],
            "score": row["score"],
            "image_digests": [digest for digest in (row["image_a"], row["image_b"]) if digest],
            **_pair(row),
        }


def understand(kept: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Which intention is this pair's? (IntentionQA, arXiv 2406.10173, task 1.) Distractors are other pairs'."""
    for row in kept:
        right = f"because {row['sentence']}"
        wrong = _distractors(row, kept, lambda other: f"because {other['sentence']}", right)
        if wrong:
            products = f"{row['title_a']} and {row['title_b']}"
            question = f"A customer buys {products}. What is the most likely intention for buying them?"
            yield _choice(row, "understand", question, right, wrong)


def utilize(kept: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Which product goes with this one for this intention? (IntentionQA, task 2.) Distractors are other pairs'."""
    for row in kept:
        right = row["title_b"]
        wrong = _distractors(row, kept, lambda other: other["title_b"], right, row["title_a"])
        if wrong:
            question = (
                f"A customer buys {row['title_a']} because {row['sentence']}. "
                "What other product might the customer buy for the same reason?"
            )
            yield _choice(row, "utilize", question, right, wrong)


_MESSAGES = ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
_COMMON = [("relation", pa.string()), ("score", pa.float64())]
_PAIR = [(name, pa.string()) for name in ("pair_id", "product_a", "product_b")]
_GENERATION = pa.schema([("id", pa.string()), _MESSAGES, *_COMMON, ("image_digests", pa.list_(pa.string())), *_PAIR])
_CHOICE = pa.schema(
    [("id", pa.string()), _MESSAGES, ("options", pa.list_(pa.string())), ("answer", pa.string()), *_COMMON, *_PAIR]
)
#: Each configuration's rows and their columns, said once: a split that is empty of something has the same columns.
CONFIGS = {
    "generation": (generation, _GENERATION),
    "intent-understand": (understand, _CHOICE),
    "intent-utilize": (utilize, _CHOICE),
}


def _distractors(row: dict[str, Any], kept: Sequence[dict[str, Any]], text: Any, *excluded: str) -> list[str]:
    """Three other texts of pairs in the same split that share no product with this one, chosen by hash.

    Of the same split, so that no text of a test pair is seen in training.
    """
    own, split = {row["product_a"], row["product_b"]}, split_of(row["pair_id"])
    found: dict[str, None] = {}
    start = int(_hash("distractors", row["intention_id"]), 16) % len(kept)
    for step in range(min(len(kept), _MOST_TRIES)):
        other = kept[(start + step * 7919) % len(kept)]
        if own & {other["product_a"], other["product_b"]} or split_of(other["pair_id"]) != split:
            continue
        if text(other) not in excluded:
            found[text(other)] = None
        if len(found) == len(_LETTERS) - 1:
            return list(found)
    return []


def _choice(row: dict[str, Any], task: str, question: str, right: str, wrong: list[str]) -> dict[str, Any]:
    place = int(_hash(task, row["intention_id"]), 16) % len(_LETTERS)
    options = [*wrong[:place], right, *wrong[place:]]
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(_LETTERS, options, strict=True))
    return {
        "id": row["intention_id"],
        "messages": [
            {"role": "user", "content": f"{question}\n{listed}\nAnswer with the letter only."},
            {"role": "assistant", "content": _LETTERS[place]},
        ],
        "options": options,
        "answer": _LETTERS[place],
        "relation": row["relation"],
        "score": row["score"],
        **_pair(row),
    }


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("pair_id", "product_a", "product_b")}


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
