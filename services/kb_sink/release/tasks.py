"""Rows of each dataset configuration. Pure, and the same for the same intentions.

Columns are those that TRL and `datasets` know: `messages` for supervised fine-tuning, `prompt`, `chosen` and `rejected`
for preferences. Pictures go by their digest in the media store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from services.common import choices
from services.common.leaks import text_key
from services.common.relations import BY_NAME
from services.kb_sink.release.distractors import LEVELS, WRONG, Option, Pool
from services.kb_sink.release.snapshot import Row
from services.kb_sink.release.splits import digest, draw

_LETTERS = choices.LETTERS[: WRONG + 1]

_MESSAGE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TEXT, _TEXTS, _NUMBER, _COUNT = pa.string(), pa.list_(pa.string()), pa.float64(), pa.int64()
_PAIR = [("pair_id", _TEXT), ("product_a", _TEXT), ("product_b", _TEXT)]
_IMAGES = ("image_digests", _TEXTS)
#: The intention as a sentence.
_SAID = ("text", _TEXT)
_CHOICE = pa.schema(
    [
        ("id", _TEXT), ("messages", _MESSAGE), ("options", _TEXTS), ("answer", _TEXT), ("difficulty", _TEXT),
        ("likeness", pa.list_(_NUMBER)), ("relation", _TEXT), ("score", _NUMBER), *_PAIR,
    ]
)  # fmt: skip
#: Each configuration's columns, said once: a split that is empty of something has the same.
SCHEMAS = {
    "features": pa.schema(
        [("id", _TEXT), ("messages", _MESSAGE), _IMAGES, ("product_id", _TEXT), ("model", _TEXT), ("prompt", _TEXT)]
    ),
    "generation": pa.schema(
        [("id", _TEXT), ("messages", _MESSAGE), _SAID, ("relation", _TEXT), ("score", _NUMBER), _IMAGES, *_PAIR]
    ),
    "judgement": pa.schema(
        [
            ("id", _TEXT), ("messages", _MESSAGE), _SAID, ("relation", _TEXT), ("score", _NUMBER),
            ("accepted", pa.bool_()), ("people_up", _COUNT), ("people_down", _COUNT), _IMAGES, *_PAIR,
        ]
    ),
    "preference": pa.schema(
        [
            ("id", _TEXT), ("prompt", _MESSAGE), ("chosen", _MESSAGE), ("rejected", _MESSAGE), ("relation", _TEXT),
            ("score_chosen", _NUMBER), ("score_rejected", _NUMBER), _IMAGES, *_PAIR,
        ]
    ),
    "intent-understand": _CHOICE,
    "intent-utilize": _CHOICE,
}  # fmt: skip


def features(product: Row) -> dict[str, Any] | None:
    """What is seen of a product, from its picture and title; None where nothing was said."""
    said = [product["description"].strip()]
    said += [
        f"{name}: {'; '.join(product[key])}."
        for name, key in (("Features", "features"), ("Uses", "uses"))
        if product[key]
    ]
    answer = "\n".join(filter(None, said))
    if not answer:
        return None
    question = f"Product: {product['title']}\nDescribe it, then say what it has and what it is used for."
    return {
        "id": "/".join(product[key] for key in ("product_id", "content_digest", "model_version", "prompt_version")),
        "messages": [_user(question), _assistant(answer)],
        "image_digests": [product["image_digest"]] if product["image_digest"] else [],
        "product_id": product["product_id"],
        "model": product["model_version"],
        "prompt": product["prompt_version"],
    }


def generation(kept: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Why are these two bought together, under this relation?"""
    for row in kept:
        yield {
            "id": row["intention_id"],
            "messages": [_user(_why(row)), _assistant(f"Because {row['sentence']}.")],
            "text": row["sentence"],
            **_judged(row),
        }


def judgement(judged: Iterable[tuple[Row, bool]]) -> Iterator[dict[str, Any]]:
    """Is this why a customer buys these two? Kept and rejected ones, with the filter's P(yes) and people's verdicts."""
    for row, accepted in judged:
        question = (
            f"{_products(row)}\nIs this a reason to buy them together: because {row['sentence']}? Answer yes or no."
        )
        yield {
            "id": row["intention_id"],
            "messages": [_user(question), _assistant("Yes" if accepted else "No")],
            "text": row["sentence"],
            "accepted": accepted,
            "people_up": row["people_up"],
            "people_down": row["people_down"],
            **_judged(row),
        }


