"""Products and co-buys through the real store and the real model server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.message import Message
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.product_pb2 import Image, Product

from services.common import topics
from services.common.errors import EventFault, Parked, WorldFault
from services.common.records import Headers, Record
from services.common.runtime.stage import Result
from services.common.settings import Settings
from services.extractor.handler import Extractor
from tests.lvlm.fixtures import Served, png

pytestmark = pytest.mark.integration
_JSON: Headers = [("content-type", b"application/json")]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Extractor]:
    extractor = Extractor(settings)
    stage = extractor.stage()
    assert stage.start is not None
    assert stage.stop is not None
    await stage.start()
    try:
        yield extractor
    finally:
        await stage.stop()


Make = Callable[..., Settings]


@pytest.fixture
def make(served: Served, postgres: str, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    def make(**overrides: object) -> Settings:
        fields: dict[str, object] = {
            "postgres_dsn": postgres,
            "extractor_target": served.target,
            "media_url": f"file://{tmp_path}/media",
            # Each test sees its own pairs only.
            "pipeline_version": str(request.node.name),
            **overrides,
        }
        return Settings(**fields)  # type: ignore[arg-type]

    return make


def record(event: Message | bytes, offset: int = 0, headers: Headers | None = None, topic: str = "cobuys") -> Record:
    value = event if isinstance(event, bytes) else event.SerializeToString()
    return Record(topic, 0, offset, b"k", value, headers or [])


def product(product_id: str, title: str = "A cup", offset: int = 0, image: Image | None = None) -> Record:
    return record(Product(product_id=product_id, title=title, image=image), offset, topic="products")


def featured(result: Result) -> FeaturedCoBuy:
    (value,) = [o.value for o in result.outputs if o.topic == topics.FEATURED.base]
    return FeaturedCoBuy.FromString(value)


async def test_a_co_buy_carries_both_products_features(make: Make) -> None:
    async with running(make()) as extractor:
        await extractor.product(product("f1", image=Image(content=png("red"))))
        with pytest.raises(Parked, match="no product 'f2'"):
            await extractor.cobuy(record(CoBuy(product_a="f1", product_b="f2")))
        in_json = json.dumps({"product_id": "f2", "title": "A saucer"}).encode()
        await extractor.product(record(in_json, headers=_JSON, topic="products"))
        result = await extractor.cobuy(record(CoBuy(product_a="f2", product_b="f1", support=3), offset=7))
        made = featured(result)
        assert (made.cobuy.pair_id, made.cobuy.support, made.source.offset) == ("f1|f2", 3, 7)
        assert made.product_a.image_digest.startswith("sha256:")
        assert made.product_b.image_digest == ""  # Text only, and the record says so.
        assert made.product_a.extracted_by.prompt_version == "extractor/v1"
        assert made.product_a.extracted_by.model_version
        assert [o.topic for o in result.outputs].count(topics.FEATURES.base) == 2


async def test_the_first_offset_wins_and_the_same_again_gives_the_same(make: Make) -> None:
    async with running(make()) as extractor:
        await extractor.product(product("w1"))
        await extractor.product(product("w2", "A saucer"))
        first = await extractor.cobuy(record(CoBuy(product_a="w1", product_b="w2"), offset=1))
        resent = await extractor.cobuy(record(CoBuy(product_a="w2", product_b="w1"), offset=2))
        assert (resent.outcome, list(resent.outputs)) == ("duplicate", [])
        again = await extractor.cobuy(record(CoBuy(product_a="w1", product_b="w2"), offset=1))
        assert featured(again).product_a == featured(first).product_a
        assert [o.topic for o in again.outputs] == [o.topic for o in first.outputs]


async def test_co_buys_of_one_product_share_one_extraction(make: Make, served: Served) -> None:
    asked: list[str] = []
    answer = served.calls.answer

    async def counting(job: str, key: str, *rest: object) -> object:
        asked.append(key)
        return await answer(job, key, *rest)  # type: ignore[arg-type]

    served.calls.settings = served.calls.settings.model_copy(update={"server_queue": 64})
    served.calls.answer = counting  # type: ignore[method-assign, assignment]
    async with running(make()) as extractor:
        for number in range(5):
            await extractor.product(product(f"s{number}", f"Product {number}"))
        cobuys = [record(CoBuy(product_a="s0", product_b=f"s{n}"), offset=n) for n in range(1, 5)]
        results = await asyncio.gather(*(extractor.cobuy(one) for one in cobuys))
    assert len({featured(result).product_a.description for result in results}) == 1
    assert len(asked) == len(set(asked)) == 5


async def test_titles_are_kept_as_people_read_them(make: Make) -> None:
    async with running(make()) as extractor:
        await extractor.product(product("e1", " Boot, 6&quot; &amp; laces&nbsp;"))
        await extractor.product(product("e2"))
        made = featured(await extractor.cobuy(record(CoBuy(product_a="e1", product_b="e2"))))
    assert made.product_a.title == 'Boot, 6" & laces'


async def test_the_newest_record_of_a_product_counts(make: Make) -> None:
    async with running(make()) as extractor:
        await extractor.product(product("n1", "New title", offset=9))
        await extractor.product(product("n1", "Old title", offset=3))
        await extractor.product(product("n2"))
        result = await extractor.cobuy(record(CoBuy(product_a="n1", product_b="n2")))
        assert featured(result).product_a.title == "New title"


async def test_a_tombstone_takes_a_product_out_and_an_older_record_does_not_bring_it_back(make: Make) -> None:
    event = record(CoBuy(product_a="t1", product_b="t2"))
    async with running(make()) as extractor:
        await extractor.product(product("t1", offset=3))
        await extractor.product(product("t2"))
        await extractor.product(Record("products", 0, 5, b"t1", b""))
        await extractor.product(product("t1", offset=4))
        with pytest.raises(Parked, match="no product 't1'"):
            await extractor.cobuy(event)
        await extractor.product(product("t1", "Back again", offset=6))
        assert featured(await extractor.cobuy(event)).product_a.title == "Back again"
        for key in (None, b"\xff"):
            with pytest.raises(EventFault, match="tombstone's key"):
                await extractor.product(Record("products", 0, 7, key, b""))


async def test_features_made_for_a_dead_letter_are_published_by_the_next_co_buy(make: Make) -> None:
    async with running(make(title_max_chars=100_000)) as extractor:
        await extractor.product(product("k1", "A cup of its own"))
        await extractor.product(product("k2", "word " * 10_000))
        await extractor.product(product("k3", "A saucer of its own"))
        with pytest.raises(EventFault):
            await extractor.cobuy(record(CoBuy(product_a="k1", product_b="k2"), offset=1))
        for offset in (2, 2):  # Tried again, it publishes the same.
            result = await extractor.cobuy(record(CoBuy(product_a="k1", product_b="k3"), offset=offset))
            published = [o.key for o in result.outputs if o.topic == topics.FEATURES.base]
            assert published == [b"k1", b"k3"]


async def test_a_pair_whose_event_makes_too_much_is_the_next_ones(make: Make) -> None:
    async with running(make(event_max_bytes=1024)) as extractor:
        await extractor.product(product("l1", "cup " * 250))
        await extractor.product(product("l2"))
        with pytest.raises(EventFault, match="at most 1024") as large:
            await extractor.cobuy(record(CoBuy(product_a="l1", product_b="l2"), offset=1))
        assert large.value.reason == reasons.DEAD_LETTER_REASON_TOO_LARGE
        await extractor.product(product("l1", "A saucer", offset=2))
        # Nor is anything carried on that nobody reads.
        unknown = CoBuy(product_a="l1", product_b="l2").SerializeToString() + b"\xfa\x3e\x80\x10" + bytes(2048)
        assert featured(await extractor.cobuy(record(unknown, offset=2))).cobuy.pair_id == "l1|l2"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Product(product_id="", title="t"), "product_id is empty"),
        (Product(product_id="p" * 600, title="t"), "600 bytes"),
        (Product(product_id="杯" * 200, title="t"), "600 bytes"),
        (Product(product_id="p\x07", title="t"), "control characters"),
        (Product(product_id="p"), "title is empty"),
        (Product(product_id="p", title=" \n"), "title is empty"),
        (Product(product_id="p", title="t\x00t"), "title holds control characters"),
        (Product(product_id="p", title="t" * 100_000), "100000 characters long"),
        (Product(product_id="p", title="t", image=Image(content=b"GIF89a")), "broken picture|not a picture"),
        (Product(product_id="p", title="t", image=Image(url="http://127.0.0.1/x")), "IMAGE_ALLOWED_HOSTS"),
        (Product(product_id="p", title="t", image=Image(digest="sha256:nonsense")), "no picture"),
        (b"\xff\xff", "not a Product"),
        (b"{", "not a Product"),
    ],
)
async def test_a_bad_product_is_its_own_fault(make: Make, event: Product | bytes, line: str) -> None:
    async with running(make()) as extractor:
        with pytest.raises(EventFault, match=line):
            await extractor.product(record(event, topic="products"))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (CoBuy(product_a="a", product_b="a"), "paired with itself"),
        (CoBuy(product_a="a"), "product_b is empty"),
        (CoBuy(product_a="a\x01", product_b="b"), "control characters"),
        (b"\xff", "not a CoBuy"),
    ],
)
async def test_a_bad_co_buy_is_its_own_fault(make: Make, event: CoBuy | bytes, line: str) -> None:
    async with running(make()) as extractor:
        with pytest.raises(EventFault, match=line):
            await extractor.cobuy(record(event))


async def test_a_model_server_or_a_database_that_is_away_is_the_worlds_fault(make: Make) -> None:
    async with running(make(extractor_target="127.0.0.1:1")) as extractor:
        await extractor.product(product("d1"))
        await extractor.product(product("d2", "A saucer"))
        with pytest.raises(WorldFault) as away:
            await extractor.cobuy(record(CoBuy(product_a="d1", product_b="d2")))
        assert away.value.kind == "model"
    with pytest.raises(WorldFault, match="PostgreSQL"):
        async with running(make(postgres_dsn="postgresql://postgres@127.0.0.1:1/none")):
            pass


async def test_a_co_buy_that_the_model_refused_passes_when_its_product_is_mended(make: Make) -> None:
    async with running(make(title_max_chars=100_000)) as extractor:
        await extractor.product(product("r1", "word " * 10_000, offset=1))
        await extractor.product(product("r2", "A saucer"))
        event = record(CoBuy(product_a="r1", product_b="r2"), offset=1)
        with pytest.raises(EventFault) as refused:
            await extractor.cobuy(event)
        assert refused.value.reason == reasons.DEAD_LETTER_REASON_MODEL_REFUSED
        await extractor.product(product("r1", "A cup", offset=2))
        assert featured(await extractor.cobuy(event)).cobuy.pair_id == "r1|r2"
