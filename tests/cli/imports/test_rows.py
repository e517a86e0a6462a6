"""Rows of the collections: a message that its stage takes, or a reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.intention_pb2 import VERDICT_ACCEPTED, CandidateIntentions, JudgedIntentions

from services.cli.common import InputError
from services.cli.imports import amazon
from services.cli.imports.intentions import SOURCES, Maker, Parser
from services.cli.imports.relations import TABLE, ours
from services.common.errors import EventFault
from services.common.pairs import pair_id
from services.common.records import Record
from services.common.relations import BY_NAME, sentence
from services.common.views import checked
from services.kb_sink.rows import rows

ROW_2018 = {
    "asin": "B01",
    "title": "Boot, 6&quot;",
    "imageURL": [],
    "imageURLHighRes": ["https://images.example/1.jpg", "https://images.example/2.jpg"],
    "also_buy": ["B02", "B03"],
    "price": "",
}
ROW_2023 = {
    "parent_asin": "B01",
    "title": "Boot",
    "images": [
        {"variant": "PT01", "large": "https://images.example/pt.jpg"},
        {"variant": "MAIN", "hi_res": None, "large": "https://images.example/main.jpg"},
    ],
    "bought_together": None,
}
ASSERTION = "PersonX bought a product of Item A and a product of Item B "
ROW_FOLKSCOPE = {
    "item_a_id": "B02",
    "item_b_id": "B01",
    "item_a_name": "A lens",
    "item_b_name": "A tripod",
    "relation": "usedFor",
    "assertion": ASSERTION + "because they are both used for birds.",
    "typicality": 0.8,
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
_LONG = st.just("x" * 100_000)


def spoiled(row: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The row with some fields gone, and some of any other value."""
    return st.tuples(
        st.sets(st.sampled_from(sorted(row))), st.dictionaries(st.sampled_from(sorted(row)), _JSON | _LONG)
    ).map(lambda change: {**{name: value for name, value in row.items() if name not in change[0]}, **change[1]})


@given(spoiled(ROW_2018), spoiled(ROW_2023))
def test_any_catalogue_row_is_a_product_or_refused(old: dict[str, Any], new: dict[str, Any]) -> None:
    for parse, row in ((amazon.of_2018, old), (amazon.of_2023, new)):
        try:
            listed = parse(row, 2000)
        except EventFault:
            continue
        assert 0 < len(listed.product.title) <= 2000
        assert listed.product.product_id in (row.get("asin"), row.get("parent_asin"))
        for other in listed.also:
            pair_id(listed.product.product_id, other).encode()


def test_a_product_has_its_title_picture_and_co_buys() -> None:
    product, also = amazon.of_2018(ROW_2018, 2000)
    assert (product.product_id, product.title, also) == ("B01", 'Boot, 6"', ["B02", "B03"])
    assert product.image.url == "https://images.example/1.jpg"
    product, also = amazon.of_2023(ROW_2023, 2000)
    assert (product.image.url, also) == ("https://images.example/main.jpg", [])
    assert not amazon.of_2018({"asin": "B01", "title": "t", "imageURL": ""}, 2000).product.HasField("image")
    assert (
        amazon.of_2018({**ROW_2018, "title": "Red<br/> boot <NEW> <5 kg"}, 2000).product.title == "Red boot <NEW> <5 kg"
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"asin": 7}, "asin is missing or not a text"),
        ({"asin": "a\nb"}, "control characters"),
        ({"title": None}, "title is missing"),
        ({"title": "&nbsp;"}, "title is empty"),
        ({"title": "<span></span>"}, "title is empty"),
        ({"title": "x" * 100_000}, "100000 characters long"),
        ({"title": "var aPageStart = (new Date()).getTime();"}, "script"),
        ({"imageURLHighRes": {"0": "x"}}, "no http"),
        ({"imageURLHighRes": ["ftp://x"]}, "no http"),
        ({"also_buy": "B02"}, "not a list"),
        ({"also_buy": [{}]}, "not a text"),
    ],
)
def test_a_refused_product_says_why(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventFault, match=reason):
        amazon.of_2018({**ROW_2018, **changed}, 2000)


