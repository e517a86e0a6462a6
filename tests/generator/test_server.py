"""Candidates of a pair, relation by relation."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import intention_generator_pb2 as pb
from mindstream.inference.v1.intention_generator_pb2_grpc import IntentionGeneratorStub

from services.common.relations import RELATIONS
from tests.lvlm.fixtures import Served, png


def _pair(served: Served, a: str, b: str) -> pb.ProductPair:
    views = [
        common_pb2.ProductView(title=title, image=common_pb2.ImageRef(digest=served.media.put(png(color))))
        for title, color in ((a, "red"), (b, "blue"))
    ]
    return pb.ProductPair(pair_id=f"{a}-{b}", product_a=views[0], product_b=views[1])


async def test_a_pair_beside_others_gets_what_it_gets_alone(served: Served) -> None:
    stub = IntentionGeneratorStub(served.channel)
    pairs = [_pair(served, "cup", "saucer"), _pair(served, "tent", "a lamp with a longer name")]
    alone = await stub.Generate(pb.GenerateRequest(pairs=pairs[:1]))
    assert [c.relation for c in alone.pairs[0].candidates] == [relation.name for relation in RELATIONS]
    together, beside, other = await asyncio.gather(
        stub.Generate(pb.GenerateRequest(pairs=pairs)),
        stub.Generate(pb.GenerateRequest(pairs=pairs[:1], isolate=True)),
        stub.Generate(pb.GenerateRequest(pairs=pairs[1:])),
    )
    assert alone.pairs[0] == together.pairs[0] == beside.pairs[0]
    assert other.pairs[0] == together.pairs[1] != together.pairs[0]
    assert all(c.text.isprintable() and c.text == " ".join(c.text.split()) for c in alone.pairs[0].candidates)


async def test_samples_follow_the_seed(served: Served) -> None:
    stub = IntentionGeneratorStub(served.channel)

    async def ask(seed: int) -> list[pb.Candidate]:
        request = pb.GenerateRequest(
            pairs=[_pair(served, "cup", "saucer")], relations=["IsA", "HasA"], samples=3, seed=seed
        )
        return list((await stub.Generate(request)).pairs[0].candidates)

    first = await ask(1)
    assert [(c.relation, c.sample) for c in first] == [(r, s) for r in ("IsA", "HasA") for s in range(3)]
    assert first == await ask(1)
    other = await ask(2)
    assert first != other
    assert first[0] == other[0]


async def test_an_unknown_relation_is_refused(served: Served) -> None:
    request = pb.GenerateRequest(pairs=[_pair(served, "cup", "saucer")], relations=["Likes"])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await IntentionGeneratorStub(served.channel).Generate(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
