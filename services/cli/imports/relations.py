"""Others' relations as ours, in one table.

FolkScope (arXiv 2211.08316) asks a language model to go on after a phrase for each of its relations; IntentionQA
(arXiv 2406.10173) took its assertions from there, and names no relation in most of its files. MIND (arXiv 2406.10701)
asks for a text that begins with such a phrase, behind an opening of its own. A relation becomes the one of ours whose
phrase says the same, which is not always the one of the same name: "the person wants to" is a goal of ours. Our own
names are taken too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from services.common.records import invalid
from services.common.relations import BY_NAME

#: How FolkScope's assertions and MIND's intentions begin. A vision-language model keeps to what it was asked for more
#: or less: "The potential co-buy intention for these two could be that …".
_OPENING = re.compile(
    "PersonX bought a product of Item A and a product of Item B |"
    r"the potential (?:co-buy )?intention\b[^.:]{0,100}? (?:(?:could|would|may|might|can) be|is):? (?:that )?",
    re.IGNORECASE,
)
#: What stands before most phrases, and may be missing.
_BECAUSE = "because "
#: What follows on "bought them" without it.
_PURPOSE = ("to ", "for ")
#: In the place of a relation, where a file holds all of them.
_ANY = frozenset({"", "all", "other"})


class Theirs(NamedTuple):
    """A relation of theirs, the phrase that their model was asked to go on after, and what it is here."""

    name: str
    #: Without the "because" before it.
    phrase: str
    ours: str
    #: What must stand before their text, so that it completes our phrase.
    lead: str = ""


TABLE = (
    Theirs("relatedTo", "they both are related to", "RelatedTo"),
    Theirs("isA", "they both are a type of", "IsA"),
    Theirs("partOf", "they both are a part of", "PartOf"),
    Theirs("madeOf", "they both are made of", "MadeOf"),
    Theirs("similarTo", "they both are similar to", "SimilarTo"),
    Theirs("createdBy", "they are created by", "CreatedBy"),
    Theirs("hasA", "they both have", "HasA"),
    Theirs("propertyOf", "they both have a property of being", "HasProperty"),
    Theirs("propertyOf", "they both have a property of", "HasProperty"),
    Theirs("propertOf", "they both have a property of", "HasProperty"),
    Theirs("other", "they both are", "HasProperty"),
    Theirs("distinctFrom", "they are distinct from", "DistinctFrom"),
    Theirs("deriveFrom", "they are derived from", "DerivedFrom"),
    Theirs("definedAs", "they both are defined as", "DefinedAs"),
    Theirs("symbolOf", "they both are symbols of", "SymbolOf"),
    Theirs("mannerOf", "they both are a manner of", "MannerOf"),
    Theirs("usedFor", "they are both used for", "UsedFor"),
    Theirs("capableOf", "they both are capable of", "CapableOf"),
    Theirs("can", "they could both be", "CapableOf", "being"),
    Theirs("can", "they could both", "CapableOf"),
    Theirs("can", "they both can be", "CapableOf", "being"),
    Theirs("can", "they both can", "CapableOf"),
    Theirs("effect", "as a result, the person", "Result"),
    Theirs("effect", "they both have an effect of", "Result", "gets an effect of"),
    Theirs("cause", "the person wants to", "MotivatedByGoal"),
    Theirs("causeEffect", "the person wants", "Cause"),
    Theirs("causeDesire", "the person wants", "Cause"),
    Theirs("motivatedBy", "and buying them was motivated by", "MotivatedByGoal"),
)
_OURS = {**{name: name for name in BY_NAME}, **{one.name: one.ours for one in TABLE}, "open": "Open"}
#: The longest phrase first: "wants to" before "wants".
_BY_PHRASE = sorted(TABLE, key=lambda one: -len(one.phrase))


def ours(relation: str, text: str) -> tuple[str, str]:
    """Our relation, and the text that completes its phrase.

    A text that does not begin with a phrase of its relation is taken to be what completes it. Where no relation is
    named, the phrase tells it; one that is of no relation's phrase, but opens as theirs do, is `Open`.

    Raises:
        EventFault: the relation is unknown.
    """
    named = None if relation in _ANY else _OURS.get(relation)
    if named is None and relation not in _ANY:
        raise invalid(f"unknown relation {relation[:40]!r}")
    opening = _OPENING.match(text)
    said = text[opening.end() :] if opening else text
    rest = said.removeprefix(_BECAUSE)
    for one in _BY_PHRASE:
        end = len(one.phrase)
        if rest[: end + 1].lower() == one.phrase + " " and named in (None, one.ours):
            return one.ours, " ".join([one.lead, rest[end:].strip()]).strip()
    if rest != text and named in (None, "Open"):
        return "Open", f"bought them {rest if rest.startswith(_PURPOSE) else _BECAUSE + rest}"
    if named is None:
        raise invalid(f"no relation is named, and the text begins like none: {text[:60]!r}")
    return named, rest
