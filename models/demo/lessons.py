"""What the model is taught to say of the shop: features, intentions and judgements, each made from the truth."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from mindstream.inference.v1.common_pb2 import ProductView

from models.demo import pictures, words
from models.demo.shop import ORIGINS, Pair, Product, goals, pair, unknown_kind
from models.demo.words import Part
from services.common.relations import RELATIONS

#: The honest answer where a relation does not fit; its judgement is no.
NOTHING = "(nothing fits)"


class _Texts(NamedTuple):
    """How a relation is completed, by what ties the pair; empty: it does not fit."""

    goal: str
    topic: str
    same: str
    apart: str


# `a` and `b` are the products' kinds, `both` names them together; the other slots are Goal's fields and the topic.
TEMPLATES = {
    "RelatedTo": _Texts("{ing}", "{topic}", "the {a}", "the {a} and the {b}"),
    "IsA": _Texts("{gear}", "{topic} gear", "{a}", ""),
    "PartOf": _Texts("a kit for {ing}", "a set for {topic}", "", ""),
    "HasA": _Texts("a use in {ing}", "a use in {topic}", "", ""),
    "DefinedAs": _Texts("things for {ing}", "things for {topic}", "{a}", ""),
    "SymbolOf": _Texts("{symbol}", "a love of {topic}", "", ""),
    "MannerOf": _Texts("getting ready for {ing}", "getting ready for {topic}", "", ""),
    "UsedFor": _Texts("{ing} with {both}", "{topic}, with {both}", "using the {a}", "using the {a} with the {b}"),
    "CapableOf": _Texts("helping to {do}", "helping with {topic}", "", "going with each other, the {a} and the {b}"),
    "Cause": _Texts("{want}", "better {topic}", "", ""),
    "Result": _Texts("{result}", "knows more about {topic}", "has more than one {a}", "uses the {a} with the {b}"),
    "CauseDesire": _Texts("{do}", "try more {topic}", "use the {a}", "use the {a}"),
    "MotivatedByGoal": _Texts("{do}", "get into {topic}", "never run out of the {a}", "get more out of the {a}"),
    "Open": _Texts("wants to {do} with {both}", "is into {topic}", "likes the {a}", "needs the {b} for the {a}"),
}


def description(product: Product) -> str:
    """One sentence; what neither title nor picture shows is left out, and a missing picture is said."""
    known = [getattr(product, name) for name in ("pattern", "colour", "material") if name in product.seen]
    text = " ".join([*known, product.kind.name, "by", product.brand])
    return text + "." if product.pictured else text + ". no picture."


def features(product: Product) -> list[str]:
    """Features as a list; an unseen colour is said to be so."""
    known = [getattr(product, name) for name in ("colour", "pattern", "material") if name in product.seen]
    if "colour" not in product.seen:
        known.insert(0, "colour not shown")
    return [*known, *product.adjectives, *(value for value in (product.size, product.count) if value)]


def uses(product: Product) -> list[str]:
    """What a buyer does with it."""
    if product.kind.goals:
        return [goals()[name].ing for name in product.kind.goals]
    return [product.purpose or f"use as {product.kind.name}"]


def view(product: Product) -> ProductView:
    """The product as the generator and the filter are shown it, without its picture."""
    return ProductView(
        title=product.title, description=description(product), features=features(product), uses=uses(product)
    )


def intention(made: Pair, relation: str) -> str:
    """What completes the relation's phrase for the pair, or NOTHING."""
    a, b = made.a, made.b
    shared = [name for name in _shared(made) if name in a.seen & b.seen]
    material = a.material if a.material == b.material and "material" in a.seen & b.seen else ""
    if relation == "HasProperty":
        return " and ".join(getattr(a, name) for name in shared) or NOTHING
    if relation == "MadeOf":
        return material or NOTHING
    if relation == "DerivedFrom":
        return ORIGINS.get(material, NOTHING)
    if relation == "CreatedBy":
        return a.brand if a.brand == b.brand else NOTHING
    if relation == "SimilarTo":
        return f"any other {a.kind.name}" if a.kind == b.kind else NOTHING
    if made.tie == "unrelated" or relation not in TEMPLATES:
        return NOTHING
    texts = TEMPLATES[relation]
    template = texts.goal if made.goal else getattr(texts, made.tie)
    if made.tie == "same" and relation in ("IsA", "DefinedAs"):
        template = texts.same
    both = f"the {a.kind.name}" if a.kind == b.kind else f"the {a.kind.name} and the {b.kind.name}"
    slots = {"a": a.kind.name, "b": b.kind.name, "both": both, "topic": made.topic}
    return template.format(**slots, **(made.goal.__dict__ if made.goal else {})) or NOTHING


def _shared(made: Pair) -> list[str]:
    """What both products' looks have in common, seen or not; being plain is no property."""
    names = ["colour"] if made.a.colour == made.b.colour else []
    return names + (["pattern"] if made.a.pattern == made.b.pattern != "plain" else [])


