"""Good events of every topic, numbered: what stands between the poison ones, and what comes of it."""

from __future__ import annotations

from itertools import combinations

from google.protobuf.message import Message
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.feedback_pb2 import THUMB_UP, IntentionFeedback
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    CandidateIntentions,
    Intention,
    JudgedIntention,
    JudgedIntentions,
)
from mindstream.events.v1.product_pb2 import Product
from mindstream.events.v1.purchase_pb2 import Purchase

from services.common import topics
from services.common.topics import Topic

#: When orders are placed, seconds since the epoch.
AT = 1_700_000_000
#: Products that good co-buys are made of: few, so that each is described once, and more pairs than there are cases.
_PRODUCTS = [f"shelf{number}" for number in range(14)]
_PAIRS = list(combinations(_PRODUCTS, 2))


def shelf() -> list[Product]:
    """The products that good co-buys name."""
    return [Product(product_id=name, title=f"Cup of {name}") for name in _PRODUCTS]


def purchase(number: int) -> Purchase:
    """An order of two products that no other buys."""
    made = Purchase(order_id=f"order{number}")
    made.occurred_at.FromSeconds(AT)
    made.items.add(product_id=f"a{number}")
    made.items.add(product_id=f"b{number}")
    return made


def product(number: int) -> Product:
    """A product of its own."""
    return Product(product_id=f"product{number}", title=f"Cup {number}")


def cobuy(number: int) -> CoBuy:
    """A pair from the shelf; two numbers never name the same."""
    a, b = sorted(_PAIRS[number])
    return CoBuy(pair_id=f"{a}|{b}", product_a=a, product_b=b, support=2)


def featured(number: int) -> FeaturedCoBuy:
    """A pair with features."""
    made = FeaturedCoBuy(pipeline_version="1")
    a, b = f"a{number}", f"b{number}"
    made.cobuy.CopyFrom(CoBuy(pair_id=f"{a}|{b}", product_a=a, product_b=b, support=2))
    for features, name in ((made.product_a, a), (made.product_b, b)):
        features.product_id, features.title, features.content_digest = name, f"Cup {name}", f"sha256:{name}"
    return made


def candidates(number: int) -> CandidateIntentions:
    """A pair with one candidate."""
    made = CandidateIntentions(featured=featured(number))
    made.candidates.append(Intention(intention_id=f"i{number}", relation="UsedFor", text="drinking tea"))
    return made


def judged(number: int) -> JudgedIntentions:
    """A pair with one judged intention."""
    made = JudgedIntentions(featured=featured(number), threshold=0.5)
    one = Intention(intention_id=f"i{number}", relation="UsedFor", text="drinking tea")
    made.judged.append(JudgedIntention(intention=one, score=0.75, verdict=VERDICT_ACCEPTED))
    return made


def feedback(number: int) -> IntentionFeedback:
    """What a person says of a pair's intention, which nobody has generated yet."""
    made = IntentionFeedback(feedback_id=f"f{number}", pair_id=f"a{number}|b{number}", intention_id=f"i{number}")
    made.who, made.verdict, made.reason = f"{number:064x}", THUMB_UP, "tea needs a cup"
    made.given_at.FromSeconds(AT)
    return made


_MAKE = {
    topics.PURCHASES.base: purchase,
    topics.PRODUCTS.base: product,
    topics.COBUYS.base: cobuy,
    topics.FEATURED.base: featured,
    topics.CANDIDATES.base: candidates,
    topics.JUDGED.base: judged,
    topics.AGAIN.base: candidates,
    topics.REJUDGED.base: judged,
    topics.FEEDBACK.base: feedback,
}


def event(topic: Topic, number: int) -> Message:
    """The good event of a topic with a number."""
    return _MAKE[topic.base](number)


def made_of(topic: Topic, number: int) -> str:
    """What comes of it: a pair, or the product itself."""
    return (
        f"product{number}"
        if topic is topics.PRODUCTS
        else (cobuy(number).pair_id if topic is topics.COBUYS else f"a{number}|b{number}")
    )