def parser(source: str = "folkscope", columns: Iterable[str] = ()) -> Parser:
    return Parser(source, SOURCES[source].renamed(columns), 2000)


def maker(*, as_is: bool = True, max_bytes: int = 1_000_000, score: float | None = None) -> Maker:
    return Maker("folkscope", as_is, 0.5, "1", score, max_bytes)


@given(spoiled(ROW_FOLKSCOPE), st.booleans())
def test_any_intention_row_is_what_the_next_stage_takes_or_refused(row: dict[str, Any], as_is: bool) -> None:
    made = maker(as_is=as_is)
    try:
        assert made.add(parser()(row), "f.csv:2") is None
    except EventFault:
        return
    message = made.take()
    assert message is not None
    if isinstance(message, JudgedIntentions):
        (intention,) = rows(Record("intentions.judged", 0, 0, b"k", message.SerializeToString())).tables["intentions"]
        assert intention[-1] == "folkscope"
    else:
        checked(message.featured)
        assert [one.source for one in message.candidates] == ["folkscope"]


def test_an_intention_keeps_its_products_in_order_and_its_words() -> None:
    ready = parser()(ROW_FOLKSCOPE)
    assert (ready.cobuy.product_a, ready.cobuy.product_b, ready.cobuy.pair_id) == ("B01", "B02", "B01|B02")
    assert (ready.title_a, ready.title_b) == ("A tripod", "A lens")
    assert (ready.intention.relation, ready.intention.text, ready.score) == ("UsedFor", "birds", 0.8)
    assert parser()(ROW_FOLKSCOPE).intention == ready.intention


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"item_a_id": ""}, "item_a_id is missing"),
        ({"item_b_id": "B02"}, "paired with itself"),
        ({"item_a_name": ""}, "no title of product 'B02'"),
        ({"item_a_name": "x" * 100_000}, "100000 characters"),
        ({"relation": "likes"}, "unknown relation 'likes'"),
        ({"relation": 4}, "relation is not a text"),
        ({"relation": "all", "assertion": "They go well."}, "begins like none"),
        ({"assertion": "because they are both used for ."}, "says nothing"),
        ({"assertion": "x" * 100_000}, "100000 characters"),
        ({"assertion": "a\0b"}, "control characters"),
        ({"typicality": "high"}, "not a number from 0 to 1"),
        ({"typicality": "nan"}, "not a number from 0 to 1"),
        ({"typicality": 1.5}, "not a number from 0 to 1"),
        ({"typicality": ""}, "neither a score nor a verdict"),
        ({"verdict": "perhaps"}, "neither yes nor no"),
    ],
)
def test_a_refused_intention_says_why(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventFault, match=reason):
        maker().add(parser()({**ROW_FOLKSCOPE, **changed}), "f.csv:2")


@pytest.mark.parametrize(
    ("theirs", "said", "relation", "read"),
    [
        ("usedFor", "because they are both used for birds", "UsedFor", "they are both used for birds"),
        ("all", "because the person wants to go", "MotivatedByGoal", "the customer is motivated by the goal to go"),
        ("all", "because the person wants his PC to last", "Cause", "the customer wants to cause his PC to last"),
        ("", "because they could both be worn", "CapableOf", "they are both capable of being worn"),
        ("propertOf", "because they both have a property of being new", "HasProperty", None),
        ("effect", "as a result, the person will fish", "Result", "as a result, the customer will fish"),
        ("open", "because he liked them", "Open", "the customer bought them because he liked them"),
        ("other", "because he liked them", "Open", None),
        ("UsedFor", "photographing birds", "UsedFor", "they are both used for photographing birds"),
        ("Cause", "less noise", "Cause", "the customer wants to cause less noise"),
    ],
)
def test_their_relation_is_ours(theirs: str, said: str, relation: str, read: str | None) -> None:
    for begin in ("", ASSERTION):
        found, text = ours(theirs, begin + said)
        assert found == relation
        assert read in (None, sentence(found, text))


