"""The 20 relations, one table: the only place that names them or holds their phrases.

MIND (arXiv 2406.10701, section 3.3) takes its relations from FolkScope (arXiv 2211.08316), which takes them from
ConceptNet; the names are theirs. `phrase` begins the sentence that an intention completes; the sentence's subject is
the two products ("they"), their buyer ("the customer") or the event.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One relation."""

    name: str
    phrase: str


RELATIONS = (
    Relation("RelatedTo", "they are both related to"),
    Relation("IsA", "they are both a kind of"),
    Relation("PartOf", "they are both a part of"),
    Relation("MadeOf", "they are both made of"),
    Relation("SimilarTo", "they are both similar to"),
    Relation("CreatedBy", "they are both created by"),
    Relation("HasProperty", "they both have the property of being"),
    Relation("HasA", "they both have"),
    Relation("DistinctFrom", "they are both distinct from"),
    Relation("DerivedFrom", "they are both derived from"),
    Relation("DefinedAs", "they are both defined as"),
    Relation("SymbolOf", "they are both a symbol of"),
    Relation("MannerOf", "they are both a manner of"),
    Relation("UsedFor", "they are both used for"),
    Relation("CapableOf", "they are both capable of"),
    Relation("Cause", "the customer wants to cause"),
    Relation("Result", "as a result, the customer"),
    Relation("CauseDesire", "they make the customer want to"),
    Relation("MotivatedByGoal", "the customer is motivated by the goal to"),
    Relation("Open", "the customer"),
)

BY_NAME = {relation.name: relation for relation in RELATIONS}
#: Where each stands in the table, by its name.
PLACES = {relation.name: place for place, relation in enumerate(RELATIONS)}


def sentence(relation: str, text: str) -> str:
    """An intention as a sentence: the relation's phrase and the text that completes it."""
    return f"{BY_NAME[relation].phrase} {text}".strip()
