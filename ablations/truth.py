"""What is true of a pair of the made-up shop, whichever of its reasons a model names."""

from __future__ import annotations

from dataclasses import replace

from models.demo import lessons
from models.demo.shop import Pair, goals

#: The departments of the shop, and the goals (models/demo/goals.toml) whose things stand there.
DEPARTMENTS = {
    "outdoors": ("birds", "camping", "hiking", "fishing", "beach"),
    "sport": ("cycling", "running", "yoga", "gym", "swimming"),
    "kitchen": ("baking", "coffee", "tea", "grilling"),
    "crafts": ("painting", "drawing", "sewing", "knitting"),
    "house": ("garden", "repair", "walls", "cleaning", "car"),
    "family": ("baby", "dog", "cat", "party", "school"),
    "leisure": ("travel", "photo", "office", "gaming", "music", "reading"),
}
UNHEARD_OF = "unheard of"
_DEPARTMENT_OF = {goal: name for name, listed in DEPARTMENTS.items() for goal in listed}


def department(pair: Pair) -> str:
    """Where a pair stands: by its goal, else by the first of its products that the shop knows."""
    if pair.goal:
        return _DEPARTMENT_OF[pair.goal.name]
    known = [product.kind.goals[0] for product in (pair.a, pair.b) if product.kind.goals]
    return _DEPARTMENT_OF[known[0]] if known else UNHEARD_OF


def readings(pair: Pair) -> list[Pair]:
    """The pair under each reason that is true of it: every goal that both its kinds serve."""
    shared = [name for name in pair.a.kind.goals if name in pair.b.kind.goals]
    return [replace(pair, goal=goals()[name]) for name in shared] if pair.goal else [pair]


def fits(pair: Pair, relation: str) -> bool:
    """Whether anything is true of the pair under the relation."""
    return lessons.intention(pair, relation) != lessons.NOTHING


def names_reason(pair: Pair, relation: str, text: str) -> bool:
    """Whether a text names a true reason, in whatever words (the model card's measure)."""
    return any(
        fits(made, relation) and any(words in text for words in lessons.key(made, relation)) for made in readings(pair)
    )


def word_for_word(pair: Pair, relation: str, text: str) -> bool:
    """Whether a text is the truth to the letter: a product's miscopied name is enough to spoil it."""
    return text != lessons.NOTHING and any(text == lessons.intention(made, relation) for made in readings(pair))


def text_only(pair: Pair) -> Pair:
    """The pair without its pictures; what these alone showed is then shown nowhere."""
    return replace(pair, a=replace(pair.a, pictured=False), b=replace(pair.b, pictured=False))


def pictures_tell(pair: Pair) -> bool:
    """Whether both products have a picture, and a look in common that their titles do not tell."""
    told = lessons.intention(text_only(pair), "HasProperty")
    return pair.a.pictured and pair.b.pictured and lessons.intention(pair, "HasProperty") != told