def test_every_relation_of_the_table_is_one_of_ours() -> None:
    assert {one.ours for one in TABLE} <= BY_NAME.keys()
    for one in TABLE:
        assert ours(one.name, f"{one.phrase} x")[0] == ours("all", f"{ASSERTION}{one.phrase} x")[0] == one.ours


OPENING = "The potential co-buy intention could be "


@pytest.mark.parametrize(
    ("theirs", "said", "relation", "read"),
    [
        ("usedFor", "they are both used for birds", "UsedFor", "they are both used for birds"),
        ("can", "that they both can be worn", "CapableOf", "they are both capable of being worn"),
        ("effect", "they both have an effect of rest", "Result", "as a result, the customer gets an effect of rest"),
        ("causeDesire", "the person wants his dog to eat", "Cause", "the customer wants to cause his dog to eat"),
        ("other", "they both are warm", "HasProperty", "they both have the property of being warm"),
        ("open", "to keep warm", "Open", "the customer bought them to keep warm"),
        ("open", "that he is cold", "Open", "the customer bought them because he is cold"),
        ("isA", "a cup", "IsA", "they are both a kind of a cup"),
    ],
)
def test_an_intention_of_mind_loses_its_opening(theirs: str, said: str, relation: str, read: str) -> None:
    for opening in (OPENING, "The potential intention for these two products is: "):
        found, text = ours(theirs, opening + said)
        assert (found, sentence(found, text)) == (relation, read)


def test_rows_of_mind_and_their_verdicts() -> None:
    row = {"id_a": "a", "id_b": "b", "Product_a": "A", "Product_b": "B", "Relation": "isA", "tail": "not read"}
    made = maker(score=0.9)  # Of rows that say neither.
    for verdict in ("Yes, they go together.", '"No", they do not.'):
        made.add(parser("mind")({**row, "Intention": f"{OPENING}a cup, {verdict}", "Agreement": verdict}), "m:1")
    judged = made.take()
    assert isinstance(judged, JudgedIntentions)
    assert [(one.score, one.verdict == VERDICT_ACCEPTED) for one in judged.judged] == [(1.0, True), (0.0, False)]
    with pytest.raises(EventFault, match="Agreement 'Normally' is neither yes nor no"):
        parser("mind")({**row, "Intention": "a cup", "Agreement": "Normally"})


def test_a_column_of_another_name() -> None:
    assert parser("folkscope", ["text=said"])({**ROW_FOLKSCOPE, "said": "birds"}).intention.text == "birds"
    for nonsense, reason in (("nonsense=x", "one of product_a"), ("text", "OURS=THEIRS")):
        with pytest.raises(InputError, match=reason):
            SOURCES["mind"].renamed([nonsense])


def test_rows_of_one_pair_are_one_message_of_bounded_size() -> None:
    made = maker(as_is=False, max_bytes=4000)
    found: list[Any] = []
    for number in range(40):
        row = {**ROW_FOLKSCOPE, "assertion": f"reason {number} {'x' * 200}"}
        found.append(made.add(parser()(row), f"f:{number}"))
        assert made.add(parser()(row), f"f:{number}") is None
    other = {**ROW_FOLKSCOPE, "item_b_id": "B09"}
    messages = [one for one in [*found, made.add(parser()(other), "f:40"), made.take()] if one]
    assert all(isinstance(one, CandidateIntentions) and len(one.SerializeToString()) <= 4000 for one in messages)
    texts = [one.text for message in messages for one in message.candidates]
    assert len(texts) == len(set(texts)) == 41
    assert len(messages) < 20
    with pytest.raises(EventFault, match="at most 2000"):
        maker(max_bytes=2000).add(parser()({**ROW_FOLKSCOPE, "assertion": "x" * 1900}), "f:41")
