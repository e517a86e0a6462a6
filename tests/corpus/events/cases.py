"""Poison events, made here: what each is, and the reason that its dead letter gives, or why it is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.feedback_pb2 import IntentionFeedback
from mindstream.events.v1.intention_pb2 import CandidateIntentions, Intention, JudgedIntentions
from mindstream.events.v1.product_pb2 import Image, Product
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common import topics
from services.common.topics import Topic
from tests.corpus.events import neighbours

#: Largest event while the corpus runs, bytes.
LIMIT = 65_536
JSON, XML = "application/json", "text/xml"
#: A field that no version of ours has.
_UNKNOWN = bytes.fromhex("fa3e03") + b"new"

Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Case:
    """An event, and what becomes of it."""

    topic: Topic
    name: str
    value: bytes | None
    #: The dead letter's reason; "taken: …" where there is none, with why.
    expected: str
    headers: list[Header] = field(default_factory=list)
    #: None leaves it null; by default the name.
    key: bytes | None = b""


def cases() -> Iterator[Case]:
    """All of them, by topic; the same names come in several."""
    for topic in (
        topics.PURCHASES,
        topics.PRODUCTS,
        topics.COBUYS,
        topics.FEATURED,
        topics.CANDIDATES,
        topics.JUDGED,
        topics.AGAIN,
        topics.REJUDGED,
        topics.FEEDBACK,
    ):
        yield from _of_any(topic)
        yield from (_of_json(topic) if topic.json_allowed else _of_json_where_it_is_not_taken(topic))
    yield from _purchases()
    yield from _products()
    yield from _cobuys()
    yield from _featured()
    for topic in (topics.CANDIDATES, topics.AGAIN):
        yield from _candidates(topic)
    for topic in (topics.JUDGED, topics.REJUDGED):
        yield from _judged(topic)
    yield from _feedback()


def _kind(of: str) -> list[Header]:
    return [("content-type", of.encode())]


def _of_any(topic: Topic) -> Iterator[Case]:
    good = neighbours.event(topic, 0).SerializeToString()

    def case(name: str, value: bytes | None, expected: str, *headers: Header, key: bytes | None = b"") -> Case:
        return Case(topic, name, value, expected, list(headers), key)

    yield case("one byte of garbage", b"\xff", "undecodable")
    yield case("truncated protobuf", good[:-1], "undecodable")
    yield case("a varint without end", b"\x0a" + b"\xff" * 11, "undecodable")
    yield case("a length beyond the end", b"\x0a\xff\x7f", "undecodable")
    yield case("groups in groups", b"\x0b" * 5000, "undecodable")
    yield case("text/xml", good, "content_type", ("content-type", XML.encode()))
    yield case("a content type of garbage", good, "content_type", ("content-type", b"\xff\xfe\0\r\n"))
    yield case("an image's content type", good, "content_type", ("content-type", b"image/png"))
    yield case(
        "protobuf that says it is JSON", good, _json_reason(topic, "undecodable"), ("content-type", b"text/json")
    )
    yield case("random bytes, 60 KB", bytes(n * 7919 % 251 for n in range(60_000)), "undecodable")
    yield case("one byte over the limit", good + bytes(LIMIT + 1 - len(good)), "too_large")
    yield case("eight times the limit", bytes(8 * LIMIT), "too_large")
    yield case("twenty times the limit", bytes(20 * LIMIT), "too_large")
    yield case("a header of 40 KB", good, "too_large", ("traceparent", b"0" * 40_000))
    yield case("five thousand headers", good, "too_large", *[("x-header", b"v")] * 5000)
    yield case("a key of 40 KB", good, "too_large", key=b"k" * 40_000)
    if topic is not topics.PRODUCTS:  # There it is a tombstone.
        yield case("no value", None, "invalid")
        yield case("an empty value", b"", "invalid")


def _json_reason(topic: Topic, reason: str) -> str:
    return "content_type"  # text/json is no type of ours; application/json is looked at below.


def _of_json_where_it_is_not_taken(topic: Topic) -> Iterator[Case]:
    yield Case(topic, "JSON, which is not taken here", b"{}", "content_type", _kind(JSON))
    yield Case(topic, "JSON that does not say so", b'{"featured":{}}', "content_type")


def _of_json(topic: Topic) -> Iterator[Case]:
    first, good = topic.message.DESCRIPTOR.fields[0].name, neighbours.event(topic, 0)
    whole = json.dumps({first: "x"})

    def case(name: str, value: str | bytes, expected: str = "undecodable", kind: str = JSON) -> Case:
        raw = value if isinstance(value, bytes) else value.encode()
        return Case(topic, f"JSON, {name}", raw, expected, _kind(kind) if kind else [])

    yield case("protobuf in truth", good.SerializeToString())
    yield case("said to be protobuf", whole, kind="application/x-protobuf")
    yield case("truncated", whole[:-1])
    yield case("followed by garbage", whole + "}")
    yield case("two objects", whole + whole)
    yield case("a list", "[]")
    yield case("null", "null")
    yield case("a number", "5")
    yield case("a string", '"x"')
    yield case("an unknown field", '{"nonsense": 1}')
    yield case("a duplicate key", f'{{"{first}": "x", "{first}": "y"}}')
    yield case("a number for text", f'{{"{first}": 5}}')
    yield case("a list for text", f'{{"{first}": ["x"]}}')
    yield case("NaN", f'{{"{first}": NaN}}')
    yield case("nested 5,000 deep", f'{{"{first}": ' + "[" * 5000 + "]" * 5000 + "}")
    yield case("nested 5,000 deep, not closed", '{"a":' * 5000)
    yield case("a number of 5,000 digits", f'{{"{first}": ' + "9" * 5000 + "}")
    yield case("invalid UTF-8", b'{"' + first.encode() + b'": "\xff\xfe"}')
    yield case("a lone surrogate", f'{{"{first}": "\\ud800"}}')
    yield case("a lone surrogate as a key", '{"\\udfff": 1}')
    yield case("NUL between", f'{{"{first}": \0"x"}}')
    yield case("NUL inside", b'{"' + first.encode() + b'": "a\0b"}')
    yield case("a comment", f'{{"{first}": "x" /* */}}')
    yield case("single quotes", f"{{'{first}': 'x'}}")
    yield case("UTF-16", whole.encode("utf-16"))


def _changed(make: Callable[[int], Any], change: Callable[[Any], object]) -> bytes:
    event: Message = make(0)
    change(event)
    return event.SerializeToString()


def _purchases() -> Iterator[Case]:
    def case(name: str, change: Callable[[Purchase], object], expected: str = "invalid") -> Case:
        return Case(topics.PURCHASES, name, _changed(neighbours.purchase, change), expected)

    def text(name: str, value: str, expected: str = "undecodable") -> Case:
        return Case(topics.PURCHASES, f"JSON, {name}", value.encode(), expected, _kind(JSON))

    def at(seconds: int, nanos: int = 0) -> Callable[[Purchase], object]:
        return lambda one: one.occurred_at.MergeFrom(type(one.occurred_at)(seconds=seconds, nanos=nanos))

    yield case("no order id", lambda one: one.ClearField("order_id"))
    yield case("an order id of blanks", lambda one: setattr(one, "order_id", " \t "))
    yield case("an order id of 513 bytes", lambda one: setattr(one, "order_id", "x" * 513))
    yield case("an order id of 516 bytes, 172 characters", lambda one: setattr(one, "order_id", "杯" * 172))
    yield case("NUL in the order id", lambda one: setattr(one, "order_id", "a\0b"))
    yield case("ESC in the order id", lambda one: setattr(one, "order_id", "\x1b[2J"))
    yield case("a customer id of 600 bytes", lambda one: setattr(one, "customer_id", "c" * 600))
    yield case("a newline in the customer id", lambda one: setattr(one, "customer_id", "a\nb"))
    yield case("no time", lambda one: one.ClearField("occurred_at"))
    yield case("a time of 0", at(-neighbours.AT))
    yield case("a negative time", at(-(2**40)))
    yield case("a time in milliseconds", at(neighbours.AT * 1000))
    yield case("the latest time that fits", at(2**63 - 1 - neighbours.AT))
    yield case("negative nanoseconds", at(0, -(2**31)))
    yield case("two seconds of nanoseconds", at(0, 2**31 - 1))
    yield case("no items", lambda one: one.ClearField("items"))
    yield case("an item without a product", lambda one: one.items.add())
    yield case("a product id of 600 bytes", lambda one: one.items.add(product_id="p" * 600))
    yield case("a control character in a product id", lambda one: one.items.add(product_id="\x85"))
    yield case("10,001 items", lambda one: [one.items.add(product_id="p") for _ in range(9999)])
    yield case("an id as long as a brace's code says", lambda one: setattr(one, "order_id", "x" * ord("{")),
               "taken: protobuf, though it looks like JSON")  # fmt: skip
    yield case("the same product twice", lambda one: one.items.add(product_id="a0"), "taken: it pairs with no copy")
    yield case(
        "4 billion of one", lambda one: one.items.add(product_id="a0", quantity=2**32 - 1), "taken: units do not count"
    )
    yield case(
        "a field of a newer version", lambda one: one.MergeFromString(_UNKNOWN), "taken: unknown fields are let go"
    )
    yield Case(topics.PURCHASES, "a product in its place", neighbours.product(0).SerializeToString(), "invalid")
    yield text("a negative quantity", '{"order_id":"o","items":[{"product_id":"a","quantity":-1}]}')
    yield text("half a unit", '{"order_id":"o","items":[{"product_id":"a","quantity":0.5}]}')
    yield text("an infinite quantity", '{"order_id":"o","items":[{"product_id":"a","quantity":1e400}]}')
    yield text("a quantity of 2^32", '{"order_id":"o","items":[{"product_id":"a","quantity":4294967296}]}')
    yield text("null among the items", '{"order_id":"o","items":[null]}')
    yield text("an object for the items", '{"order_id":"o","items":{"product_id":"a"}}')
    yield text("a number for the time", '{"order_id":"o","occurred_at":1700000000}')
    yield text("February 30th", '{"order_id":"o","occurred_at":"2023-02-30T00:00:00Z"}')
    yield text("a time without a zone", '{"order_id":"o","occurred_at":"2023-02-20T00:00:00"}')
    yield text("the year 0", '{"order_id":"o","occurred_at":"0000-01-01T00:00:00Z"}')
    yield text("one field under both its names", '{"order_id":"a","orderId":"b"}', "invalid")
    yield text("a byte-order mark", '\ufeff{"order_id":"o"}')
    whole = '{"order_id":"j1","occurred_at":"2023-11-14T22:13:20Z","items":[{"product_id":"a"}]}'
    yield text("filled with blanks to the limit", whole + " " * (LIMIT - len(whole)), "taken: just as large as allowed")
    good = neighbours.purchase(0).SerializeToString()
    for name, headers in (
        (
            "the runtime's headers, forged",
            [("mindstream-origin", b"x/0/9" + b"9" * 40), ("mindstream-not-before", b"9")],
        ),
        ("an origin in another topic", [("mindstream-origin", b"elsewhere.purchases/0/5")]),
        ("a version of CloudEvents to come", [("ce_specversion", b"9.9"), ("ce_type", b"\xff"), ("ce_id", b"\0")]),
        ("headers without values", [("content-type", None), ("traceparent", None), ("", None)]),
        ("a trace context of garbage", [("traceparent", b"\xff\xfe\0")]),
    ):
        yield Case(topics.PURCHASES, name, good, "taken: such a header is not heeded", headers)  # type: ignore[arg-type]
    for name, key in (("another order's key", b"other"), ("a key that is no UTF-8", b"\xff\xfe"), ("a null key", None)):
        yield Case(topics.PURCHASES, name, good, "taken: the value's id counts", key=key)


def _products() -> Iterator[Case]:
    def case(name: str, change: Callable[[Product], object], expected: str = "invalid") -> Case:
        return Case(topics.PRODUCTS, name, _changed(neighbours.product, change), expected)

    def pictured(name: str, image: Image) -> Case:
        return case(name, lambda one: one.image.CopyFrom(image), "image")

    def text(name: str, value: str, expected: str = "undecodable") -> Case:
        return Case(topics.PRODUCTS, f"JSON, {name}", value.encode(), expected, _kind(JSON))

    yield case("no product id", lambda one: one.ClearField("product_id"))
    yield case("a product id of 513 bytes", lambda one: setattr(one, "product_id", "p" * 513))
    yield case("BEL in the product id", lambda one: setattr(one, "product_id", "p\x07"))
    yield case("no title", lambda one: one.ClearField("title"))
    yield case("a title of blanks", lambda one: setattr(one, "title", " \n\u3000"))
    yield case("a title of blanks in HTML", lambda one: setattr(one, "title", "&nbsp;&#32;"))
    yield case("a title of 2,001 characters", lambda one: setattr(one, "title", "t" * 2001))
    yield case(
        "an HTML number of 5,000 digits in the title", lambda one: setattr(one, "title", "&#" + "9" * 5000 + ";")
    )
    yield case("NUL in the title", lambda one: setattr(one, "title", "a\0b"))
    yield case("a newline in the title, in HTML", lambda one: setattr(one, "title", "a&#10;b"))
    yield pictured("a picture of garbage", Image(content=b"\x89PNG\r\n\x1a\n" + bytes(100)))
    yield pictured("an SVG for a picture", Image(content=b"<svg/>"))
    yield pictured("an empty picture", Image(content=b""))
    yield pictured("a picture inside the network", Image(url="http://169.254.169.254/latest/meta-data"))
    yield pictured("a picture in a file", Image(url="file:///etc/passwd"))
    yield pictured("an empty URL", Image(url=""))
    yield pictured("a URL of 50 KB", Image(url="http://shop.example/" + "x" * 50_000))
    yield pictured("a picture that nobody has", Image(digest="sha256:" + "0" * 64))
    yield pictured("a digest that climbs out", Image(digest="sha256:../../../../etc/passwd"))
    yield pictured("an empty digest", Image(digest=""))
    yield text("a picture that is not base64", '{"product_id":"p","title":"t","image":{"content":"!!!"}}', "image")
    yield text("a picture that is a number", '{"product_id":"p","title":"t","image":{"content":5}}')
    yield text("two sources of one picture", '{"product_id":"p","title":"t","image":{"url":"u","digest":"d"}}')
    yield text("an attribute that is null", '{"product_id":"p","title":"t","attributes":{"a":null}}')
    yield text("a list of attributes", '{"product_id":"p","title":"t","attributes":["a"]}')
    for name, value in (("a tombstone", None), ("an empty value", b"")):
        # With a null key the broker itself refuses them: the topic is compacted.
        yield Case(topics.PRODUCTS, f"{name} whose key is no UTF-8", value, "invalid", key=b"\xff")
        yield Case(topics.PRODUCTS, f"{name} whose key is long", value, "invalid", key=b"k" * 600)
    yield Case(topics.PRODUCTS, "a tombstone of nobody", None, "taken: whoever comes later is not it", key=b"nobody")
    yield Case(
        topics.PRODUCTS, "another product's key", Product(product_id="p1", title="t").SerializeToString(),
        "taken: the value's id counts", key=b"p2",
    )  # fmt: skip
    yield case(
        "a title written right to left", lambda one: setattr(one, "title", "\u202ecup\u200b\ufeff"), "taken: it is text"
    )
    yield case("1,000 attributes", lambda one: one.attributes.update({f"a{n}": "v" for n in range(1000)}),
               "taken: the model does not see them")  # fmt: skip


def _cobuys() -> Iterator[Case]:
    def case(name: str, expected: str = "invalid", /, **fields: Any) -> Case:
        made = CoBuy(**{"product_a": "shelf0", "product_b": "shelf1", **fields})
        return Case(topics.COBUYS, name, made.SerializeToString(), expected)

    yield case("a self pair", product_b="shelf0")
    yield case("no first product", product_a="")
    yield case("no second product", product_b="")
    yield case("a product id of 600 bytes", product_a="p" * 600)
    yield case("a control character in a product id", product_a="p\x1b")
    yield case("a support of 2^63", support=2**63)
    yield case("a support of 2^64 - 1", support=2**64 - 1)
    yield case("the year 60000", first_seen={"seconds": 10**15})
    yield case("before the year 1", last_seen={"seconds": -(10**15)})
    yield case("negative nanoseconds", last_seen={"seconds": neighbours.AT, "nanos": -1})
    yield case("a product that nobody has", "unknown_product", product_b="nowhere")
    yield case("two products that nobody has", "unknown_product", product_a="nothing", product_b="nowhere")
    yield case("a support of 0", "taken: not said", pair_id="x", product_a="shelf12", product_b="shelf13")
    yield case("a pair id of others", "taken: it is made anew", pair_id="x|y", product_a="shelf11", product_b="shelf13")
    yield case("products in the wrong order", "taken: put in order", product_a="shelf12", product_b="shelf11")
    yield case("a pair that was there", "taken: a duplicate", product_a="shelf13", product_b="shelf11")
    for name, value in (("a negative support", "-1"), ("a support of 2^64", str(2**64)), ("a support of 1.5", "1.5")):
        said = f'{{"product_a":"shelf0","product_b":"shelf1","support":{value}}}'.encode()
        yield Case(topics.COBUYS, f"JSON, {name}", said, "undecodable", _kind(JSON))


def _featured() -> Iterator[Case]:
    def case(name: str, change: Callable[[FeaturedCoBuy], object], expected: str = "invalid") -> Case:
        return Case(topics.FEATURED, name, _changed(neighbours.featured, change), expected)

    yield case("no co-buy", lambda one: one.ClearField("cobuy"))
    yield case("no pair id", lambda one: one.cobuy.ClearField("pair_id"))
    yield case("no second product", lambda one: one.ClearField("product_b"))
    yield case("no title", lambda one: one.product_a.ClearField("title"), "model_refused")
    yield case("a title of blanks", lambda one: setattr(one.product_a, "title", " \n"), "model_refused")
    yield case("a title of 60 KB", lambda one: setattr(one.product_a, "title", "t " * 30_000), "model_refused")
    yield case("a description of 40 KB", lambda one: setattr(one.product_b, "description", "d " * 20_000),
               "model_refused")  # fmt: skip
    yield case("10,000 features", lambda one: one.product_a.features.extend(["f"] * 10_000), "model_refused")
    yield case("a picture that nobody has", _pictured("sha256:" + "0" * 64), "image")
    yield case("a digest that climbs out", _pictured("sha256:../../etc/passwd"), "image")
    yield case("a digest of garbage", _pictured("\x1b nonsense"), "image")
    yield case("a field of a newer version", lambda one: one.MergeFromString(_UNKNOWN), "taken: unknown fields pass")
    yield case("NUL in a title", lambda one: setattr(one.product_a, "title", "a\0b"), "taken: the sink refuses it")
    yield case("another pipeline version", lambda one: setattr(one, "pipeline_version", "99"), "taken: it is carried")


def _pictured(digest: str) -> Callable[[FeaturedCoBuy], object]:
    def change(one: FeaturedCoBuy) -> None:
        one.product_a.image_digest = one.product_b.image_digest = digest

    return change


def _emptied(one: CandidateIntentions) -> None:
    one.Clear()
    one.featured.cobuy.SetInParent()


def _candidates(topic: Topic) -> Iterator[Case]:
    def case(name: str, change: Callable[[CandidateIntentions], object], expected: str = "invalid") -> Case:
        return Case(topic, name, _changed(neighbours.candidates, change), expected)

    def more(*intentions: Intention) -> Callable[[CandidateIntentions], object]:
        return lambda one: one.candidates.extend(intentions)

    yield case("no co-buy", lambda one: one.featured.ClearField("cobuy"))
    yield case("no features", lambda one: one.ClearField("featured"))
    yield case("no pair id, and nothing to judge", _emptied)
    yield case("no title", lambda one: one.featured.product_a.ClearField("title"), "model_refused")
    yield case("an unknown relation", more(Intention(intention_id="x", relation="Fancies", text="t")), "model_refused")
    yield case("no relation", more(Intention(intention_id="x", text="t")), "model_refused")
    yield case("a text of blanks", more(Intention(intention_id="x", relation="IsA", text=" ")), "model_refused")
    yield case("a text of 60 KB", more(Intention(intention_id="x", relation="IsA", text="t " * 30_000)),
               "model_refused")  # fmt: skip
    yield case("a picture that nobody has", lambda one: _pictured("sha256:" + "0" * 64)(one.featured), "image")
    yield case("no candidates", lambda one: one.ClearField("candidates"), "taken: there is nothing to judge")
    yield case("the same candidate twice", more(Intention(intention_id="i0", relation="UsedFor", text="drinking tea")),
               "taken: the KB holds it once")  # fmt: skip
    yield case("NUL in a text", more(Intention(intention_id="x", relation="IsA", text="a\0b")),
               "taken: the sink refuses it")  # fmt: skip


def _long_together(one: JudgedIntentions) -> None:
    one.featured.cobuy.pair_id, one.featured.cobuy.product_a = "p" * 1500, "a" * 1500


def _judged(topic: Topic) -> Iterator[Case]:
    def case(name: str, change: Callable[[JudgedIntentions], object], expected: str = "invalid") -> Case:
        return Case(topic, name, _changed(neighbours.judged, change), expected)

    def intention(name: str, expected: str = "invalid", /, **fields: Any) -> Case:
        return case(name, lambda one: one.judged[0].intention.MergeFrom(Intention(**fields)), expected)

    def score(name: str, value: float) -> Case:
        return case(name, lambda one: setattr(one.judged[0], "score", value))

    yield case("no co-buy", lambda one: one.featured.ClearField("cobuy"))
    yield case("no features", lambda one: one.featured.ClearField("product_a"))
    yield case("a pair id of 3 KB", lambda one: setattr(one.featured.cobuy, "pair_id", "p" * 3000))
    yield case("a pair id and a product id of 3 KB together", _long_together)
    yield case("a product id of 3 KB", lambda one: setattr(one.featured.product_a, "product_id", "p" * 3000))
    yield case("NUL in a product's title", lambda one: setattr(one.featured.product_a, "title", "a\0b"))
    yield case("NUL in a model's version", lambda one: setattr(one.judged_by, "model_version", "a\0b"))
    yield case("NUL among the features", lambda one: one.featured.product_a.features.append("a\0b"))
    yield case("a support of 2^63", lambda one: setattr(one.featured.cobuy, "support", 2**63))
    yield case("the year 60000", lambda one: setattr(one.judged_at, "seconds", 10**15))
    yield case("negative nanoseconds", lambda one: setattr(one.featured.cobuy.last_seen, "nanos", -1))
    yield intention("an unknown relation", relation="Fancies")
    yield intention("an intention id of 3 KB", intention_id="i" * 3000)
    yield intention("NUL in the text", text="a\0b")
    yield intention("a sample of 2^31", sample=2**31)
    yield intention("2^32 - 1 tokens", tokens=2**32 - 1)
    yield case("no intention id", lambda one: one.judged[0].intention.ClearField("intention_id"))
    yield case("an empty judgement", lambda one: one.judged.add())
    yield score("a score that is NaN", float("nan"))
    yield score("an infinite score", float("inf"))
    yield score("a negative score", -0.25)
    yield score("a score above 1", 1.5)
    yield case("a threshold that is NaN", lambda one: setattr(one, "threshold", float("nan")))
    yield case("a verdict to come", lambda one: setattr(one.judged[0], "verdict", 99), "taken: it is not accepted")
    yield case("the same intention twice", lambda one: one.judged.append(one.judged[0]), "taken: the KB holds it once")
    yield case(
        "a field of a newer version", lambda one: one.MergeFromString(_UNKNOWN), "taken: unknown fields are let go"
    )
    yield intention("a text of 50 KB", "taken: it is text", text="t" * 50_000)


def _feedback() -> Iterator[Case]:
    def case(name: str, change: Callable[[IntentionFeedback], object], expected: str = "invalid") -> Case:
        return Case(topics.FEEDBACK, name, _changed(neighbours.feedback, change), expected)

    for name in ("feedback_id", "pair_id", "intention_id", "who", "verdict", "given_at"):
        yield case(f"no {name}", lambda one, name=name: one.ClearField(name))  # type: ignore[misc]
    yield case("a name in the place of its hash", lambda one: setattr(one, "who", "anna@shop.example"))
    yield case("a hash in capitals", lambda one: setattr(one, "who", "A" * 64))
    yield case("a hash and a newline", lambda one: setattr(one, "who", "0" * 64 + "\n"))
    yield case("a verdict to come", lambda one: setattr(one, "verdict", 99))
    yield case("a reason of 501 characters", lambda one: setattr(one, "reason", "x" * 501))
    yield case("NUL in the reason", lambda one: setattr(one, "reason", "a\0b"))
    yield case("NUL in the intention's id", lambda one: setattr(one, "intention_id", "a\0b"))
    yield case("a control character in the feedback's id", lambda one: setattr(one, "feedback_id", "a\x1bb"))
    yield case("a feedback id of 513 bytes", lambda one: setattr(one, "feedback_id", "f" * 513))
    yield case("a pair id of 3 KB", lambda one: setattr(one, "pair_id", "p" * 3000))
    yield case("the year 60000", lambda one: setattr(one.given_at, "seconds", 10**15))
    yield case("negative nanoseconds", lambda one: setattr(one.given_at, "nanos", -1))
    yield case("a key as long as it may be", lambda one: setattr(one, "pair_id", "p" * 2598), "taken: it fits")
    yield case("a reason of 500 emoji", lambda one: setattr(one, "reason", "🛒" * 500), "taken: it is text")
    yield case("a time before 1970", lambda one: setattr(one.given_at, "seconds", -1), "taken: it is a time")
    yield case("of one who said otherwise", lambda one: setattr(one, "verdict", 2), "taken: the last counts")
    yield case(
        "a field of a newer version", lambda one: one.MergeFromString(_UNKNOWN), "taken: unknown fields are let go"
    )