def key(made: Pair, relation: str) -> tuple[str, ...]:
    """The words of which an answer must have one, to name the true reason of a relation that fits."""
    text = intention(made, relation)
    if made.goal and relation in TEMPLATES and text not in (made.a.kind.name,):
        goal = made.goal
        return goal.ing, goal.do, goal.gear, goal.want, goal.symbol, goal.result
    if made.topic and relation in TEMPLATES:
        return (made.topic,)
    if made.tie in ("apart", "same") and relation in TEMPLATES:
        return made.a.kind.name, made.b.kind.name
    return (text,)


@cache
def _form(relation: str) -> re.Pattern[str]:
    slot = r"[^ ,()][^,()]{0,60}"
    phrases = {
        field: "|".join(re.escape(getattr(goal, field)) for goal in goals().values())
        for field in ("ing", "do", "result", "gear", "want", "symbol")
    }
    forms = [re.escape(NOTHING)]
    for template in TEMPLATES.get(relation, ()):
        parts = re.split(r"{(\w+)}", template)
        forms.append("".join(
            f"(?:{phrases.get(part, slot)})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts)
        ))  # fmt: skip
    if relation == "HasProperty":
        colour, pattern = "|".join(pictures.COLOURS), "|".join(pictures.PATTERNS)
        forms += [f"(?:{colour})(?: and (?:{pattern}))?", f"(?:{pattern})"]
    elif relation in ("MadeOf", "CreatedBy", "SimilarTo"):
        forms.append(("any other " if relation == "SimilarTo" else "") + slot)
    elif relation == "DerivedFrom":
        forms += ORIGINS.values()
    return re.compile("|".join(form for form in forms if form))


def well_formed(relation: str, text: str) -> bool:
    """Whether a text completes the relation's phrase in one of the ways that were taught."""
    return _form(relation).fullmatch(text) is not None


class Judgement(NamedTuple):
    """A candidate and whether the customer says yes to it."""

    relation: str
    text: str
    good: bool


def judgements(rng: random.Random, part: Part, made: Pair, most: int) -> list[Judgement]:
    """Good and bad candidates of the pair, about as many of each, shuffled."""
    truths = {relation.name: intention(made, relation.name) for relation in RELATIONS}
    good = [Judgement(name, text, True) for name, text in truths.items() if text != NOTHING]
    rng.shuffle(good)
    good = good[: most // 2]
    bad: list[Judgement] = []
    others = [pair(rng, part) for _ in range(3)]
    while len(bad) < most - len(good):
        relation = rng.choice(RELATIONS).name
        text = _bad(rng, part, made, relation, rng.choice(others))
        if text and text != truths[relation]:
            bad.append(Judgement(relation, text, False))
    both = good + bad
    rng.shuffle(both)
    return both


def _bad(rng: random.Random, part: Part, made: Pair, relation: str, other: Pair) -> str:
    """A candidate that is not true of the pair, in one of the ways that models go wrong; empty: none came up."""
    way = rng.random()
    if way < 0.1:
        return NOTHING
    if way < 0.35:
        return intention(other, relation).replace(NOTHING, "")
    if relation == "HasProperty":
        return (
            rng.choice([*pictures.COLOURS, *pictures.PATTERNS[1:], made.a.colour, made.b.colour])
            if not _shared(made)
            else ""
        )
    if relation in ("MadeOf", "DerivedFrom"):
        claimed = rng.choice([made.a.material, made.b.material, rng.choice(list(ORIGINS))])
        return claimed if relation == "MadeOf" else ORIGINS.get(claimed, "")
    if relation == "CreatedBy":
        return rng.choice([made.a.brand, made.b.brand, words.brand(rng, part).lower()])
    if relation == "SimilarTo":
        return f"any other {rng.choice([made.a, made.b, other.a]).kind.name}"
    if relation not in TEMPLATES:
        return rng.choice([made.a, made.b, other.a]).kind.name
    return _twisted(rng, part, made, relation)


def _twisted(rng: random.Random, part: Part, made: Pair, relation: str) -> str:
    """The pair's own text with one thing wrong: another goal, a topic or a kind that neither title names."""
    one_sided = [name for product in (made.a, made.b) for name in product.kind.goals
                 if made.goal is None or name != made.goal.name]  # fmt: skip
    shared = set(made.a.kind.goals) & set(made.b.kind.goals)
    one_sided = [name for name in one_sided if name not in shared]
    if made.goal or made.tie == "unrelated":
        names = one_sided if one_sided and rng.random() < 0.6 else [n for n in goals() if n not in shared]
        wrong = Pair(made.a, made.b, "goal", goals()[rng.choice(names)])
    elif made.topic:
        if one_sided and rng.random() < 0.3:
            wrong = Pair(made.a, made.b, "goal", goals()[rng.choice(one_sided)])
        else:
            word = words.garbled(rng, made.topic) if rng.random() < 0.4 else words.unknown(rng, part)
            wrong = Pair(made.a, made.b, "topic", None, word)
    else:
        # A kind that neither product is, or the name of the first one miscopied.
        kind = unknown_kind(rng, part)
        if rng.random() < 0.4:
            kind = replace(kind, name=words.garbled(rng, made.a.kind.name))
        stranger = replace(made.a, kind=kind)
        wrong = Pair(stranger, made.b, "apart") if rng.random() < 0.5 else Pair(made.a, stranger, "apart")
    return intention(wrong, relation).replace(NOTHING, "")