def preference(kept: Sequence[Row], rejected: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Of one pair and relation the best that was kept against the worst that was rejected, where there are both."""
    for relation in sorted({row["relation"] for row in kept} & {row["relation"] for row in rejected}):
        best = max((row for row in kept if row["relation"] == relation), key=_rank)
        worst = min((row for row in rejected if row["relation"] == relation), key=_rank)
        if text_key(best["text"]) == text_key(worst["text"]):
            continue
        judged = _judged(best)
        yield {
            "id": digest("preference", best["intention_id"], worst["intention_id"])[:32],
            "prompt": [_user(_why(best))],
            "chosen": [_assistant(f"Because {best['sentence']}.")],
            "rejected": [_assistant(f"Because {worst['sentence']}.")],
            "score_chosen": judged.pop("score"),
            "score_rejected": worst["score"],
            **judged,
        }


def understand_option(row: Row) -> Option:
    """An intention as an option."""
    return Option(f"because {row['sentence']}", frozenset((row["product_a"], row["product_b"])))


def utilize_option(row: Row) -> Option:
    """A pair's second product as an option."""
    return Option(row["title_b"], frozenset((row["product_a"], row["product_b"])))


def understand(kept: Sequence[Row], pool: Pool) -> Iterator[dict[str, Any]]:
    """Which intention is this pair's? (IntentionQA, arXiv 2406.10173, task 1.) Distractors are other pairs'."""

    def question(row: Row) -> str:
        return choices.understand(row["title_a"], row["title_b"])

    right = _texts_by_pair(kept, lambda row: f"because {row['sentence']}")
    also = [right[row["pair_id"]] for row in kept]
    yield from _choices("understand", kept, [understand_option(row) for row in kept], also, pool, question)


def utilize(kept: Sequence[Row], pool: Pool) -> Iterator[dict[str, Any]]:
    """Which product goes with this one for this intention? (IntentionQA, task 2.) Distractors are other pairs'."""

    def question(row: Row) -> str:
        return choices.utilize(row["title_a"], f"because {row['sentence']}")

    also = [frozenset((text_key(row["title_a"]), text_key(row["title_b"]))) for row in kept]
    yield from _choices("utilize", kept, [utilize_option(row) for row in kept], also, pool, question)


def _choices(
    task: str, kept: Sequence[Row], right: Sequence[Option], also: Sequence[frozenset[int]], pool: Pool, question: Any
) -> Iterator[dict[str, Any]]:
    drawn = [draw(task, row["intention_id"]) for row in kept]
    levels = [LEVELS[number % len(LEVELS)] for number in drawn]
    for row, option, number, level, wrong in zip(
        kept, right, drawn, levels, pool.choose(right, levels, also), strict=True
    ):
        if wrong is None:
            continue
        place = number // len(LEVELS) % len(_LETTERS)
        options = [*wrong[0][:place], option.text, *wrong[0][place:]]
        yield {
            "id": row["intention_id"],
            "messages": [_user(choices.listed(question(row), options)), _assistant(_LETTERS[place])],
            "options": options,
            "answer": _LETTERS[place],
            "difficulty": level,
            "likeness": wrong[1],
            "relation": row["relation"],
            "score": row["score"],
            **_pair(row),
        }


def _texts_by_pair(kept: Sequence[Row], text: Any) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for row in kept:
        found.setdefault(row["pair_id"], set()).add(text_key(text(row)))
    return {pair: frozenset(keys) for pair, keys in found.items()}


def _products(row: Row) -> str:
    return (
        "A customer bought these two products together.\n"
        f"First product: {row['title_a']}\nSecond product: {row['title_b']}"
    )


def _why(row: Row) -> str:
    return f"{_products(row)}\nWhy? Begin with: because {BY_NAME[row['relation']].phrase}"


def _judged(row: Row) -> dict[str, Any]:
    return {
        "relation": row["relation"],
        "score": row["score"],
        "image_digests": [one for one in (row["image_a"], row["image_b"]) if one],
        **_pair(row),
    }


def _pair(row: Row) -> dict[str, Any]:
    return {"pair_id": row["pair_id"], "product_a": row["product_a"], "product_b": row["product_b"]}


def _rank(row: Row) -> tuple[float, str]:
    return row["score"], row["intention_id"]


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
